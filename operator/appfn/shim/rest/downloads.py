"""Downloads of a deployment's code, as it was uploaded or as it was built."""

import re
from collections.abc import AsyncIterator

from aiohttp import web

from appfn.api.deployment import Deployment
from appfn.shim import deployments, http
from appfn.shim.auth.access import DEPLOYMENT_GET
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.rest.admission import admit, format_of
from appfn.shim.rest.operation import Answer, Context, In, Operations, Parameter, path
from appfn.shim.services import ARTIFACTS, CATALOG
from appfn.store.objects import ArtifactNotFoundError

SOURCE, OUTPUT = "source", "output"
_OUTPUT_ALIAS = "/build/download"
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.ASCII)
_PARTIAL = 206

operations = Operations()


async def send(request: web.Request) -> web.StreamResponse:
    """Send the file, or the range of it that was asked for."""
    project, caller = await admit(request, DEPLOYMENT_GET)
    kind = OUTPUT if request.path.endswith(_OUTPUT_ALIAS) else SOURCE
    context = Context(
        app=request.app,
        request=request,
        project=project,
        caller=caller,
        format=format_of(request),
        arguments={"type": kind, **request.query, **request.match_info},
    )
    answer = await download(context)
    digest, size = answer.headers["ETag"].strip('"'), int(answer.headers["Content-Length"])
    asked = _asked(request.headers.get("Range", ""), size)
    start, end = asked or (0, size)
    headers = answer.headers | {"Content-Length": str(end - start)}
    if asked is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    pieces = await _pieces(context, digest, start=start, end=end)
    return await http.stream(request, pieces, headers=headers, status=answer.status if asked is None else _PARTIAL)


@operations.add(
    "functions.getDeploymentDownload",
    "GET /functions/{functionId}/deployments/{deploymentId}/download",
    access=DEPLOYMENT_GET,
    parameters=(
        path("functionId"),
        path("deploymentId"),
        Parameter(name="type", where=In.QUERY, choices=(SOURCE, OUTPUT), about="What was uploaded, or what was built."),
        Parameter(name="token", where=In.QUERY, about="Takes no part."),
    ),
    aliases=(("GET", f"/functions/{{functionId}}/deployments/{{deploymentId}}{_OUTPUT_ALIAS}"),),
    route=send,
    graphql=False,
)
async def download(context: Context) -> Answer:
    """Download the code of a deployment."""
    function = context.app[CATALOG].function(context.project, context.text("functionId"))
    deployment = await deployments.find(context.app, function, context.text("deploymentId"))
    kind = context.text("type", SOURCE)
    digest = _digest(deployment, kind)
    try:
        size = await context.app[ARTIFACTS].size(context.project.namespace, digest)
    except ArtifactNotFoundError as error:
        raise _nothing(kind) from error
    headers = {
        "Content-Type": "application/gzip",
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{deployment.appwrite_id}-{kind}.tar.gz"',
        "Cache-Control": "private, max-age=3888000",
        "Accept-Ranges": "bytes",
        "ETag": f'"{digest}"',
    }
    return Answer(headers=headers)


def _digest(deployment: Deployment, kind: str) -> str:
    artifact = deployment.spec.source.artifact
    match kind:
        case "source":
            found = artifact.digest if artifact is not None else deployment.status.source_digest
        case "output":
            built = [build.artifact.digest for build in deployment.status.builds if build.artifact is not None]
            found = built[0] if built else ""
        case _:
            raise AppwriteError(Problem.ARGUMENT_INVALID, "Invalid deployment download type.")
    if not found:
        raise _nothing(kind)
    return found


def _nothing(kind: str) -> AppwriteError:
    why = "it was not uploaded, so look where its spec.source says" if kind == SOURCE else "there is no ready build"
    return AppwriteError(Problem.DEPLOYMENT_NOT_FOUND, f"The {kind} of this deployment is not stored here: {why}.")


async def _pieces(context: Context, digest: str, *, start: int, end: int) -> AsyncIterator[bytes]:
    namespace = context.project.namespace
    return await context.app[ARTIFACTS].open_range(namespace, digest, start=start, end=end)


def _asked(header: str, size: int) -> tuple[int, int] | None:
    """Return start and end of the one range that a header asks for; None for the whole file.

    Raises:
        AppwriteError: storage_invalid_range.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last) + 1, size) if first and last else size
    if start >= end:
        raise AppwriteError(Problem.INVALID_RANGE)
    return start, end
