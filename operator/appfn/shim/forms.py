"""Multipart forms with one file, which goes to the disk as it comes; everything in them is hostile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import BodyPartReader, ClientError, MultipartReader, web
from aiohttp.http_exceptions import BadHttpMessage

from appfn.api.base import Json
from appfn.shim.errors import AppwriteError, Problem, invalid_argument
from appfn.store.objects import Objects, Spooled

IDLE_SECONDS = 30.0
"""A form that brings nothing for so long is given up."""
TOTAL_SECONDS = 900.0
"""So is one that has not come whole by then."""
_FIELDS = 16
_FIELD_BYTES = 65_536
_CHUNK = 262_144
_NO_MULTIPART = "The request must be multipart/form-data, with the file in the part `code`."
_BAD = (ValueError, RuntimeError, BadHttpMessage, ConnectionError, ClientError, Warning)
"""What aiohttp raises for a malformed or lost form; it only warns of headers it can't read, unless told otherwise."""
_BROKEN = "The multipart form is malformed or broke off."


@dataclass(slots=True, kw_only=True)
class Form:
    """What a form holds."""

    fields: Json = field(default_factory=dict)
    """Texts by name."""
    file: Spooled | None = None
    """Gone once the form is left."""
    filename: str = ""
    """As the client says; no path of ours."""


@asynccontextmanager
async def received(request: web.Request, objects: Objects, *, name: str, limit: int) -> AsyncIterator[Form]:
    """Yield the form that a request's body is.

    Args:
        request: whose body has not been read.
        objects: where the file is spooled.
        name: of the part that holds the file; in any place among the others.
        limit: bytes of the largest file.

    Raises:
        AppwriteError: general_argument_invalid.
        ArtifactTooLargeError: the file is larger.
    """
    if request.content_type != "multipart/form-data":
        raise AppwriteError(Problem.FILE_EMPTY, _NO_MULTIPART)
    async with AsyncExitStack() as stack:
        form = Form()
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                async for part in _parts(await request.multipart()):
                    if part.name != name:
                        await _take_field(form, part)
                    elif part.filename is not None:  # else it is no file, and passed over
                        await _take_file(form, part, stack, objects, limit)
        except TimeoutError as error:
            message = f"The form stalled for {IDLE_SECONDS:g} seconds, or took more than {TOTAL_SECONDS:g}."
            raise AppwriteError(Problem.ARGUMENT_INVALID, message) from error
        except _BAD as error:
            raise AppwriteError(Problem.ARGUMENT_INVALID, _BROKEN) from error
        yield form


async def _parts(reader: MultipartReader) -> AsyncIterator[BodyPartReader]:
    for _ in range(_FIELDS):
        async with asyncio.timeout(IDLE_SECONDS):
            part = await reader.next()
        if part is None:
            return
        if not isinstance(part, BodyPartReader):
            raise AppwriteError(Problem.ARGUMENT_INVALID, "A form within a form is not supported.")
        yield part
    raise AppwriteError(Problem.ARGUMENT_INVALID, f"A form may have {_FIELDS} parts.")


async def _take_file(form: Form, part: BodyPartReader, stack: AsyncExitStack, objects: Objects, limit: int) -> None:
    if form.file is not None:
        raise invalid_argument(part.name or "", "Value must be one file")
    form.filename = part.filename or ""
    form.file = await stack.enter_async_context(objects.spooled(_pieces(part), limit=limit))


async def _take_field(form: Form, part: BodyPartReader) -> None:
    name = part.name or ""
    content = bytearray()
    async for piece in _pieces(part):
        content += piece
        if len(content) > _FIELD_BYTES:
            raise invalid_argument(name, f"Value must have {_FIELD_BYTES} bytes at most")
    form.fields[name] = content.decode()


async def _pieces(part: BodyPartReader) -> AsyncIterator[bytes]:
    while not part.at_eof():
        async with asyncio.timeout(IDLE_SECONDS):
            piece = await part.read_chunk(_CHUNK)
        if piece:
            yield piece
