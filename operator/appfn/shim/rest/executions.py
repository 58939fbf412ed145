"""The public routes of executions: create, get, list.

Order of checks, as Appwrite's: project, caller, scope, parameters, function, runtime, deployment, build, `execute`.
"""

import json
import random

from aiohttp import web

from appfn.api.base import Json
from appfn.api.execution import Trigger
from appfn.core.records import ExecutionRecord, ExecutionRequest, Origin
from appfn.errors import QueueFullError
from appfn.shim import execution_queries, handover, http, models, processes, queries, requests
from appfn.shim.auth.access import EXECUTE, EXECUTION_GET, EXECUTION_LIST
from appfn.shim.auth.identity import Caller
from appfn.shim.bodies import SMALL
from appfn.shim.catalog import Callee, Project
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.formats import Format
from appfn.shim.requests import Asked
from appfn.shim.rest import listing
from appfn.shim.rest.admission import admit, format_of
from appfn.shim.rest.operation import Answer, Context, Operations, Parameter, Type, path
from appfn.shim.services import CATALOG, CONFIG, DRAIN, EXECUTOR, INVOKER, SIBLINGS, STORE
from appfn.store.model import ExecutionQuery

_ID_BITS = 80
_RETRY_SECONDS = 1.0
_LISTED_OUTPUT = 65_536
"""Characters of response, stdout and stderr in a list; one execution by itself is whole."""

operations = Operations()


async def create(request: web.Request) -> web.Response:
    """Run a function: wait for its end (201), or only until the execution is safely stored (202; 201 before 1.0)."""
    app = request.app
    _refuse_crowd(app)
    project, caller = await admit(request, EXECUTE)
    if (answered := await handover.elsewhere(request, project)) is not None:
        return answered
    format_ = format_of(request)
    key = requests.idempotency_key(request.headers.get("Idempotency-Key"))
    if key is None:
        _refuse_unread(request, project, caller)
    asked = requests.parse(await http.read_json(request), format_)
    callee = await app[CATALOG].settled_callee(project, request.match_info["functionId"])
    _permit(caller, callee)
    if key is None and not asked.asynchronous:
        _refuse_overload(app, callee)
    record = await _execute(app, callee, _request(callee, caller, asked, key=key), asynchronous=asked.asynchronous)
    context = Context(
        app=app, request=request, project=project, caller=caller, format=format_, arguments=dict(request.match_info)
    )
    return http.reply(_model(context, record), status=_accepted(asked, format_), headers=_timing(record))


@operations.add(
    "functions.createExecution",
    "POST /functions/{functionId}/executions",
    access=EXECUTE,
    parameters=(
        path("functionId"),
        Parameter(name="body", about="What the function is given; `data` before 1.4."),
        Parameter(name="data", about="The name of `body` before 1.4."),
        Parameter(name="async", type=Type.BOOLEAN, about="Only accept it: the answer comes before the function's."),
        Parameter(name="path", about="The path the function sees."),
        Parameter(name="method", choices=tuple(sorted(requests.METHODS)), about="The method the function sees."),
        Parameter(name="headers", type=Type.OBJECT, about="The headers the function sees."),
        Parameter(name="scheduledAt", about="When to run it, as ISO 8601, instead of now."),
    ),
    returns="execution",
    status=201,
    route=create,
)
async def run_create(context: Context) -> Answer:
    """Run a function."""
    asked = requests.parse(context.arguments, context.format)
    callee = await context.app[CATALOG].settled_callee(context.project, context.text("functionId"))
    _permit(context.caller, callee)
    if not asked.asynchronous:
        _refuse_overload(context.app, callee)
    wanted = _request(callee, context.caller, asked, key=None)
    record = await _execute(context.app, callee, wanted, asynchronous=asked.asynchronous)
    return Answer(content=_model(context, record), status=_accepted(asked, context.format))


@operations.add(
    "functions.getExecution",
    "GET /functions/{functionId}/executions/{executionId}",
    access=EXECUTION_GET,
    parameters=(path("functionId"), path("executionId")),
    returns="execution",
)
async def get(context: Context) -> Answer:
    """Return one execution."""
    function = context.app[CATALOG].function(context.project, context.text("functionId"))
    id_ = context.text("executionId")
    record = await _found(context.app, context.project.namespace, id_) if requests.is_id(id_) else None
    if record is None or record.request.function_uid != function.metadata.uid:
        raise AppwriteError(Problem.EXECUTION_NOT_FOUND)
    return Answer(content=_model(context, record), headers=_timing(record))


@operations.add(
    "functions.listExecutions",
    "GET /functions/{functionId}/executions",
    access=EXECUTION_LIST,
    parameters=(path("functionId"), *listing.PARAMETERS),
    returns="executionList",
)
async def list_(context: Context) -> Answer:
    """Return a page of a function's executions."""
    query = queries.asked(context.arguments)
    function = context.app[CATALOG].function(context.project, context.text("functionId"))
    await processes.flush(context.app)
    page = await context.app[STORE].list(
        ExecutionQuery(
            namespace=context.project.namespace,
            function_uid=function.metadata.uid,
            filters=execution_queries.filters(query),
            limit=query.limit,
            offset=query.offset,
            after=query.cursor_after or None,
            before=query.cursor_before or None,
            descending=execution_queries.descending(query),
            output_limit=_LISTED_OUTPUT,
        ),
    )
    shown = [_model(context, record) for record in page.executions]
    return Answer(content=models.execution_list(shown, total=page.total))


async def _found(app: web.Application, namespace: str, id_: str) -> ExecutionRecord | None:
    """Return an execution, also one that ended a moment ago in another process."""
    record = await app[STORE].get(namespace, id_)
    if record is None and app[SIBLINGS].part.count > 1:
        await processes.flush(app)
        record = await app[STORE].get(namespace, id_)
    return record


def _refuse_crowd(app: web.Application) -> None:
    """Raise QueueFullError where so many requests are under way that memory would not be bounded."""
    if app[DRAIN].working > app[SIBLINGS].part.share(app[CONFIG].max_requests):
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


def _accepted(asked: Asked, format_: Format) -> int:
    return 202 if asked.asynchronous and format_ > Format.V0 else 201


def _timing(record: ExecutionRecord) -> dict[str, str]:
    return {"Server-Timing": models.server_timing(record.outcome)} if record.outcome is not None else {}


def _model(context: Context, record: ExecutionRecord) -> Json:
    namespace = record.request.namespace
    return models.execution(
        record,
        context.format,
        function_id=context.text("functionId"),
        deployment_id=context.app[CATALOG].deployment_id(namespace, record.deployment),
        logs=context.caller.privileged,
    )
