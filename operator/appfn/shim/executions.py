"""The public routes of executions: create, get, list.

Order of checks, as Appwrite's: project, caller, scope, parameters, function, runtime, deployment, build, `execute`.
"""

import json
import random

from aiohttp import web

from appfn.api.execution import Trigger
from appfn.core.records import ExecutionRecord, ExecutionRequest, Origin
from appfn.errors import QueueFullError
from appfn.shim import formats, http, models, queries, requests
from appfn.shim.auth.authenticator import Action
from appfn.shim.auth.identity import Caller
from appfn.shim.bodies import SMALL
from appfn.shim.catalog import Callee, Project
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.formats import Format
from appfn.shim.requests import Asked
from appfn.shim.services import AUTH, CATALOG, CONFIG, DRAIN, EXECUTOR, INVOKER, STORE
from appfn.store.model import ExecutionQuery

PROJECT_HEADER = "X-Appwrite-Project"
_ID_BITS = 80
_RETRY_SECONDS = 1.0
_LISTED_OUTPUT = 65_536
"""Characters of response, stdout and stderr in a list; one execution by itself is whole."""

routes = web.RouteTableDef()


@routes.post("/v1/functions/{functionId}/executions")
async def create(request: web.Request) -> web.Response:
    """Run a function: wait for its end (201), or only until the execution is safely stored (202; 201 before 1.0)."""
    app = request.app
    _refuse_crowd(app)
    project, caller = await _admit(request, Action.EXECUTE)
    format_ = _format(request)
    key = requests.idempotency_key(request.headers.get("Idempotency-Key"))
    if key is None:
        _refuse_unread(request, project, caller)
    asked = requests.parse(await http.read_json(request), format_)
    callee = await app[CATALOG].settled_callee(project, request.match_info["functionId"])
    _permit(caller, callee)
    if key is None and not asked.asynchronous:
        _refuse_overload(app, callee)
    record = await _execute(app, callee, _request(callee, caller, asked, key=key), asynchronous=asked.asynchronous)
    accepted = asked.asynchronous and format_ > Format.V0
    return _shown(request, record, format_, caller, status=202 if accepted else 201)


@routes.get("/v1/functions/{functionId}/executions/{executionId}")
async def get(request: web.Request) -> web.Response:
    """Return one execution."""
    project, caller = await _admit(request, Action.READ)
    function = request.app[CATALOG].function(project, request.match_info["functionId"])
    id_ = request.match_info["executionId"]
    record = await request.app[STORE].get(project.namespace, id_) if requests.is_id(id_) else None
    if record is None or record.request.function_uid != function.metadata.uid:
        raise AppwriteError(Problem.EXECUTION_NOT_FOUND)
    return _shown(request, record, _format(request), caller)


@routes.get("/v1/functions/{functionId}/executions", allow_head=False)
async def list_(request: web.Request) -> web.Response:
    """Return a page of a function's executions."""
    project, caller = await _admit(request, Action.LIST)
    query = queries.parse(request.query.items())
    function = request.app[CATALOG].function(project, request.match_info["functionId"])
    page = await request.app[STORE].list(
        ExecutionQuery(
            namespace=project.namespace,
            function_uid=function.metadata.uid,
            filters=query.filters,
            limit=query.limit,
            offset=query.offset,
            after=query.cursor_after or None,
            before=query.cursor_before or None,
            descending=query.descending,
            output_limit=_LISTED_OUTPUT,
        ),
    )
    shown = [_model(request, record, _format(request), caller) for record in page.executions]
    return http.reply(models.execution_list(shown, total=page.total))


def _refuse_crowd(app: web.Application) -> None:
    """Raise QueueFullError where so many requests are under way that memory would not be bounded."""
    if app[DRAIN].working > app[CONFIG].max_requests:
        raise QueueFullError("The server answers as many requests as it can.", retry_after=_RETRY_SECONDS)


def _refuse_unread(request: web.Request, project: Project, caller: Caller) -> None:
    """Refuse a large body before it is read where the function is overloaded, an async one too: reading is the cost."""
    length = request.content_length
    if not request.body_exists or (length is not None and length <= SMALL):
        return
    callee = request.app[CATALOG].known_callee(project, request.match_info["functionId"])
    if callee is not None:
        _permit(caller, callee)
        _refuse_overload(request.app, callee)


def _refuse_overload(app: web.Application, callee: Callee) -> None:
    """Raise QueueFullError where the call would find its function's queue full."""
    uid, deployment_uid = callee.function.metadata.uid, callee.deployment.metadata.uid
    seconds = app[INVOKER].overloaded(uid, deployment_uid)
    if seconds is not None:
        raise QueueFullError("As many calls of the function wait as may wait.", retry_after=seconds)


async def _admit(request: web.Request, action: Action) -> tuple[Project, Caller]:
    app = request.app
    auth = app[AUTH]
    wanted = request.headers.get(PROJECT_HEADER) or request.query.get("project", "")
    project = app[CATALOG].project(wanted)
    caller = await auth.caller(request.headers, project)
    await auth.authorize(caller, action, project)
    return project, caller


def _permit(caller: Caller, callee: Callee) -> None:
    """Raise user_unauthorized unless `execute` names a role of the caller; keys and workloads need none."""
    execute = callee.function.spec.execute
    if caller.privileged or caller.roles.intersection(execute):
        return
    if not execute:
        raise AppwriteError(Problem.USER_UNAUTHORIZED, "No permissions provided for action 'execute'")
    allowed, given = json.dumps(execute), json.dumps(sorted(caller.roles))
    message = f'Missing "execute" permission. Only "{allowed}" scopes are allowed and "{given}" was given.'
    raise AppwriteError(Problem.USER_UNAUTHORIZED, message)


async def _execute(
    app: web.Application,
    callee: Callee,
    wanted: ExecutionRequest,
    *,
    asynchronous: bool,
) -> ExecutionRecord:
    executor = app[EXECUTOR]
    if not asynchronous and wanted.idempotency_key is None:
        return await executor.run(callee, wanted)
    record = await executor.enqueue(wanted)
    if asynchronous:
        return record
    return await executor.wait(record, within=callee.function.spec.timeout + app[CONFIG].pod_start_seconds)


def _request(callee: Callee, caller: Caller, asked: Asked, *, key: str | None) -> ExecutionRequest:
    function = callee.function
    scoped = f"{caller.subject}:{function.metadata.uid}:{key}" if key else None  # nobody finds another caller's result
    return ExecutionRequest(
        id=f"{random.getrandbits(_ID_BITS):020x}",  # gives nobody access, so that it may be guessed
        namespace=function.metadata.namespace,
        function=function.metadata.name,
        function_uid=function.metadata.uid,
        origin=Origin.API,
        trigger=Trigger.HTTP,
        data=asked.data,
        headers=asked.headers,
        path=asked.path,
        method=asked.method,
        idempotency_key=scoped,
        body_hash=asked.digest() if key else "",
        max_attempts=function.spec.retry.max_attempts if asked.asynchronous else 1,
    )


def _format(request: web.Request) -> Format:
    return formats.negotiate(request.headers.get(formats.HEADER))


def _shown(
    request: web.Request, record: ExecutionRecord, format_: Format, caller: Caller, *, status: int = 200
) -> web.Response:
    response = http.reply(_model(request, record, format_, caller), status=status)
    if record.outcome is not None:
        response.headers["Server-Timing"] = models.server_timing(record.outcome)
    return response


def _model(request: web.Request, record: ExecutionRecord, format_: Format, caller: Caller) -> dict[str, object]:
    namespace = record.request.namespace
    return models.execution(
        record,
        format_,
        function_id=request.match_info["functionId"],
        deployment_id=request.app[CATALOG].deployment_id(namespace, record.deployment),
        logs=caller.privileged,
    )
