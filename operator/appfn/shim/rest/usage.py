"""The public routes that tell what functions used."""

from collections.abc import Iterable

from appfn.api.base import Json
from appfn.api.deployment import Deployment
from appfn.api.function import Function
from appfn.shim import models_usage, processes
from appfn.shim.auth.access import FUNCTION_GET, FUNCTION_LIST
from appfn.shim.models_usage import DEFAULT_RANGE, RANGES, Inventory, Present
from appfn.shim.rest.operation import Answer, Context, In, Operations, Parameter, path
from appfn.shim.services import CATALOG, STORE, SURROUNDINGS

_RANGE = Parameter(name="range", where=In.QUERY, choices=tuple(RANGES), about="How far to look back; 30d if left out.")

operations = Operations()


@operations.add(
    "functions.listUsage",
    "GET /functions/usage",
    access=FUNCTION_LIST,
    parameters=(_RANGE,),
    returns="usageFunctions",
)
async def of_project(context: Context) -> Answer:
    """Return what all functions of the project used."""
    catalog = context.app[CATALOG]
    functions = catalog.functions(context.project)
    deployments = [item for function in functions for item in catalog.deployments(function)]
    inventory = _inventory(deployments, functions)
    return Answer(content=await _usage(context, inventory, function_uid=None))


@operations.add(
    "functions.getUsage",
    "GET /functions/{functionId}/usage",
    access=FUNCTION_GET,
    parameters=(path("functionId"), _RANGE),
    returns="usageFunction",
)
async def of_function(context: Context) -> Answer:
    """Return what one function used."""
    catalog = context.app[CATALOG]
    function = catalog.function(context.project, context.text("functionId"))
    inventory = _inventory(catalog.deployments(function))
    return Answer(content=await _usage(context, inventory, function_uid=function.metadata.uid))


async def _usage(context: Context, inventory: Inventory, *, function_uid: str | None) -> Json:
    app = context.app
    span = models_usage.span(context.text("range", DEFAULT_RANGE), app[SURROUNDINGS].now())
    await processes.flush(app)
    used = await app[STORE].usage(
        context.project.namespace,
        since=span.since,
        until=span.until,
        step=span.step,
        function_uid=function_uid,
    )
    return models_usage.usage(used, span, inventory, context.format)


def _inventory(deployments: Iterable[Deployment], functions: Iterable[Function] | None = None) -> Inventory:
    found = list(deployments)
    outputs = [
        Present(made_at, build.artifact.size)
        for item in found
        if (made_at := item.metadata.creation_timestamp)
        for build in item.status.builds
        if build.artifact
    ]
    made = [at for function in functions if (at := function.metadata.creation_timestamp)] if functions else []
    return Inventory(
        functions=None if functions is None else [Present(at) for at in made],
        deployments=[Present(at, _source(item)) for item in found if (at := item.metadata.creation_timestamp)],
        outputs=outputs,
    )


def _source(deployment: Deployment) -> int:
    """Return the bytes of an uploaded source; 0 for others, whose size is not known."""
    uploaded = deployment.spec.source.artifact
    return 0 if uploaded is None else uploaded.size or 0
