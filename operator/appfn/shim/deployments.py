"""Deployments as the API finds, makes and shows them."""

import re
from contextlib import suppress

from aiohttp import web

from appfn import names
from appfn.api.base import Json
from appfn.api.deployment import Deployment
from appfn.api.function import Function
from appfn.api.kinds import DEPLOYMENT, Key
from appfn.api.runtime import Architecture
from appfn.core import activation
from appfn.core.manifests.deployment import NewDeployment, api_deployment
from appfn.errors import ConflictError, RejectedError, TransientError
from appfn.shim import models_deployments, own_writes
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.models_deployments import View
from appfn.shim.services import ARTIFACTS, CATALOG, SURROUNDINGS
from appfn.store.objects import ArtifactNotFoundError

MAX_LOG = 1_000_000
"""Bytes of a build log that are shown, as in Appwrite."""
_ID = re.compile(r"[0-9a-f]{20}")


async def find(app: web.Application, function: Function, id_: str) -> Deployment:
    """Return a deployment of a function by its Appwrite id.

    Raises:
        AppwriteError: deployment_not_found.
        TransientError: the API server can't say.
    """
    found = next((item for item in app[CATALOG].deployments(function) if item.appwrite_id == id_), None)
    return found or await read(app, function, id_)


async def read(app: web.Application, function: Function, id_: str) -> Deployment:
    """As `find`, from Kubernetes itself: one that another replica has just made may not be in our catalog yet."""
    if not _ID.fullmatch(id_):
        raise AppwriteError(Problem.DEPLOYMENT_NOT_FOUND)
    key = Key(function.metadata.namespace, names.api_deployment(function.metadata.name, id_))
    body = await app[SURROUNDINGS].cluster.get(DEPLOYMENT, key)
    found = Deployment.parse(body) if body is not None else None
    if found is None or found.spec.id != id_ or activation.leaving(found, function):
        raise AppwriteError(Problem.DEPLOYMENT_NOT_FOUND)
    return found


async def create(
    app: web.Application,
    function: Function,
    *,
    id_: str,
    source: Json,
    entrypoint: str,
    commands: str,
    activate: bool,
) -> Deployment:
    """Make a deployment; of several that do so with one id, all get the same.

    Raises:
        AppwriteError: general_argument_invalid, where the API server does not take it.
        TransientError: not now.
    """
    now, cluster = app[SURROUNDINGS].now(), app[SURROUNDINGS].cluster
    new = NewDeployment(
        id=id_,
        source=source,
        entrypoint=entrypoint,
        commands=commands,
        activate=activate,
        turn=activation.next_turn(app[CATALOG].deployments(function), now),
    )
    manifest = api_deployment(function, new)
    try:
        made = await cluster.create(DEPLOYMENT, manifest, manager=names.FIELD_MANAGER_API)
    except ConflictError as error:
        there = await cluster.get(DEPLOYMENT, Key(function.metadata.namespace, manifest["metadata"]["name"]))
        if there is None or there["spec"].get("id") != id_:
            raise TransientError(str(error)) from error
        made = there
    except RejectedError as error:
        raise AppwriteError(Problem.ARGUMENT_INVALID, f"Kubernetes does not take the deployment: {error}") from error
    await own_writes.seen(app[CATALOG], DEPLOYMENT, made)
    return Deployment.parse(made)


async def whole_view(app: web.Application, function: Function, deployment: Deployment) -> View:
    """Return what there is to show of a deployment, its whole build log included."""
    logs: dict[Architecture, str] = {}
    for build in deployment.status.builds:
        if build.log is not None:
            with suppress(ArtifactNotFoundError, TransientError):  # the last lines are shown instead
                text = await app[ARTIFACTS].text(deployment.metadata.namespace, build.log.digest, most=MAX_LOG)
                logs[build.architecture] = text
    return models_deployments.view(deployment, function_id=function.appwrite_id, logs=logs)
