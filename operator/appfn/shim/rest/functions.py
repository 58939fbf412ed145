"""The public routes of functions: create, list, get, update, delete."""

import asyncio

from appfn.api.base import Json
from appfn.api.function import Function
from appfn.api.kinds import FUNCTION
from appfn.shim import function_variables, function_writes, own_writes, variable_writes
from appfn.shim.auth.access import FUNCTION_CREATE, FUNCTION_DELETE, FUNCTION_GET, FUNCTION_LIST, FUNCTION_UPDATE
from appfn.shim.catalog import Catalog
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.ownership import Change
from appfn.shim.rest import function_arguments, function_models, listing, vars_argument
from appfn.shim.rest.function_models import ATTRIBUTES
from appfn.shim.rest.operation import Answer, Context, Operations, Parameter, path
from appfn.shim.services import CATALOG, SURROUNDINGS

_AT_ONCE = 50
"""Models made without a pause: some milliseconds."""

operations = Operations()


@operations.add(
    "functions.create",
    "POST /functions",
    access=FUNCTION_CREATE,
    parameters=(
        Parameter(name="functionId", required=True, max_length=36, about="Its id; `unique()` for a new one."),
        Parameter(name="runtime", required=True, max_length=63, about="What it is written for."),
        *function_arguments.COMMON,
    ),
    returns="function",
    status=201,
)
async def create(context: Context) -> Answer:
    """Create a function."""
    catalog = context.app[CATALOG]
    manifest = function_arguments.created(
        context.arguments, context.format, namespace=context.project.namespace, runtimes=_runtimes(catalog)
    )
    variables = vars_argument.values(context.arguments)
    id_ = manifest["spec"].get("id", manifest["metadata"]["name"])
    if any(function.appwrite_id == id_ for function in catalog.functions(context.project)):
        raise AppwriteError(Problem.FUNCTION_ALREADY_EXISTS)
    function = await function_writes.create(context.app, manifest)
    if variables:
        function = await vars_argument.write(context.app, function, variables)
    return Answer(content=await model(context, function), status=201)


@operations.add(
    "functions.list",
    "GET /functions",
    access=FUNCTION_LIST,
    parameters=listing.PARAMETERS,
    returns="functionList",
)
async def list_(context: Context) -> Answer:
    """Return a page of the project's functions."""
    functions = {function.appwrite_id: function for function in context.app[CATALOG].functions(context.project)}
    items = []
    for number, function in enumerate(functions.values(), start=1):
        items.append(_whole(context.app[CATALOG], function))
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)  # calls go on meanwhile
    searched = ("$id", "name", "runtime")
    page = listing.page(items, context.arguments, plural="functions", attributes=ATTRIBUTES, searched=searched)
    page["functions"] = [await _shown(context, functions[item["$id"]], item) for item in page["functions"]]
    return Answer(content=page)


@operations.add(
    "functions.get",
    "GET /functions/{functionId}",
    access=FUNCTION_GET,
    parameters=(path("functionId"),),
    returns="function",
)
async def get(context: Context) -> Answer:
    """Return one function."""
    return Answer(content=await model(context, _found(context)))


@operations.add(
    "functions.update",
    "PUT /functions/{functionId}",
    access=FUNCTION_UPDATE,
    parameters=(
        path("functionId"),
        Parameter(name="runtime", max_length=63, about="What it is written for; as it is where left out."),
        *function_arguments.COMMON,
    ),
    returns="function",
)
async def update(context: Context) -> Answer:
    """Change a function: what is left out gets its default, as in Appwrite."""
    function, runtimes = _found(context), _runtimes(context.app[CATALOG])
    variables = vars_argument.values(context.arguments)

    def decide(body: Json) -> Change:
        current, arguments = Function.parse(body), context.arguments
        return Change(
            spec=function_arguments.updated(arguments, context.format, function=current, runtimes=runtimes),
            annotations=function_arguments.annotations(arguments, current),
        )

    function = await function_writes.update(context.app, function, decide)
    if variables is not None:
        function = await vars_argument.write(context.app, function, variables)
    return Answer(content=await model(context, function))


@operations.add(
    "functions.delete",
    "DELETE /functions/{functionId}",
    access=FUNCTION_DELETE,
    parameters=(path("functionId"),),
    status=204,
)
async def delete(context: Context) -> Answer:
    """Delete a function with all that belongs to it."""
    metadata = _found(context).metadata
    await context.app[SURROUNDINGS].cluster.delete(FUNCTION, metadata.key, uid=metadata.uid)
    await own_writes.gone(context.app[CATALOG], FUNCTION, metadata.key, uid=metadata.uid)
    return Answer(status=204)


async def model(context: Context, function: Function) -> Json:
    """Return the Function model in the caller's format."""
    return await _shown(context, function, _whole(context.app[CATALOG], function))


async def _shown(context: Context, function: Function, whole: Json) -> Json:
    known = function_variables.known(function)
    values = await variable_writes.values_of(context.app, function, known)
    variables = [function_models.variable(item, function.appwrite_id, values.get(item.name, "")) for item in known]
    return function_models.shown(whole, variables, context.format)


def _whole(catalog: Catalog, function: Function) -> Json:
    deployments = catalog.deployments(function)
    active = next((item for item in deployments if item.metadata.name == function.status.active_deployment), None)
    return function_models.function(function, active=active, latest=deployments[-1] if deployments else None)


def _found(context: Context) -> Function:
    return context.app[CATALOG].function(context.project, context.text("functionId"))


def _runtimes(catalog: Catalog) -> frozenset[str]:
    return frozenset(runtime.metadata.name for runtime in catalog.runtimes())
