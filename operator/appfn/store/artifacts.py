"""The artifact store: tarballs and build logs by their sha256, and which build made what, in any obstore backend.

Objects: `artifacts/<namespace>/<sha256 hex>` and `builds/<namespace>/<build key>.json`. A namespace is part of every
address, so that one project can neither read another's code nor learn by a digest that it exists.
"""

import contextlib
import json
import re
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from appfn.api.base import Model
from appfn.api.deployment import Artifact
from appfn.errors import AppfnError
from appfn.store.objects import ArtifactNotFoundError, Objects, Spooled, open_objects

_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_KEY = re.compile(r"[0-9a-f]{64}")
_TAIL_BYTES = 64 * 1024


class ArtifactAddressError(AppfnError):
    """A namespace, digest or build key is malformed."""


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

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, spool: Path) -> AsyncIterator[Self]:
        """Open the store at a URL; arguments and errors as of `open_objects`."""
        yield cls(await open_objects(url, spool=spool))

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
        folder(namespace)
        if expected is not None:
            _hex(expected)
        async with self.objects.spooled(stream, limit=limit) as file:
            if expected is not None and file.digest != expected:
                raise DigestMismatchError(f"the content is {file.digest}, not {expected}")
            return await self.keep(namespace, file)

    async def keep(self, namespace: str, file: Spooled) -> Artifact:
        """Store a file that was spooled before."""
        # Also where the object exists already: the new time of storage keeps the sweep away from it.
        await self.objects.publish(file, _path(namespace, file.digest))
        return Artifact(digest=file.digest, size=file.size)

    async def open_artifact(self, namespace: str, digest: str) -> tuple[int, AsyncIterator[bytes]]:
        """Return size and content of an artifact.

        Raises:
            ArtifactNotFoundError: there is none.
        """
        return await self.objects.open(_path(namespace, digest))

    async def size(self, namespace: str, digest: str) -> int:
        """Return the bytes of an artifact; raises as `open_artifact`."""
        return (await self.objects.head(_path(namespace, digest))).size

    async def open_range(self, namespace: str, digest: str, *, start: int, end: int) -> AsyncIterator[bytes]:
        """Return the bytes of an artifact from `start` to before `end`; raises as `open_artifact`."""
        _, pieces = await self.objects.open(_path(namespace, digest), start=start, end=end)
        return pieces

    async def text(self, namespace: str, digest: str, *, most: int) -> str:
        """Return a text, of a long one the last `most` bytes.

        Raises:
            ArtifactNotFoundError: there is none.
        """
        path = _path(namespace, digest)
        size = (await self.objects.head(path)).size
        content = await self.objects.read_range(path, start=max(0, size - most), end=size) if size else b""
        return content.decode(errors="replace")

    async def tail(self, namespace: str, digest: str, *, lines: int) -> str:
        """Return the last lines of a text (of its last 64 KiB); other bytes of the object are not read.

        Raises:
            ArtifactNotFoundError: there is none.
        """
        path = _path(namespace, digest)
        size = (await self.objects.head(path)).size
        if not size or lines < 1:
            return ""
        start = max(0, size - _TAIL_BYTES)
        content = await self.objects.read_range(path, start=start, end=size)
        found = content.decode(errors="replace").splitlines()
        whole = found[1:] if start and len(found) > 1 else found
        return "\n".join(whole[-lines:])

    async def get_build(self, namespace: str, key: str) -> BuildOutput | None:
        """Return what the build of this key made, None where there was none or its artifact is gone."""
        path = _build_path(namespace, key)
        try:
            output = BuildOutput.model_validate_json(await self.objects.read(path))
        except (ArtifactNotFoundError, ValidationError):
            return None
        if not await self.exists(namespace, output.artifact.digest):
            return None
        if output.log is not None and not await self.exists(namespace, output.log.digest):
            return BuildOutput(artifact=output.artifact)
        return output

    async def put_build(self, namespace: str, key: str, output: BuildOutput) -> None:
        """Remember what the build of this key made, in place of what was known."""
        await self.objects.write(_build_path(namespace, key), json.dumps(output.to_json()).encode())

    async def exists(self, namespace: str, digest: str) -> bool:
        """Tell whether the artifact is there."""
        try:
            await self.objects.head(_path(namespace, digest))
        except ArtifactNotFoundError:
            return False
        return True

    async def delete(self, namespace: str, digest: str, *, stored_before: datetime | None = None) -> None:
        """Delete an artifact, one that was stored again since `stored_before` excepted; it may be gone already."""
        path = _path(namespace, digest)
        with contextlib.suppress(ArtifactNotFoundError):
            if stored_before is None or (await self.objects.head(path)).stored_at < stored_before:
                await self.objects.delete(path)

    async def list_artifacts(self, namespace: str) -> AsyncIterator[StoredArtifact]:
        """Yield all artifacts of a namespace, in no order."""
        prefix = f"{folder(namespace)}/"
        async for item in self.objects.list(prefix):
            digest = f"sha256:{item.path.removeprefix(prefix)}"
            if _DIGEST.fullmatch(digest):
                yield StoredArtifact(digest, item.size, item.stored_at)

    async def namespaces(self) -> set[str]:
        """Return the namespaces of which there is anything."""
        found = await self.objects.folders("artifacts") | await self.objects.folders("builds")
        return {namespace for namespace in found if _NAMESPACE.fullmatch(namespace)}

    async def built(self, namespace: str) -> set[str]:
        """Return the digests of all that builds of a namespace are remembered by: artifacts and logs."""
        digests: set[str] = set()
        for path in await self._builds(namespace):
            with contextlib.suppress(ArtifactNotFoundError, ValidationError):
                output = BuildOutput.model_validate_json(await self.objects.read(path))
                digests |= {item.digest for item in (output.artifact, output.log) if item is not None}
        return digests

    async def forget_builds(self, namespace: str) -> bool:
        """Forget what the builds of a namespace have made, not the artifacts; tell whether there was anything."""
        paths = await self._builds(namespace)
        for path in paths:
            await self.objects.delete(path)
        return bool(paths)

    async def _builds(self, namespace: str) -> list[str]:
        return [item.path async for item in self.objects.list(f"{folder(namespace, 'builds')}/")]


def folder(namespace: str, root: str = "artifacts") -> str:
    """Return where the files of a namespace are.

    Raises:
        ArtifactAddressError: it is no namespace.
    """
    if not _NAMESPACE.fullmatch(namespace):
        raise ArtifactAddressError(f"{namespace!r} is not a namespace")
    return f"{root}/{namespace}"


def _hex(digest: str) -> str:
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise ArtifactAddressError(f"{digest!r} is not a digest: sha256: and 64 hex digits in lower case")
    return match.group(1)


def _path(namespace: str, digest: str) -> str:
    return f"{folder(namespace)}/{_hex(digest)}"


def _build_path(namespace: str, key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ArtifactAddressError(f"{key!r} is not a build key: 64 hex digits in lower case")
    return f"{folder(namespace, 'builds')}/{key}.json"
