"""The public routes of executions that are there: get, list, delete, replay."""

from aiohttp import web
from msgspec.structs import replace

from appfn.core.records import ExecutionRecord, Origin, repeated
from appfn.shim import execution_queries, mirrors, models, processes, queries, requests
from appfn.shim.auth.access import EXECUTE, EXECUTION_DELETE, EXECUTION_GET, EXECUTION_LIST
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.ids import new_execution_id
from appfn.shim.rest.executions import idempotency_key, model, permit, scoped_key, timing
from appfn.shim.rest.listing import PARAMETERS
from appfn.shim.rest.operation import Answer, Context, Operations, path
from appfn.shim.services import CATALOG, EXECUTOR, RATE_LIMIT, SIBLINGS, STORE, SURROUNDINGS
from appfn.store.model import Deletion, ExecutionQuery

_LISTED_TEXT = 65_536
"""Characters of response, stdout and stderr in a list; one execution by itself is whole."""

operations = Operations()


@operations.add(
    "functions.getExecution",
    "GET /functions/{functionId}/executions/{executionId}",
    access=EXECUTION_GET,
    parameters=(path("functionId"), path("executionId")),
    returns="execution",
)
async def get(context: Context) -> Answer:
    """Return one execution."""
    record = await _visible(context)
    return Answer(content=model(context, record), headers=timing(record))


@operations.add(
    "functions.listExecutions",
    "GET /functions/{functionId}/executions",
    access=EXECUTION_LIST,
    parameters=(path("functionId"), *PARAMETERS),
    returns="executionList",
)
async def list_(context: Context) -> Answer:
    """Return a page of a function's executions."""
    query, caller = queries.asked(context.arguments), context.caller
    function = context.app[CATALOG].function(context.project, context.text("functionId"))
    names = {item.appwrite_id: item.metadata.name for item in context.app[CATALOG].deployments(function)}
    order, descending = execution_queries.order(query)
    await processes.flush(context.app)
    page = await context.app[STORE].list(
        ExecutionQuery(
            namespace=context.project.namespace,
            function_uid=function.metadata.uid,
            filters=execution_queries.filters(query, deployments=names),
            search=context.text("search"),
            reader=None if caller.privileged else caller.user_id,
            limit=query.limit,
            offset=query.offset,
            after=query.cursor_after or None,
            before=query.cursor_before or None,
            order=order,
            descending=descending,
            count=context.arguments.get("total", True),
            text_limit=_LISTED_TEXT,
        ),
    )
    shown = [model(context, record) for record in page.executions]
    return Answer(content=models.execution_list(shown, total=page.total))


@operations.add(
    "functions.deleteExecution",
    "DELETE /functions/{functionId}/executions/{executionId}",
    access=EXECUTION_DELETE,
    parameters=(path("functionId"), path("executionId")),
    status=204,
)
async def delete(context: Context) -> Answer:
    """Delete an execution that has ended, or that waits for a time of its own."""
    app, record = context.app, await _visible(context)
    await processes.flush(app)  # a record on its way to the database is not there to be deleted
    request = record.request
    match await app[STORE].delete(request.namespace, request.function_uid, record.id):
        case Deletion.MISSING:
            raise AppwriteError(Problem.EXECUTION_NOT_FOUND)
        case Deletion.IN_PROGRESS:
            raise AppwriteError(Problem.EXECUTION_IN_PROGRESS)
        case Deletion.DONE:
            await mirrors.remove(app[SURROUNDINGS].cluster, request)
            return Answer(status=204)


@operations.add(
    "functions.replayExecution",
    "POST /functions/{functionId}/executions/{executionId}/replay",
    access=EXECUTE,
    parameters=(path("functionId"), path("executionId")),
    returns="execution",
    status=202,
)
async def replay(context: Context) -> Answer:
    """Run an execution again, in the background, with all that its function was given the first time."""
    app, caller = context.app, context.caller
    app[RATE_LIMIT].count(context.request, context.project, caller)
    key = idempotency_key(context.request, caller)
    callee = await app[CATALOG].settled_callee(context.project, context.text("functionId"))
    permit(caller, callee)
    original, function = await _visible(context), callee.function
    id_, attempts = new_execution_id(app[EXECUTOR].now()), function.spec.retry.max_attempts
    wanted = repeated(original.request, id_=id_, origin=Origin.API, max_attempts=attempts)
    wanted = replace(wanted, jwt=caller.user_claims, idempotency_key=scoped_key(caller, function, key))
    record = await app[EXECUTOR].enqueue(wanted)
    return Answer(content=model(context, record), status=202)


async def _visible(context: Context) -> ExecutionRecord:
    """Return the execution that the path names, where the caller may see it.

    Raises:
        AppwriteError: function_not_found, execution_not_found.
    """
    function = context.app[CATALOG].function(context.project, context.text("functionId"))
    id_ = context.text("executionId")
    record = await _found(context.app, context.project.namespace, id_) if requests.is_id(id_) else None
    if record is None or record.request.function_uid != function.metadata.uid:
        raise AppwriteError(Problem.EXECUTION_NOT_FOUND)
    if not context.caller.reads(record.request.permissions):
        raise AppwriteError(Problem.EXECUTION_NOT_FOUND)
    return record


async def _found(app: web.Application, namespace: str, id_: str) -> ExecutionRecord | None:
    """Return an execution, also one that ended a moment ago in another process."""
    record = await app[STORE].get(namespace, id_)
    if record is None and app[SIBLINGS].part.count > 1:
        await processes.flush(app)
        record = await app[STORE].get(namespace, id_)
    return record
