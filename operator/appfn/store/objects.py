"""Files in any obstore backend, written whole or not at all: what comes in is spooled to a local file first."""

import asyncio
import contextlib
import hashlib
import os
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from appfn.errors import AppfnError, ConfigError, TransientError

_CHUNK = 1024 * 1024
_HEAD_BYTES = 2
_SPOOL_AGE = 3600.0
"""Seconds after which a file in the spool belongs to an upload that died: uploads are shorter."""


class ArtifactNotFoundError(AppfnError):
    """There is no such file."""


class ArtifactTooLargeError(AppfnError):
    """More bytes came than allowed; nothing was stored."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """A file that came in, on the local disk."""

    path: Path
    digest: str
    """`sha256:` and 64 hex digits."""
    size: int
    head: bytes
    """Its first two bytes, by which its kind is told."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A file as a listing tells of it."""

    path: str
    size: int
    stored_at: datetime


class Objects:
    """See the module. Made by `open_objects`; every method may raise TransientError, when the backend fails."""

    def __init__(self, store: ObjectStore, spool: Path) -> None:
        self._store = store
        self._spool = spool

    @asynccontextmanager
    async def spooled(self, stream: AsyncIterable[bytes], *, limit: int) -> AsyncIterator[Spooled]:
        """Yield a stream of at most `limit` bytes as a local file, which is gone after the context.

        Raises:
            ArtifactTooLargeError: more came.
        """
        path = self._spool / f"{uuid.uuid4().hex}.part"
        try:
            yield await _receive(stream, path, limit=limit)
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def publish(self, file: Spooled, path: str) -> None:
        """Store a spooled file, in place of what was there; others see it whole or not at all. Once for each file."""
        with errors(path):
            if not isinstance(self._store, LocalStore):
                await obstore.put_async(self._store, path, file.path)
                return
            await obstore.rename_async(self._store, f"spool/{file.path.name}", path)
        await asyncio.to_thread(_sync, self._spool.parent / path)

    async def write(self, path: str, content: bytes) -> None:
        """Store a few bytes, in place of what was there."""
        with errors(path):
            await obstore.put_async(self._store, path, content)

    async def read(self, path: str) -> bytes:
        """Return a small file; raises as `open`."""
        with errors(path):
            return bytes(await (await obstore.get_async(self._store, path)).bytes_async())

    async def read_range(self, path: str, *, start: int, end: int) -> bytes:
        """Return the bytes from `start` to before `end`; raises as `open`."""
        with errors(path):
            return bytes(await obstore.get_range_async(self._store, path, start=start, end=end))

    async def open(self, path: str, *, start: int = 0, end: int | None = None) -> tuple[int, AsyncIterator[bytes]]:
        """Return size and content, or the content from `start` to before `end`.

        Raises:
            ArtifactNotFoundError: there is no such file.
        """
        with errors(path):
            options: obstore.GetOptions = {"range": (start, end)} if end is not None else {}
            result = await obstore.get_async(self._store, path, options=options)
        return result.meta["size"], _stream(result, path)

    async def head(self, path: str) -> StoredObject:
        """Return what is known of a file without its content; raises as `open`."""
        with errors(path):
            meta = await obstore.head_async(self._store, path)
        return StoredObject(path, meta["size"], meta["last_modified"])

    async def delete(self, path: str) -> None:
        """Delete a file; it may be gone already."""
        with contextlib.suppress(ArtifactNotFoundError), errors(path):
            await obstore.delete_async(self._store, path)

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Yield the files below a folder, in no order; `prefix` ends with a slash."""
        with errors(prefix):
            async for objects in obstore.list(self._store, prefix=prefix):
                for item in objects:
                    yield StoredObject(item["path"], item["size"], item["last_modified"])

    async def folders(self, root: str) -> set[str]:
        """Return the names of the folders right below a folder."""
        with errors(root):
            listing = await obstore.list_with_delimiter_async(self._store, prefix=root)
        return {prefix.removeprefix(f"{root}/") for prefix in listing["common_prefixes"]}


async def open_objects(url: str, *, spool: Path) -> Objects:
    """Open the store at an obstore URL (`file:///…`, `s3://…`, `gs://…`, `az://…`).

    Args:
        url: where; credentials come from the environment as obstore reads them.
        spool: folder for uploads under way; a `file:` store spools inside itself, to rename instead of copying.

    Raises:
        ConfigError: when the URL cannot be used.
    """
    try:
        return await asyncio.to_thread(_open, url, spool)
    except (BaseError, ValueError, OSError) as error:
        raise ConfigError(f"APPFN_ARTIFACTS_URL: {error}") from error


@contextlib.contextmanager
def errors(what: str) -> Iterator[None]:
    """Turn obstore's errors into ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise ArtifactNotFoundError(f"no {what}") from error
    except (BaseError, OSError) as error:
        raise TransientError(f"the artifact store failed: {error}") from error


def _open(url: str, spool: Path) -> Objects:
    parts = urlsplit(url)
    if parts.scheme == "file":
        spool = Path(unquote(parts.path)) / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    for path in spool.glob("*.part"):
        with contextlib.suppress(FileNotFoundError):  # another process that starts does the same
            if path.stat().st_mtime < time.time() - _SPOOL_AGE:
                path.unlink()
    return Objects(from_url(url), spool)


async def _receive(stream: AsyncIterable[bytes], path: Path, *, limit: int) -> Spooled:
    digest = hashlib.sha256()
    size, head = 0, b""

    def write(file: IO[bytes], content: bytes) -> None:
        digest.update(content)
        file.write(content)

    with await asyncio.to_thread(path.open, "xb") as file:
        async for content in _regrouped(stream):
            size += len(content)
            if size > limit:
                raise ArtifactTooLargeError(f"larger than the limit of {limit} bytes")
            head = (head + content[:_HEAD_BYTES])[:_HEAD_BYTES]
            await asyncio.to_thread(write, file, content)
        await asyncio.to_thread(_flush, file)
    return Spooled(path, f"sha256:{digest.hexdigest()}", size, head)


async def _regrouped(stream: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield the stream in pieces of about a mebibyte, as each is handed to a thread."""
    pieces = bytearray()
    async for piece in stream:
        pieces += piece
        if len(pieces) >= _CHUNK:
            yield bytes(pieces)
            pieces.clear()
    if pieces:
        yield bytes(pieces)


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync(path: Path) -> None:
    """Make the names that lead to a file durable; its content already is."""
    for folder in (path.parent, path.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


async def _stream(result: "obstore.GetResult", path: str) -> AsyncIterator[bytes]:
    with errors(path):
        async for content in result.stream(min_chunk_size=_CHUNK):
            yield content
