"""The public route that makes an execution; those that read and delete them, or repeat one, are in `history`.

Order of checks, as Appwrite's: project, caller, scope, parameters, function, runtime, deployment, build, `execute`.
"""

import json

from aiohttp import web

from appfn.api.base import Json
from appfn.api.execution import Trigger
from appfn.api.function import Function
from appfn.core.records import ExecutionRecord, ExecutionRequest, Origin
from appfn.errors import QueueFullError
from appfn.shim import handover, http, models, requests
from appfn.shim.auth.access import EXECUTE
from appfn.shim.auth.identity import Caller, Guest
from appfn.shim.bodies import SMALL
from appfn.shim.callee import Callee, Project
from appfn.shim.drain import Drain
from appfn.shim.errors import AppwriteError, Problem, invalid_argument
from appfn.shim.executor import Executor
from appfn.shim.formats import Format
from appfn.shim.ids import new_execution_id
from appfn.shim.requests import Asked
from appfn.shim.rest.admission import admit, format_of
from appfn.shim.rest.operation import Answer, Context, Operations, Parameter, Type, path
from appfn.shim.services import CATALOG, CONFIG, DRAIN, EXECUTOR, RATE_LIMIT, SIBLINGS, SURROUNDINGS

_RETRY_SECONDS = 1.0

operations = Operations()


async def create(request: web.Request) -> web.Response:
    """Run a function: wait for its end (201), or only until the execution is safely stored (202; 201 before 1.0)."""
    app = request.app
    refuse_crowd(app[DRAIN], most=most_requests(app))
    project, caller = await admit(request, EXECUTE)
    app[RATE_LIMIT].count(request, project, caller)
    if (answered := await handover.elsewhere(request, project)) is not None:
        return answered
    format_ = format_of(request)
    key = idempotency_key(request, caller)
    if key is None:
        _refuse_unread(request, project, caller)
    asked = requests.parse(await http.read_json(request), format_, now=app[SURROUNDINGS].now)
    callee = await app[CATALOG].settled_callee(project, request.match_info["functionId"])
    permit(caller, callee)
    record = await execute(app[EXECUTOR], callee, caller, asked, key=key)
    context = Context(
        app=app, request=request, project=project, caller=caller, format=format_, arguments=dict(request.match_info)
    )
    return http.reply(model(context, record), status=accepted(asked, format_), headers=timing(record))


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
    context.app[RATE_LIMIT].count(context.request, context.project, context.caller)
    if (made := await handover.executed_elsewhere(context, context.arguments)) is not None:
        return made
    asked = requests.parse(context.arguments, context.format, now=context.app[SURROUNDINGS].now)
    callee = await context.app[CATALOG].settled_callee(context.project, context.text("functionId"))
    permit(context.caller, callee)
    record = await execute(context.app[EXECUTOR], callee, context.caller, asked)
    return Answer(content=model(context, record), status=accepted(asked, context.format))


def idempotency_key(request: web.Request, caller: Caller) -> str | None:
    """Return the header's value; guests can't use one, as nothing would keep one guest from another's result."""
    key = requests.idempotency_key(request.headers.get("Idempotency-Key"))
    if key is not None and isinstance(caller, Guest):
        raise invalid_argument("Idempotency-Key", "guests can't use it: give an API key or a user's token with it")
    return key


def most_requests(app: web.Application) -> int:
    """Return how many requests may be under way in this process."""
    return app[SIBLINGS].part.share(app[CONFIG].max_requests)


def refuse_crowd(drain: Drain, *, most: int) -> None:
    """Raise QueueFullError where more than `most` requests are under way: memory would not be bounded."""
    if len(drain.working) > most:
        raise QueueFullError("The server answers as many requests as it can.", retry_after=_RETRY_SECONDS)


def _refuse_unread(request: web.Request, project: Project, caller: Caller) -> None:
    """Refuse a large body before it is read where the function is overloaded, an async one too: reading is the cost."""
    length = request.content_length
    if not request.body_exists or (length is not None and length <= SMALL):
        return
    callee = request.app[CATALOG].known_callee(project, request.match_info["functionId"])
    if callee is not None:
        permit(caller, callee)
        request.app[EXECUTOR].refuse_overload(callee)


def permit(caller: Caller, callee: Callee) -> None:
    """Raise user_unauthorized unless `execute` names a role of the caller; keys and workloads need none."""
    execute = callee.function.spec.execute
    if caller.privileged or caller.roles.intersection(execute):
        return
    if not execute:
        raise AppwriteError(Problem.USER_UNAUTHORIZED, "No permissions provided for action 'execute'")
    roles, given = (json.dumps(texts, separators=(",", ":")) for texts in (sorted(caller.roles), execute))
    missing = f'Missing "execute" permission for role "{execute[-1]}".'
    message = f'{missing} Only "{roles}" scopes are allowed and "{given}" was given.'
    raise AppwriteError(Problem.USER_UNAUTHORIZED, message)


async def execute(
    executor: Executor,
    callee: Callee,
    caller: Caller,
    asked: Asked,
    *,
    key: str | None = None,
) -> ExecutionRecord:
    """Run a function for a caller who may, or only accept that it is to be run; return the execution as it then is.

    Raises:
        IdempotencyError, QueueFullError, TransientError: nothing was accepted.
        AppwriteError: function_synchronous_timeout.
    """
    direct = key is None and not asked.asynchronous
    if direct:
        executor.refuse_overload(callee)
    now = executor.now()
    requested = _requested(callee, caller, asked, id_=new_execution_id(now), key=key)
    if direct:
        return await executor.run(callee, requested, created=now)
    record = await executor.enqueue(requested)
    if asked.asynchronous:
        return record
    return await executor.wait(record, within=callee.function.spec.timeout + executor.pod_start_seconds)


def _requested(callee: Callee, caller: Caller, asked: Asked, *, id_: str, key: str | None) -> ExecutionRequest:
    """Return the execution that a caller asks for."""
    function = callee.function
    return ExecutionRequest(
        id=id_,
        namespace=function.metadata.namespace,
        function=function.metadata.name,
        function_uid=function.metadata.uid,
        origin=Origin.API,
        trigger=Trigger.HTTP if asked.scheduled_at is None else Trigger.SCHEDULE,
        data=asked.data,
        headers=asked.headers,
        path=asked.path,
        method=asked.method,
        user_id=caller.user_id,
        jwt=caller.user_claims,
        permissions=caller.permissions,
        scheduled_at=asked.scheduled_at,
        idempotency_key=scoped_key(caller, function, key),
        body_hash=asked.digest() if key else "",
        max_attempts=function.spec.retry.max_attempts if asked.asynchronous else 1,
    )


def scoped_key(caller: Caller, function: Function, key: str | None) -> str | None:
    """Return an idempotency key as it is stored: nobody finds another caller's result."""
    return f"{caller.subject}:{function.metadata.uid}:{key}" if key else None


def accepted(asked: Asked, format_: Format) -> int:
    """Return the HTTP status of an execution that was created."""
    return 202 if asked.asynchronous and format_ > Format.V0 else 201


def timing(record: ExecutionRecord) -> dict[str, str]:
    """Return the header that tells where the time went."""
    return {"Server-Timing": models.server_timing(record.outcome)} if record.outcome is not None else {}


def model(context: Context, record: ExecutionRecord) -> Json:
    """Return an execution as the caller may see it."""
    namespace = record.request.namespace
    return models.execution(
        record,
        context.format,
        function_id=context.text("functionId"),
        deployment_id=context.app[CATALOG].deployment_id(namespace, record.deployment),
        logs=context.caller.privileged,
    )
