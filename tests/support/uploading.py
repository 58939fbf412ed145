"""Uploads of deployments as Appwrite's SDKs send them."""

import gzip
import io
import random
import tarfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from support.shim_client import Client
from support.shim_server import Reply

CHUNK = 5 * 1024 * 1024
_BOUNDARY = "xxBOUNDARYxx"


def tarball(size: int) -> bytes:
    """Return a gzip tarball with a file of so many bytes that can't be compressed; the same for the same size."""
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in (
            ("main.py", b"def main(req, res): res.send('hi')\n"),
            ("blob", random.Random(size).randbytes(size)),  # noqa: S311 - noise, no secret
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def form(
    content: bytes | None,
    fields: Mapping[str, str],
    *,
    filename: str | None = "code.tar.gz",
    file_first: bool = False,
) -> bytes:
    """Return a multipart form; the file stands last unless it is to be first."""
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{text}'.encode() for name, text in fields.items()]
    if content is not None:
        said = 'Content-Disposition: form-data; name="code"' + (f'; filename="{filename}"' if filename else "")
        file = f"{said}\r\nContent-Type: application/gzip\r\n\r\n".encode() + content
        parts = [file, *parts] if file_first else [*parts, file]
    line = f"--{_BOUNDARY}\r\n".encode()
    return b"".join(line + part + b"\r\n" for part in parts) + f"--{_BOUNDARY}--\r\n".encode()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a file and how a client says which."""

    content: bytes
    range: str


def chunks(content: bytes, *, past_end: bool = False) -> list[Chunk]:
    """Cut a file as SDKs do; `past_end`: those before 1.4, which end the last part with the file's size."""
    total = len(content)
    found = []
    for start in range(0, total, CHUNK):
        piece = content[start : start + CHUNK]
        end = start + len(piece) - 1
        last = start + CHUNK >= total
        if past_end and last and len(piece) < CHUNK:
            end = total
        found.append(Chunk(piece, f"bytes {start}-{end}/{total}"))
    return found


@dataclass(frozen=True, slots=True)
class Uploader:
    """Uploads to one function."""

    client: Client
    function: str = "hello"

    async def send(self, body: bytes, *, streamed: bool = False, **headers: str) -> Reply:
        """Post a form; `streamed`: without saying its length, in pieces."""
        sent = {"Content_Type": f"multipart/form-data; boundary={_BOUNDARY}", **headers}
        data = _pieces(body) if streamed else io.BytesIO(body)
        return await self.client.call("POST", f"/v1/functions/{self.function}/deployments", data, **sent)

    async def whole(self, content: bytes, **fields: str) -> Reply:
        """Upload in one request."""
        return await self.send(form(content, {"activate": "true", **fields}))

    async def part(self, chunk: Chunk, id_: str = "") -> Reply:
        """Upload a part."""
        body = form(chunk.content, {"activate": "true", "entrypoint": "main.py"})
        if id_:
            return await self.send(body, Content_Range=chunk.range, X_Appwrite_ID=id_)
        return await self.send(body, Content_Range=chunk.range)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 65_536):
        yield body[start : start + 65_536]
