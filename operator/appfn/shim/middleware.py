"""What happens around every route: an id, a log line without payloads, metrics, and errors turned into answers."""

import logging
import random
import re
import time

from aiohttp import web
from aiohttp.typedefs import Handler

from appfn.errors import ForbiddenError, IdempotencyError, QueueFullError, TransientError
from appfn.shim import http
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.metrics import Metrics
from appfn.shim.requests import METHODS
from appfn.shim.services import BODIES, DRAIN, METRICS
from appfn.shim.siblings import from_sibling
from appfn.store.model import CursorError

REQUEST_ID = web.RequestKey("request_id", str)
"""Given by the client in X-Request-Id where it is harmless, else made here; sent back, and part of every log line."""
SLOW_SECONDS = 5.0
"""Requests that took longer are logged like failed ones."""
_HARMLESS_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_CLIENT_ERROR = 400
_TOO_MANY = 429
_SERVER_ERROR = 500
_NO_RIGHTS = "The shim has no rights in the project's namespace: apply manifests/project to it."
_MAX_LOGGED = 128
"""Characters of each part of a path in the log."""
_RETRY_SECONDS = 2
_access = logging.getLogger("appfn.shim.access")
_logger = logging.getLogger(__name__)


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Outermost: id, metrics and the access log."""
    app = request.app
    drain = app[DRAIN]
    request[REQUEST_ID] = request_id = _request_id(request)
    status, started = 0, time.perf_counter()
    drain.enter(request.task)
    try:
        response = await handler(request)
        if drain.draining:
            response.force_close()  # whoever keeps the connection is to come back to another replica
        status = response.status
        if not response.prepared:
            response.headers["X-Request-Id"] = request_id
            response.headers["X-Content-Type-Options"] = "nosniff"
        return response
    finally:
        drain.leave(request.task)
        _note(request, app[METRICS], status=status, seconds=time.perf_counter() - started)


def _request_id(request: web.Request) -> str:
    given = request.headers.get("X-Request-Id")
    if given and _HARMLESS_ID.fullmatch(given):
        return given
    return f"{random.getrandbits(128):032x}"


def _note(request: web.Request, metrics: Metrics, *, status: int, seconds: float) -> None:
    if from_sibling(request):
        return  # noted where it came in
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "unmatched"
    method = request.method if request.method in METHODS else "OTHER"  # a client may invent methods, and labels stay
    metrics.answered(method=method, route=route, status=status, seconds=seconds)
    level = _level(status, seconds)
    if not _access.isEnabledFor(level):
        return
    extra = {
        "request_id": request[REQUEST_ID],
        "method": method,
        "route": route,
        "status": status,
        "ms": round(seconds * 1000, 1),
        "remote": request.remote,
        "target": {name: value[:_MAX_LOGGED] for name, value in request.match_info.items()},
    }
    _access.log(level, "request", extra=extra)


def _level(status: int, seconds: float) -> int:
    """Return how loud a request is: what went well is counted, not told; nor is overload, which it would add to."""
    failed = status == 0 or (status >= _CLIENT_ERROR and status != _TOO_MANY)
    return logging.INFO if failed or seconds > SLOW_SECONDS else logging.DEBUG


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into an answer of Appwrite's form; give back the room that the request's body took."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return http.failure(_of_http(error))
    except Exception as error:
        answer = as_appwrite(error)
        if answer is not error and answer.problem.status == _SERVER_ERROR:
            _logger.exception("request failed", extra={"request_id": request.get(REQUEST_ID)})
        return http.failure(answer)
    finally:
        if taken := request.get(http.ROOM_TAKEN):
            request.app[BODIES].give_back(taken)


def _of_http(error: web.HTTPException) -> AppwriteError:
    match error:
        case web.HTTPNotFound() | web.HTTPMethodNotAllowed():
            return AppwriteError(Problem.ROUTE_NOT_FOUND)
        case web.HTTPRequestEntityTooLarge():
            return AppwriteError(Problem.PAYLOAD_TOO_LARGE)
        case _:
            return AppwriteError(Problem.ARGUMENT_INVALID, error.reason)


def as_appwrite(error: Exception) -> AppwriteError:
    """Return what clients are told of an error, whatever it is."""
    match error:
        case AppwriteError():
            return error
        case QueueFullError():
            message = f"{Problem.RATE_LIMIT_EXCEEDED.message} {error}"
            return AppwriteError(Problem.RATE_LIMIT_EXCEEDED, message, retry_after=_whole(error.retry_after))
        case IdempotencyError():
            return AppwriteError(Problem.IDEMPOTENCY_CONFLICT)
        case CursorError():
            return AppwriteError(Problem.CURSOR_NOT_FOUND)
        case ForbiddenError():
            return AppwriteError(Problem.SERVICE_DISABLED, _NO_RIGHTS)
        case TransientError():
            return AppwriteError(Problem.SERVICE_DISABLED, retry_after=_whole(error.retry_after or _RETRY_SECONDS))
        case _:
            return AppwriteError(Problem.SERVER_ERROR)


def _whole(seconds: float) -> int:
    return max(1, -int(-seconds // 1))
