"""The artifact store: tarballs and build logs by their sha256, and which build made what, in any obstore backend.

Objects: `artifacts/<namespace>/<sha256 hex>` and `builds/<namespace>/<build key>.json`. A namespace is part of every
address, so that one project can neither read another's code nor learn by a digest that it exists.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url
from pydantic import ValidationError

from appfn.api.base import Model
from appfn.api.deployment import Artifact
from appfn.errors import AppfnError, ConfigError, TransientError

_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_KEY = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1024 * 1024
_TAIL_BYTES = 64 * 1024
_SPOOL_AGE = 3600.0
"""Seconds after which a file in the spool belongs to an upload that died: uploads are shorter."""


class ArtifactAddressError(AppfnError):
    """A namespace, digest or build key is malformed."""


class ArtifactNotFoundError(AppfnError):
    """There is no such artifact in this namespace."""


class ArtifactTooLargeError(AppfnError):
    """More bytes came than allowed; nothing was stored."""


class DigestMismatchError(AppfnError):
    """The bytes are not those of the digest that was promised; nothing was stored."""


class BuildOutput(Model):
    """What an earlier build made."""

    artifact: Artifact
    log: Artifact | None = None


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """An artifact as the sweep of unreferenced ones sees it."""

    digest: str
    size: int
    stored_at: datetime
    """Of the newest `put`: an artifact stored a moment ago may not be referenced yet."""


class ArtifactStore:
    """Content-addressed files per namespace.

    Every method may raise ArtifactAddressError, and TransientError when the backend fails.
    """

    def __init__(self, store: ObjectStore, spool: Path) -> None:
        self._store = store
        self._spool = spool

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, spool: Path) -> AsyncIterator[Self]:
        """Open the store at an obstore URL (`file:///…`, `s3://…`, `gs://…`, `az://…`).

        Args:
            url: where; credentials come from the environment as obstore reads them.
            spool: folder for uploads under way; a `file:` store spools inside itself, to rename instead of copying.

        Raises:
            ConfigError: when the URL cannot be used.
        """
        try:
            store, spool = await asyncio.to_thread(_open, url, spool)
        except (BaseError, ValueError, OSError) as error:
            raise ConfigError(f"APPFN_ARTIFACTS_URL: {error}") from error
        yield cls(store, spool)

    async def put(
        self,
        namespace: str,
        stream: AsyncIterable[bytes],
        *,
        limit: int,
        expected: str | None = None,
    ) -> Artifact:
        """Store a stream of at most `limit` bytes; seen by others only once it is whole. Repeating it is harmless.

        Raises:
            ArtifactTooLargeError: more than `limit` bytes came.
            DigestMismatchError: the content's digest is not `expected`.
        """
        folder = _folder(namespace)
        if expected is not None:
            _hex(expected)
        path = self._spool / f"{uuid.uuid4().hex}.part"
        try:
            artifact = await _spool(stream, path, limit=limit)
            if expected is not None and artifact.digest != expected:
                raise DigestMismatchError(f"the content is {artifact.digest}, not {expected}")
            # Also where the object exists already: the new time of storage keeps the sweep away from it.
            await self._publish(path, f"{folder}/{_hex(artifact.digest)}")
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        return artifact

    async def open_artifact(self, namespace: str, digest: str) -> tuple[int, AsyncIterator[bytes]]:
        """Return size and content of an artifact.

        Raises:
            ArtifactNotFoundError: there is none.
        """
        path = _path(namespace, digest)
        with _errors(digest):
            result = await obstore.get_async(self._store, path)
        return result.meta["size"], _stream(result, digest)

    async def tail(self, namespace: str, digest: str, *, lines: int) -> str:
        """Return the last lines of a text (of its last 64 KiB); other bytes of the object are not read.

        Raises:
            ArtifactNotFoundError: there is none.
        """
        path = _path(namespace, digest)
        with _errors(digest):
            size = (await obstore.head_async(self._store, path))["size"]
            if not size or lines < 1:
                return ""
            start = max(0, size - _TAIL_BYTES)
            content = bytes(await obstore.get_range_async(self._store, path, start=start, end=size))
        found = content.decode(errors="replace").splitlines()
        whole = found[1:] if start and len(found) > 1 else found
        return "\n".join(whole[-lines:])

    async def get_build(self, namespace: str, key: str) -> BuildOutput | None:
        """Return what the build of this key made, None where there was none or its artifact is gone."""
        path = _build_path(namespace, key)
        try:
            with _errors(key):
                content = bytes(await (await obstore.get_async(self._store, path)).bytes_async())
            output = BuildOutput.model_validate_json(content)
        except (ArtifactNotFoundError, ValidationError):
            return None
        if not await self.exists(namespace, output.artifact.digest):
            return None
        if output.log is not None and not await self.exists(namespace, output.log.digest):
            return BuildOutput(artifact=output.artifact)
        return output

    async def put_build(self, namespace: str, key: str, output: BuildOutput) -> None:
        """Remember what the build of this key made, in place of what was known."""
        content = json.dumps(output.to_json()).encode()
        with _errors(key):
            await obstore.put_async(self._store, _build_path(namespace, key), content)

    async def exists(self, namespace: str, digest: str) -> bool:
        """Tell whether the artifact is there."""
        try:
            with _errors(digest):
                await obstore.head_async(self._store, _path(namespace, digest))
        except ArtifactNotFoundError:
            return False
        return True

    async def delete(self, namespace: str, digest: str, *, stored_before: datetime | None = None) -> None:
        """Delete an artifact, one that was stored again since `stored_before` excepted; it may be gone already."""
        path = _path(namespace, digest)
        with contextlib.suppress(ArtifactNotFoundError), _errors(digest):
            if stored_before is None or (await obstore.head_async(self._store, path))["last_modified"] < stored_before:
                await obstore.delete_async(self._store, path)

    async def list_artifacts(self, namespace: str) -> AsyncIterator[StoredArtifact]:
        """Yield all artifacts of a namespace, in no order."""
        prefix = f"{_folder(namespace)}/"
        with _errors(namespace):
            async for objects in obstore.list(self._store, prefix=prefix):
                for item in objects:
                    digest = f"sha256:{item['path'].removeprefix(prefix)}"
                    if _DIGEST.fullmatch(digest):
                        yield StoredArtifact(digest, item["size"], item["last_modified"])

    async def namespaces(self) -> set[str]:
        """Return the namespaces of which there is anything."""
        found: set[str] = set()
        for root in ("artifacts", "builds"):
            with _errors(root):
                listing = await obstore.list_with_delimiter_async(self._store, prefix=root)
            found |= {prefix.removeprefix(f"{root}/") for prefix in listing["common_prefixes"]}
        return {namespace for namespace in found if _NAMESPACE.fullmatch(namespace)}

    async def built(self, namespace: str) -> set[str]:
        """Return the digests of all that builds of a namespace are remembered by: artifacts and logs."""
        digests: set[str] = set()
        for path in await self._builds(namespace):
            with contextlib.suppress(ArtifactNotFoundError, ValidationError), _errors(path):
                content = bytes(await (await obstore.get_async(self._store, path)).bytes_async())
                output = BuildOutput.model_validate_json(content)
                digests |= {item.digest for item in (output.artifact, output.log) if item is not None}
        return digests

    async def forget_builds(self, namespace: str) -> bool:
        """Forget what the builds of a namespace have made, not the artifacts; tell whether there was anything."""
        paths = await self._builds(namespace)
        for path in paths:
            with contextlib.suppress(ArtifactNotFoundError), _errors(path):
                await obstore.delete_async(self._store, path)
        return bool(paths)

    async def _builds(self, namespace: str) -> list[str]:
        _folder(namespace)
        with _errors(namespace):
            return [
                item["path"]
                async for objects in obstore.list(self._store, prefix=f"builds/{namespace}/")
                for item in objects
            ]

    async def _publish(self, path: Path, key: str) -> None:
        with _errors(key):
            if not isinstance(self._store, LocalStore):
                await obstore.put_async(self._store, key, path)
                return
            await obstore.rename_async(self._store, f"spool/{path.name}", key)
        await asyncio.to_thread(_sync, self._spool.parent / key)


def _open(url: str, spool: Path) -> tuple[ObjectStore, Path]:
    parts = urlsplit(url)
    if parts.scheme == "file":
        spool = Path(unquote(parts.path)) / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    for path in spool.glob("*.part"):
        with contextlib.suppress(FileNotFoundError):  # another process that starts does the same
            if path.stat().st_mtime < time.time() - _SPOOL_AGE:
                path.unlink()
    return from_url(url), spool


async def _spool(stream: AsyncIterable[bytes], path: Path, *, limit: int) -> Artifact:
    digest = hashlib.sha256()
    size = 0

    def write(file: IO[bytes], content: bytes) -> None:
        digest.update(content)
        file.write(content)

    with await asyncio.to_thread(path.open, "xb") as file:
        async for content in _regrouped(stream):
            size += len(content)
            if size > limit:
                raise ArtifactTooLargeError(f"larger than the limit of {limit} bytes")
            await asyncio.to_thread(write, file, content)
        await asyncio.to_thread(_flush, file)
    return Artifact(digest=f"sha256:{digest.hexdigest()}", size=size)


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


async def _stream(result: "obstore.GetResult", digest: str) -> AsyncIterator[bytes]:
    with _errors(digest):
        async for content in result.stream(min_chunk_size=_CHUNK):
            yield content


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    """Turn obstore's errors into ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise ArtifactNotFoundError(f"no {what}") from error
    except (BaseError, OSError) as error:
        raise TransientError(f"the artifact store failed: {error}") from error


def _folder(namespace: str) -> str:
    if not _NAMESPACE.fullmatch(namespace):
        raise ArtifactAddressError(f"{namespace!r} is not a namespace")
    return f"artifacts/{namespace}"


def _hex(digest: str) -> str:
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise ArtifactAddressError(f"{digest!r} is not a digest: sha256: and 64 hex digits in lower case")
    return match.group(1)


def _path(namespace: str, digest: str) -> str:
    return f"{_folder(namespace)}/{_hex(digest)}"


def _build_path(namespace: str, key: str) -> str:
    _folder(namespace)
    if not _KEY.fullmatch(key):
        raise ArtifactAddressError(f"{key!r} is not a build key: 64 hex digits in lower case")
    return f"builds/{namespace}/{key}.json"
