"""A watch cache: the objects of one collection as last seen, and what happens to them.

Concurrency model: one task per cache lists, watches and calls the listeners; it belongs to `following`. Readers on the
same event loop see a consistent dictionary between two awaits. The cache is a hint: before anything that cannot be
undone, read the object itself.
"""

import asyncio
import logging
import random as random_module
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import Key
from appfn.errors import AppfnError
from appfn.kube.backoff import full_jitter
from appfn.kube.collection import Collection, EventType, RawEvent
from appfn.kube.protocols import WatchEvent, WatchEventType
from appfn.kube.rest import ExpiredError

logger = logging.getLogger(__name__)

BACKOFF_BASE = 0.5
BACKOFF_CAP = 30.0


@asynccontextmanager
async def following(
    collection: Collection,
    *,
    random: Callable[[], float] = random_module.random,
) -> AsyncIterator["WatchCache"]:
    """Yield a synced cache of the collection and keep it so until the context ends."""
    cache = WatchCache(collection, random=random)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(cache.run(), name=f"watch {collection.kind.plural}")
        try:
            await cache.wait_synced()
            yield cache
        finally:
            task.cancel()


class WatchCache:
    """`Cache` of `appfn.kube.protocols`.

    Of `metadata.managedFields`, often half of an object's size, appfn's own resources keep one entry with the time of
    the last change of what is not status; others none.
    """

    def __init__(self, collection: Collection, *, random: Callable[[], float] = random_module.random) -> None:
        self._collection = collection
        self._random = random
        self._objects: dict[Key, Json] = {}
        self._listeners: list[Callable[[WatchEvent], None]] = []
        self._synced = asyncio.Event()
        self._version: str | None = None  # where the next watch starts; None: list first
        self._events = 0

    def get(self, key: Key) -> Json | None:
        """Return the object as last seen."""
        return self._objects.get(key)

    def items(self) -> Mapping[Key, Json]:
        """Return all objects as last seen; a live read-only view."""
        return MappingProxyType(self._objects)

    def subscribe(self, listener: Callable[[WatchEvent], None]) -> Callable[[], None]:
        """Call `listener` for every change from now on; return how to stop it.

        It must not block. If it raises, that is logged and the cache goes on: one object that a listener cannot digest
        must not hide all others.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def wait_synced(self) -> None:
        """Return when the first list is in."""
        await self._synced.wait()

    async def run(self) -> None:
        """List and watch until cancelled; whatever the server does, try again."""
        failures = 0
        while True:
            events = self._events
            try:
                if self._version is None:
                    await self._list()
                await self._watch()
            except ExpiredError:
                logger.info("watch expired, listing again", extra={"kind": self._collection.kind.plural})
                self._version = None
            except AppfnError as error:
                logger.warning(
                    "watch interrupted, will go on",
                    extra={"kind": self._collection.kind.plural, "error": f"{type(error).__name__}: {error}"},
                )
            failures = 0 if self._events > events else failures + 1
            if failures:
                await asyncio.sleep(full_jitter(failures, base=BACKOFF_BASE, cap=BACKOFF_CAP, random=self._random))

    async def _list(self) -> None:
        listing = await self._collection.list()
        now = {_key(item): item for item in listing.items}
        for key, old in list(self._objects.items()):
            if key not in now or _uid(now[key]) != _uid(old):
                self._remove(key, old)
        for key, new in now.items():
            old_version = self._objects.get(key, {}).get("metadata", {}).get("resourceVersion")
            if old_version != new["metadata"]["resourceVersion"]:
                self._set(key, new)
        self._version = listing.resource_version
        self._synced.set()

    async def _watch(self) -> None:
        assert self._version is not None
        async with self._collection.watch(self._version) as events:
            async for event in events:
                self._take(event)

    def _take(self, event: RawEvent) -> None:
        self._events += 1
        match event.type:
            case EventType.ADDED | EventType.MODIFIED:
                self._set(_key(event.object), event.object)
            case EventType.DELETED:
                self._remove(_key(event.object), event.object)
            case EventType.BOOKMARK:
                pass
        self._version = event.resource_version

    def _set(self, key: Key, body: Json) -> None:
        changes = body["metadata"].pop("managedFields", ())
        times = [change["time"] for change in changes if "time" in change and not change.get("subresource")]
        if times and self._collection.kind.group == names.GROUP:
            body["metadata"]["managedFields"] = [{"time": max(times)}]
        self._objects[key] = body
        self._tell(WatchEvent(type=WatchEventType.SET, key=key, body=body))

    def _remove(self, key: Key, body: Json) -> None:
        self._objects.pop(key, None)
        self._tell(WatchEvent(type=WatchEventType.GONE, key=key, body=body))

    def _tell(self, event: WatchEvent) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                logger.exception("listener failed", extra={"kind": self._collection.kind.plural, "key": str(event.key)})


def _key(body: Json) -> Key:
    metadata = body["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


def _uid(body: Json) -> str:
    return str(body["metadata"]["uid"])
