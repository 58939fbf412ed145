"""Built tarballs in memory, so that the load of a pod waits for no store: small ones, the last used, up to a bound.

Artifacts are named by their content and never change, so what is kept is never wrong.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final

from appfn.store.artifacts import ArtifactStore

LARGEST: Final = 4 << 20
"""Bytes of an artifact that is kept at most."""
_ROOM: Final = 64 << 20


class ArtifactCache:
    """The artifact store as the dispatcher reads it."""

    def __init__(self, store: ArtifactStore, *, largest: int = LARGEST, room: int = _ROOM) -> None:
        """`largest` and `room`: bytes of one artifact, and of all that are kept."""
        self._store = store
        self._largest = largest
        self._room = room
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._size = 0

    async def open(self, namespace: str, digest: str) -> tuple[int, AsyncIterator[bytes]]:
        """Return size and content of a built artifact; raises as `ArtifactStore.open_artifact`."""
        content = self._kept.get((namespace, digest))
        if content is None:
            size, stream = await self._store.open_artifact(namespace, digest)
            if size > self._largest:
                return size, stream
            content = b"".join([piece async for piece in stream])
            self.keep(namespace, digest, content)
        self._kept.move_to_end((namespace, digest))
        return len(content), _pieces(content)

    def keep(self, namespace: str, digest: str, content: bytes) -> None:
        """Keep what was just stored: it is likely to be loaded soon."""
        if len(content) > self._largest or (namespace, digest) in self._kept:
            return
        self._kept[namespace, digest] = content
        self._size += len(content)
        while self._size > self._room:
            _, oldest = self._kept.popitem(last=False)
            self._size -= len(oldest)


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content
