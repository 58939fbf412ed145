"""What can be done with a deployment: activate it, build it again or cancel its build."""

from appfn import names
from appfn.api.base import Json
from appfn.api.deployment import Deployment
from appfn.api.function import Function
from appfn.api.kinds import DEPLOYMENT
from appfn.core import activation
from appfn.shim import deployments, function_writes, models_deployments, own_writes
from appfn.shim.auth.access import DEPLOYMENT_CREATE, DEPLOYMENT_UPDATE, FUNCTION_UPDATE
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.formats import Format
from appfn.shim.ids import new_id
from appfn.shim.rest import functions
from appfn.shim.rest.operation import Answer, Context, Operations, Parameter, path
from appfn.shim.services import CATALOG, SURROUNDINGS

operations = Operations()


@operations.add(
    "functions.updateFunctionDeployment",
    "PATCH /functions/{functionId}/deployment",
    access=FUNCTION_UPDATE,
    parameters=(path("functionId"), Parameter(name="deploymentId", required=True, about="The one to activate.")),
    returns="function",
    aliases=(("PATCH", "/functions/{functionId}/deployments/{deploymentId}"),),
)
async def activate(context: Context) -> Answer:
    """Make a deployment the one that calls go to, until another one is activated."""
    catalog = context.app[CATALOG]
    function, deployment = await _found(context)
    if models_deployments.status(deployment) != "ready":
        raise AppwriteError(Problem.BUILD_NOT_READY)
    name, pinned = deployment.metadata.name, function.spec.deployment not in {None, deployment.metadata.name}
    if pinned:  # raises where the pin is not ours to change
        await function_writes.set_fields(context.app, function, deployment=name)
    turn = activation.next_turn(catalog.deployments(function), context.app[SURROUNDINGS].now())
    await _annotate(context, deployment, {names.ANNOTATION_ACTIVATED: turn})
    if pinned:
        await function_writes.set_fields(context.app, function, deployment=None)
    await own_writes.until(catalog, lambda: _active(context) == name)
    return Answer(content=await functions.model(context, catalog.function(context.project, function.appwrite_id)))


@operations.add(
    "functions.createDuplicateDeployment",
    "POST /functions/{functionId}/deployments/duplicate",
    access=DEPLOYMENT_CREATE,
    parameters=(
        path("functionId"),
        Parameter(name="deploymentId", required=True, about="The one whose code is built again."),
        Parameter(name="buildId", about="Takes no part."),
    ),
    returns="deployment",
    status=202,
    aliases=(
        ("POST", "/functions/{functionId}/deployments/{deploymentId}/build"),
        ("POST", "/functions/{functionId}/deployments/{deploymentId}/builds/{buildId}"),
    ),
)
async def duplicate(context: Context) -> Answer:
    """Build the code of a deployment once more, as another one; before 1.4, try a failed build again."""
    function, deployment = await _found(context)
    if context.format < Format.V1_4:
        return await _retry(context, deployment)
    made = await deployments.create(
        context.app,
        function,
        id_=new_id(context.app[SURROUNDINGS].now()),
        source=_source(deployment),
        entrypoint=function.spec.entrypoint or deployment.spec.entrypoint,
        commands=function.spec.commands or deployment.spec.commands,
        activate=deployment.spec.activate,
    )
    return _answer(context, function, made, status=202)


@operations.add(
    "functions.updateDeploymentStatus",
    "PATCH /functions/{functionId}/deployments/{deploymentId}/status",
    access=DEPLOYMENT_UPDATE,
    parameters=(path("functionId"), path("deploymentId")),
    returns="deployment",
    aliases=(("PATCH", "/functions/{functionId}/deployments/{deploymentId}/build"),),
)
async def cancel(context: Context) -> Answer:
    """Cancel the build of a deployment, which then never becomes active."""
    function, deployment = await _found(context)
    match models_deployments.status(deployment):
        case "ready" | "failed":
            raise AppwriteError(Problem.BUILD_ALREADY_COMPLETED)
        case "canceled":
            return _answer(context, function, deployment)
        case _:
            now = context.app[SURROUNDINGS].now()
            canceled = await _annotate(context, deployment, {names.ANNOTATION_CANCEL: now.isoformat()})
            return _answer(context, function, canceled)


async def _found(context: Context) -> tuple[Function, Deployment]:
    function = context.app[CATALOG].function(context.project, context.text("functionId"))
    return function, await deployments.find(context.app, function, context.text("deploymentId"))


def _active(context: Context) -> str | None:
    return context.app[CATALOG].function(context.project, context.text("functionId")).status.active_deployment


def _answer(context: Context, function: Function, deployment: Deployment, *, status: int = 200) -> Answer:
    view = models_deployments.view(deployment, function_id=function.appwrite_id)
    return Answer(content=models_deployments.model(view, context.format), status=status)


async def _retry(context: Context, deployment: Deployment) -> Answer:
    if models_deployments.status(deployment) not in {"failed", "canceled"}:
        raise AppwriteError(Problem.BUILD_IN_PROGRESS, "Build not failed")
    if context.text("buildId", deployment.appwrite_id) != deployment.appwrite_id:
        raise AppwriteError(Problem.BUILD_NOT_FOUND)
    token = context.app[SURROUNDINGS].now().isoformat()
    await _annotate(context, deployment, {names.ANNOTATION_RETRY: token, names.ANNOTATION_CANCEL: None})
    return Answer(status=204)


def _source(deployment: Deployment) -> Json:
    """Return where the code of a deployment is; of one that was read from a ConfigMap, what was read."""
    source, digest = deployment.spec.source, deployment.status.source_digest
    if source.config_map_ref is not None and digest:
        return {"artifact": {"digest": digest}}
    return source.to_json()


async def _annotate(context: Context, deployment: Deployment, annotations: dict[str, str | None]) -> Deployment:
    """Set annotations of a deployment, take away those that are None, and wait until the catalog has them."""
    patch = {"metadata": {"annotations": annotations}}
    cluster, key = context.app[SURROUNDINGS].cluster, deployment.metadata.key
    written = await cluster.merge_patch(DEPLOYMENT, key, patch, manager=names.FIELD_MANAGER_API)
    if written is None:
        raise AppwriteError(Problem.DEPLOYMENT_NOT_FOUND)
    await own_writes.seen(context.app[CATALOG], DEPLOYMENT, written)
    return Deployment.parse(written)
