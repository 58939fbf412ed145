"""The routes of deployments, but for their upload."""

from appfn.api.kinds import DEPLOYMENT
from appfn.shim import deployments, models_deployments, own_writes
from appfn.shim.auth.access import DEPLOYMENT_DELETE, DEPLOYMENT_GET, DEPLOYMENT_LIST
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.formats import Format
from appfn.shim.rest import listing
from appfn.shim.rest.operation import Answer, Context, Operations, path
from appfn.shim.services import CATALOG, SURROUNDINGS, UPLOADS
from appfn.store.uploads import Found

ATTRIBUTES = {
    name: name
    for name in (
        "$id",
        "$createdAt",
        "$updatedAt",
        "entrypoint",
        "buildId",
        "activate",
        "type",
        "status",
        "sourceSize",
        "buildSize",
        "totalSize",
        "buildDuration",
    )
} | {"size": "sourceSize", "buildTime": "buildDuration"}
"""What lists can be filtered and ordered by: as clients call it, and in the newest model."""

operations = Operations()


@operations.add(
    "functions.listDeployments",
    "GET /functions/{functionId}/deployments",
    access=DEPLOYMENT_LIST,
    parameters=(path("functionId"), *listing.PARAMETERS),
    returns="deploymentList",
)
async def list_(context: Context) -> Answer:
    """Return a page of a function's deployments."""
    function = context.app[CATALOG].function(context.project, context.text("functionId"))
    found = context.app[CATALOG].deployments(function)
    views = [models_deployments.view(item, function_id=function.appwrite_id) for item in found]
    by_id = {view.id: view for view in views}
    content = listing.page(
        [models_deployments.model(view, Format.V1_7) for view in views],
        context.arguments,
        plural="deployments",
        attributes=ATTRIBUTES,
        searched=("$id", "entrypoint"),
        show=lambda item: models_deployments.model(by_id[item["$id"]], context.format),
    )
    return Answer(content=content)


@operations.add(
    "functions.getDeployment",
    "GET /functions/{functionId}/deployments/{deploymentId}",
    access=DEPLOYMENT_GET,
    parameters=(path("functionId"), path("deploymentId")),
    returns="deployment",
)
async def get(context: Context) -> Answer:
    """Return one deployment, or the upload that is to be one."""
    function = context.app[CATALOG].function(context.project, context.text("functionId"))
    try:
        deployment = await deployments.find(context.app, function, context.text("deploymentId"))
    except AppwriteError:
        upload = await _unfinished(context, function.metadata.uid)
        view = models_deployments.upload_view(upload, function_id=function.appwrite_id)
    else:
        view = await deployments.whole_view(context.app, function, deployment)
    return Answer(content=models_deployments.model(view, context.format))


@operations.add(
    "functions.deleteDeployment",
    "DELETE /functions/{functionId}/deployments/{deploymentId}",
    access=DEPLOYMENT_DELETE,
    parameters=(path("functionId"), path("deploymentId")),
    status=204,
)
async def delete(context: Context) -> Answer:
    """Delete a deployment; calls go to the one that was active before it."""
    app = context.app
    function = app[CATALOG].function(context.project, context.text("functionId"))
    try:
        deployment = await deployments.find(app, function, context.text("deploymentId"))
    except AppwriteError:
        upload = await _unfinished(context, function.metadata.uid)
        await app[UPLOADS].drop(context.project.namespace, upload.upload.id)
    else:
        key, uid = deployment.metadata.key, deployment.metadata.uid
        await app[SURROUNDINGS].cluster.delete(DEPLOYMENT, key, uid=uid)
        await own_writes.gone(app[CATALOG], DEPLOYMENT, key, uid=uid)
    return Answer(status=204)


async def _unfinished(context: Context, function_uid: str) -> Found:
    """Return the upload that a path names.

    Raises:
        AppwriteError: deployment_not_found, also where it is done: then its Deployment was deleted.
    """
    found = await context.app[UPLOADS].find(context.project.namespace, context.text("deploymentId"))
    if found is None or found.done or found.upload.function_uid != function_uid:
        raise AppwriteError(Problem.DEPLOYMENT_NOT_FOUND)
    return found
