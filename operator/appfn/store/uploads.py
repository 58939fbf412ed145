"""Uploads that come in parts, until the last one is there: whichever replica a part comes to, and over any restart.

Objects: `uploads/<namespace>/<id>/upload.json` says what the upload is, `part-00000` and so on are its parts, `done`
stands for all parts once a Deployment was made of them. An upload to which nothing is added expires, done or not.
"""

import re
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from appfn.api.base import Model
from appfn.api.deployment import Artifact
from appfn.store.artifacts import ArtifactStore, folder
from appfn.store.objects import ArtifactNotFoundError, Spooled, StoredObject

PART_SIZE: Final = 5 * 1024 * 1024
"""Bytes of each part but the last, as every SDK cuts them."""
_ID = re.compile(r"[0-9a-f]{20}")
_PART = re.compile(r"part-(\d{5})")
_RECORD, _DONE = "upload.json", "done"


class Upload(Model):
    """What was said at the first part of an upload; it holds for all of them."""

    id: str
    """Of the Deployment to be."""
    function_uid: str
    size: int
    """Bytes of all parts together."""
    entrypoint: str = ""
    commands: str = ""
    activate: bool = False
    created_at: datetime

    @property
    def parts(self) -> int:
        """How many parts there are to be."""
        return -(-self.size // PART_SIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An upload as it stands."""

    upload: Upload
    parts: frozenset[int] = field(default=frozenset())
    """Places of the parts that are there; of one that is done, all."""
    done: bool = False

    @property
    def whole(self) -> bool:
        """Tell whether every part is there."""
        return len(self.parts) == self.upload.parts


class UploadStore:
    """See the module. Every method may raise ArtifactAddressError for the namespace, and TransientError."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._objects = artifacts.objects

    async def begin(self, namespace: str, upload: Upload) -> None:
        """Remember an upload, under an id nobody has used before."""
        await self._objects.write(f"{_place(namespace, upload.id)}/{_RECORD}", upload.model_dump_json().encode())

    async def find(self, namespace: str, id_: str) -> Found | None:
        """Return an upload of a namespace, also for some time after it is done; None where there is none."""
        if not _ID.fullmatch(id_):
            return None
        place = _place(namespace, id_)
        try:
            upload = Upload.model_validate_json(await self._objects.read(f"{place}/{_RECORD}"))
        except (ArtifactNotFoundError, ValidationError):
            return None
        names = {item.path.removeprefix(f"{place}/") async for item in self._objects.list(f"{place}/")}
        done = _DONE in names
        parts = range(upload.parts) if done else (int(match[1]) for name in names if (match := _PART.fullmatch(name)))
        return Found(upload=upload, parts=frozenset(parts), done=done)

    async def add(self, namespace: str, upload: Upload, part: int, file: Spooled) -> None:
        """Store a part; the same once more does no harm."""
        await self._objects.publish(file, _part(namespace, upload, part))

    async def assemble(self, namespace: str, upload: Upload) -> Artifact:
        """Make an artifact of the parts, which all have to be there. Several may do so at the same time.

        Raises:
            ArtifactNotFoundError: a part is gone: the upload is done, or has expired.
        """
        return await self._artifacts.put(namespace, self._content(namespace, upload), limit=upload.size)

    async def finish(self, namespace: str, upload: Upload) -> None:
        """Remember that a Deployment was made of an upload, and let go of its parts."""
        await self._objects.write(f"{_place(namespace, upload.id)}/{_DONE}", b"{}")
        for part in range(upload.parts):
            await self._objects.delete(_part(namespace, upload, part))

    async def drop(self, namespace: str, id_: str) -> None:
        """Forget an upload."""
        for path in [item.path async for item in self._objects.list(f"{_place(namespace, id_)}/")]:
            await self._objects.delete(path)

    async def unfinished(self, namespace: str) -> list[Upload]:
        """Return the uploads of a namespace that are not done."""
        prefix = f"{folder(namespace, 'uploads')}/"
        files = await self._files(prefix)
        ids = {path[0] for path in files} - {path[0] for path in files if path[1] == _DONE}
        found = [await self.find(namespace, id_) for id_ in sorted(ids)]
        return [item.upload for item in found if item is not None and not item.done]

    async def expire(self, before: datetime) -> int:
        """Forget uploads to which nothing was added since; return how many."""
        newest: defaultdict[tuple[str, str], list[StoredObject]] = defaultdict(list)
        for (namespace, id_, *_), item in (await self._files("uploads/")).items():
            newest[namespace, id_].append(item)
        old = [files for files in newest.values() if max(item.stored_at for item in files) < before]
        for files in old:
            for item in files:
                await self._objects.delete(item.path)
        return len(old)

    async def _files(self, prefix: str) -> dict[tuple[str, ...], StoredObject]:
        """Return what is below a folder by the parts of its path from there."""
        found = [item async for item in self._objects.list(prefix)]
        by_path = {tuple(item.path.removeprefix(prefix).split("/")): item for item in found}
        return {path: item for path, item in by_path.items() if len(path) > 1}

    async def _content(self, namespace: str, upload: Upload) -> AsyncIterator[bytes]:
        for part in range(upload.parts):
            _, pieces = await self._objects.open(_part(namespace, upload, part))
            async for piece in pieces:
                yield piece


def _place(namespace: str, id_: str) -> str:
    return f"{folder(namespace, 'uploads')}/{id_}"


def _part(namespace: str, upload: Upload, part: int) -> str:
    return f"{_place(namespace, upload.id)}/part-{part:05d}"
