"""Watch caches of runtime pods, one for each namespace in which anything runs or may run."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final

from appfn import names
from appfn.api.kinds import POD
from appfn.core.manifests.meta import selector
from appfn.dispatch.tasks import Tasks
from appfn.errors import AppfnError, TransientError
from appfn.kube.protocols import Cache, Watcher, WatchEvent, WatchEventType

_log = logging.getLogger(__name__)

_SELECTOR: Final = selector({names.LABEL_COMPONENT: names.COMPONENT_RUNTIME})


class Watches:
    """Opens and keeps the caches, and passes on what they show."""

    def __init__(self, *, watcher: Watcher, tasks: Tasks, on_event: Callable[[WatchEvent], None]) -> None:
        """`on_event` must not block."""
        self._watcher = watcher
        self._tasks = tasks
        self._on_event = on_event
        self._caches: dict[str, asyncio.Future[Cache]] = {}
        self._holds: dict[str, asyncio.Task[None]] = {}

    async def open(self, namespace: str) -> None:
        """Return when the pods of a namespace are watched; raises what opening the watch raises."""
        await asyncio.shield(self._opening(namespace))

    def is_open(self, namespace: str) -> bool:
        """Tell whether the pods of a namespace are watched now."""
        opened = self._caches.get(namespace)
        return opened is not None and opened.done() and not opened.exception()

    def begin(self, namespace: str) -> None:
        """Open a watch that nobody waits for yet."""
        _ = self._opening(namespace)

    def close(self, namespace: str) -> bool:
        """Stop watching a namespace, unless somebody waits for its watch; tell whether it is not watched now."""
        opened = self._caches.get(namespace)
        if opened is None:
            return True
        if not opened.done():
            return False
        self._holds.pop(namespace).cancel()
        del self._caches[namespace]  # at once: whoever comes next must open a new one
        return True

    def namespaces(self) -> set[str]:
        """Return which namespaces are watched, or about to be."""
        return set(self._caches)

    def repeat(self) -> None:
        """Pass on once more all that the caches hold."""
        for cache in list(self._open_caches()):
            self._replay(cache)

    def _open_caches(self) -> Iterator[Cache]:
        for opened in self._caches.values():
            if opened.done() and not opened.exception():
                yield opened.result()

    def _opening(self, namespace: str) -> asyncio.Future[Cache]:
        opened = self._caches.get(namespace)
        if opened is None:
            opened = self._caches[namespace] = asyncio.get_running_loop().create_future()
            holding = self._hold(namespace, opened)
            self._holds[namespace] = self._tasks.spawn(holding, name=f"watch runtime pods of {namespace}")
        return opened

    async def _hold(self, namespace: str, opened: asyncio.Future[Cache]) -> None:
        try:
            async with self._watcher.watch(POD, namespace=namespace, labels=_SELECTOR) as cache:
                cache.subscribe(self._on_event)
                self._replay(cache)
                opened.set_result(cache)
                await asyncio.get_running_loop().create_future()  # until the owner cancels
        except AppfnError as error:
            _log.warning("runtime pods cannot be watched", extra={"namespace": namespace, "error": str(error)})
            if not opened.done():
                opened.set_exception(error)
        finally:
            if self._caches.get(namespace) is opened:
                del self._caches[namespace], self._holds[namespace]
            if not opened.done():
                opened.set_exception(TransientError("the watch of runtime pods could not be opened"))
            opened.exception()  # whoever waited for it may have given up

    def _replay(self, cache: Cache) -> None:
        for key, body in list(cache.items().items()):
            self._on_event(WatchEvent(type=WatchEventType.SET, key=key, body=body))
