"""What happens around every route: an id, a log line without payloads, metrics, and errors turned into answers."""

import random
import re
import time

from aiohttp import web
from aiohttp.typedefs import Handler

from appfn.shim import access_log, http
from appfn.shim.errors import AppwriteError, Problem, error_of
from appfn.shim.metrics import Metrics
from appfn.shim.rate_limit import LIMITS
from appfn.shim.requests import METHODS
from appfn.shim.services import BODIES, DRAIN, METRICS
from appfn.shim.siblings import from_sibling

REQUEST_ID = web.RequestKey("request_id", str)
"""Given by the client in X-Request-Id where it is harmless, else made here; sent back, and part of every log line."""
_HARMLESS_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Outermost: id, metrics and the access log."""
    app = request.app
    drain = app[DRAIN]
    request[REQUEST_ID] = request_id = harmless_id(request.headers.get("X-Request-Id")) or new_request_id()
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
            if (limits := request.get(LIMITS)) is not None:
                response.headers.update(limits)
        return response
    finally:
        drain.leave(request.task)
        _note(request, app[METRICS], status=status, seconds=time.perf_counter() - started)


def harmless_id(given: str | None) -> str:
    """Return the id that a client gave its request, where it may stand in a log and an answer; else nothing."""
    return given if given and _HARMLESS_ID.fullmatch(given) else ""


def new_request_id() -> str:
    """Return an id for a request that brought none."""
    return f"{random.getrandbits(128):032x}"


def _note(request: web.Request, metrics: Metrics, *, status: int, seconds: float) -> None:
    if from_sibling(request):
        return  # noted where it came in
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "unmatched"
    method = request.method if request.method in METHODS else "OTHER"  # a client may invent methods, and labels stay
    metrics.answered(method=method, route=route, status=status, seconds=seconds)
    if loud := access_log.level(status, seconds):
        access_log.write(
            loud,
            request_id=request[REQUEST_ID],
            method=method,
            route=route,
            status=status,
            seconds=seconds,
            remote=request.remote,
            target=request.match_info,
        )


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into an answer of Appwrite's form; give back the room that the request's body took."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return http.failure(_of_http(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, the client is answered
        answer = error_of(error)
        access_log.note_bug(error, answer, request.get(REQUEST_ID))
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
