"""Artifacts and builds, for the operator and for build pods; a build pod reaches its own namespace alone."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from appfn.shim import http
from appfn.shim.artifact_cache import LARGEST
from appfn.shim.errors import AppwriteError, Problem, invalid_argument
from appfn.shim.internal import access
from appfn.shim.services import ARTIFACT_CACHE, ARTIFACTS, CATALOG, CONFIG
from appfn.store.artifacts import (
    ArtifactAddressError,
    BuildOutput,
    DigestMismatchError,
)
from appfn.store.objects import ArtifactNotFoundError, ArtifactTooLargeError

routes = web.RouteTableDef()

IDLE_SECONDS = 30.0
"""An upload that brings nothing for so long is given up."""
_CHUNK = 262_144
_MAX_LINES = 10_000


@routes.put("/internal/v1/artifacts/{namespace}")
async def put_artifact(request: web.Request) -> web.Response:
    """Store the request's body; 201 with its digest and size."""
    namespace = request.match_info["namespace"]
    await access.operator_or_build(request, namespace)
    if request.app[CATALOG].project_of(namespace) is None:
        raise AppwriteError(Problem.INTERNAL_NOT_FOUND, f"Namespace {namespace!r} is not a project.")
    limit = request.app[CONFIG].max_artifact_bytes
    expected = request.headers.get("X-Appfn-Digest")
    copy = _Copy()
    try:
        pieces = copy.of(_received(request))
        stored = await request.app[ARTIFACTS].put(namespace, pieces, limit=limit, expected=expected)
    except ArtifactTooLargeError as error:
        raise AppwriteError(Problem.PAYLOAD_TOO_LARGE, f"An artifact may have {limit} bytes.") from error
    except DigestMismatchError as error:
        raise AppwriteError(Problem.INTERNAL_DIGEST_MISMATCH, str(error)) from error
    except ArtifactAddressError as error:
        raise AppwriteError(Problem.ARGUMENT_INVALID, str(error)) from error
    if (content := copy.content) is not None:
        request.app[ARTIFACT_CACHE].keep(namespace, stored.digest, content)
    return http.reply(stored.to_json(), status=201)


@routes.get("/internal/v1/artifacts/{namespace}/{digest}", allow_head=False)
async def get_artifact(request: web.Request) -> web.StreamResponse:
    """Return an artifact; with `tailLines`, only the last lines of a text."""
    namespace, digest = request.match_info["namespace"], request.match_info["digest"]
    await access.operator_or_build(request, namespace)
    try:
        if "tailLines" in request.query:
            lines = http.number(request, "tailLines", default=0, low=0, high=_MAX_LINES)
            return web.Response(text=await request.app[ARTIFACTS].tail(namespace, digest, lines=lines))
        size, content = await request.app[ARTIFACTS].open_artifact(namespace, digest)
    except ArtifactNotFoundError as error:
        raise AppwriteError(Problem.INTERNAL_NOT_FOUND, str(error)) from error
    except ArtifactAddressError as error:
        raise AppwriteError(Problem.ARGUMENT_INVALID, str(error)) from error
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    return await http.stream(request, content, headers=headers)


@routes.get("/internal/v1/builds/{namespace}/{key}")
async def get_build(request: web.Request) -> web.Response:
    """Return what an earlier build of the same key made; 404 where there was none."""
    namespace = request.match_info["namespace"]
    await access.operator_or_build(request, namespace)
    try:
        output = await request.app[ARTIFACTS].get_build(namespace, request.match_info["key"])
    except ArtifactAddressError as error:
        raise AppwriteError(Problem.ARGUMENT_INVALID, str(error)) from error
    if output is None:
        raise AppwriteError(Problem.INTERNAL_NOT_FOUND, "There is no build of this key.")
    return http.reply(output.to_json())


@routes.put("/internal/v1/builds/{namespace}/{key}")
async def put_build(request: web.Request) -> web.Response:
    """Remember what a build made. The operator's alone: a build pod could pass off any artifact as any build's."""
    await access.operator(request)
    namespace = request.match_info["namespace"]
    body = await http.read_json(request)
    try:
        output = BuildOutput.model_validate(body)
    except ValueError as error:
        raise invalid_argument("artifact", "Value must hold a digest and a size") from error
    try:
        await request.app[ARTIFACTS].put_build(namespace, request.match_info["key"], output)
    except ArtifactAddressError as error:
        raise AppwriteError(Problem.ARGUMENT_INVALID, str(error)) from error
    return http.reply(output.to_json())


class _Copy:
    """What passes by, as long as it is little."""

    def __init__(self) -> None:
        self._content: bytearray | None = bytearray()

    @property
    def content(self) -> bytes | None:
        """All of it; None where it was much."""
        return None if self._content is None else bytes(self._content)

    async def of(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass pieces on."""
        async for piece in pieces:
            if self._content is not None:
                self._content += piece
                if len(self._content) > LARGEST:
                    self._content = None
            yield piece


async def _received(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes; one that stalls is given up."""
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                piece = await request.content.read(_CHUNK)
        except TimeoutError as error:
            message = f"The upload stalled for {IDLE_SECONDS:g} seconds."
            raise AppwriteError(Problem.ARGUMENT_INVALID, message) from error
        if not piece:
            return
        yield piece
