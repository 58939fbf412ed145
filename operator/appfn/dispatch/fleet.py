"""All pods of this replica: who is known, what the API server says of them, and the end of those nobody knows.

One watch cache per namespace that has pods, opened with the first and kept as long as anything is to run there. A pod
that carries our replica's label but is not in the registry was left by a process before us, or by a create whose answer
was lost: nobody will ever use it, so it is deleted. Pods are registered before they are created; so that rule never
meets one of ours.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Final, Protocol

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import POD, Key
from appfn.core.manifests.meta import selector
from appfn.dispatch.pod import RuntimePod
from appfn.dispatch.tasks import Tasks
from appfn.errors import AppfnError, TransientError
from appfn.kube.protocols import Cache, Reader, Watcher, WatchEvent, WatchEventType, Writer

_log = logging.getLogger(__name__)

_DELETE_PAUSES: Final = (0.2, 1.0, 5.0, 15.0)
"""Seconds between tries to delete a pod; after the last the sweep takes over."""
_SWEEP_SECONDS: Final = 60.0
_CLOSE_SECONDS: Final = 2.0


def leftover(replicas: Iterable[str]) -> str:
    """Return the label selector of the pods of these replicas."""
    component = selector({names.LABEL_COMPONENT: names.COMPONENT_RUNTIME})
    return f"{component},{names.LABEL_SHIM} in ({','.join(sorted(replicas))})"


class PodCluster(Reader, Writer, Protocol):
    """What dispatch asks of Kubernetes besides watching: list, create and delete pods."""


class Fleet:
    """Registry of pods, fed by watch caches."""

    def __init__(
        self,
        *,
        cluster: PodCluster,
        watcher: Watcher,
        replica: str,
        tasks: Tasks,
        former: frozenset[str] = frozenset(),
    ) -> None:
        """`former`: names of replicas that are no more and whose pods have to go too."""
        self._cluster = cluster
        self._watcher = watcher
        self._tasks = tasks
        self._selector = selector({names.LABEL_COMPONENT: names.COMPONENT_RUNTIME, names.LABEL_SHIM: replica})
        self._leftover = leftover(former | {replica})
        self._pods: dict[Key, RuntimePod] = {}
        self._caches: dict[str, asyncio.Future[Cache]] = {}
        self._holds: dict[str, asyncio.Task[None]] = {}
        self._wanted: frozenset[str] = frozenset()
        """Namespaces in which something may be called."""
        self._surveyed: set[str] = set()
        self._doomed: set[Key] = set()
        """Being deleted; kept until they are gone, as a late event may still show them alive."""
        self.deleted = 0
        """Pods whose deletion the API server has accepted."""

    def start(self) -> None:
        """Begin to sweep."""
        self._tasks.start(self._sweep(), name="sweep runtime pods")

    async def watch(self, namespace: str) -> None:
        """Return when the pods of a namespace are watched; raises what opening the watch raises."""
        opened = self._caches.get(namespace)
        if opened is None:
            opened = self._caches[namespace] = asyncio.get_running_loop().create_future()
            holding = self._hold_watch(namespace, opened)
            self._holds[namespace] = self._tasks.spawn(holding, name=f"watch runtime pods of {namespace}")
        await asyncio.shield(opened)

    def add(self, pod: RuntimePod) -> None:
        """Know a pod, from before it is created."""
        self._pods[pod.key] = pod

    def remove(self, pod: RuntimePod) -> None:
        """Delete a pod in the background; it is known until it is gone."""
        self._doom(pod.key, uid="")

    def survey(self, namespaces: Iterable[str]) -> None:
        """Be told in which namespaces anything is to run; delete what earlier processes left there."""
        self._wanted = frozenset(namespaces)
        self._surveyed &= self._wanted
        for namespace in self._wanted - self._surveyed:  # also where a watch is open: it shows no former replica's pods
            self._surveyed.add(namespace)
            self._tasks.start(self._survey(namespace), name=f"survey runtime pods of {namespace}")

    async def close(self) -> None:
        """Delete all pods, best effort and bounded in time: what is left is reaped at the next start."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                rest = self._pods.keys() - self._doomed
                self._doomed |= rest
                await asyncio.gather(*(self._delete(key, "") for key in rest), return_exceptions=True)
        except TimeoutError:
            _log.warning("runtime pods are left for the next start", extra={"pods": len(self._pods)})

    async def _hold_watch(self, namespace: str, opened: asyncio.Future[Cache]) -> None:
        try:
            async with self._watcher.watch(POD, namespace=namespace, labels=self._selector) as cache:
                cache.subscribe(self._on_event)
                for key, body in list(cache.items().items()):
                    self._on_seen(key, body)
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

    def _on_event(self, event: WatchEvent) -> None:
        match event.type:
            case WatchEventType.SET:
                self._on_seen(event.key, event.body)
            case WatchEventType.GONE:
                self._forget(event.key)

    def _on_seen(self, key: Key, body: Json) -> None:
        pod = self._pods.get(key)
        if pod is not None:
            pod.observe(body)
        elif not body["metadata"].get("deletionTimestamp"):
            self._doom(key, uid=body["metadata"]["uid"])

    async def _survey(self, namespace: str) -> None:
        try:
            bodies = await self._cluster.list(POD, namespace=namespace, labels=self._leftover)
        except AppfnError as error:
            _log.warning("runtime pods cannot be listed", extra={"namespace": namespace, "error": str(error)})
            self._surveyed.discard(namespace)  # the next sweep looks again
            return
        for body in bodies:
            key = Key(namespace, body["metadata"]["name"])
            if key not in self._pods:
                self._on_seen(key, body)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._leave()
            self.survey(self._wanted)  # again where it failed: no other sync may come for long
            for opened in list(self._caches.values()):
                if opened.done() and not opened.exception():
                    for key, body in list(opened.result().items().items()):
                        self._on_seen(key, body)

    def _leave(self) -> None:
        """Stop watching where there is nothing any more: a project that was deleted would be asked for ever."""
        for namespace in self._holds.keys() - self._wanted - {key.namespace for key in self._pods}:
            if not self._caches[namespace].done():
                continue  # somebody waits for it
            self._holds.pop(namespace).cancel()
            del self._caches[namespace]  # at once: whoever comes next must open a new one
            self._doomed = {key for key in self._doomed if key.namespace != namespace}

    def _doom(self, key: Key, *, uid: str) -> None:
        if key not in self._doomed:
            self._doomed.add(key)
            self._tasks.start(self._delete_until_accepted(key, uid), name=f"delete pod {key}")

    def _forget(self, key: Key) -> None:
        self._doomed.discard(key)
        pod = self._pods.pop(key, None)
        if pod is not None:
            pod.vanish()

    async def _delete_until_accepted(self, key: Key, uid: str) -> None:
        for pause in _DELETE_PAUSES:
            if await self._delete(key, uid):
                return
            await asyncio.sleep(pause)
        _log.error("runtime pod cannot be deleted", extra={"pod": str(key)})
        self._forget(key)  # the sweep will find it as one that nobody knows

    async def _delete(self, key: Key, uid: str) -> bool:
        try:
            existed = await self._cluster.delete(POD, key, uid=uid)
        except AppfnError as error:
            _log.warning("deleting a runtime pod failed", extra={"pod": str(key), "error": str(error)})
            return False
        self.deleted += existed
        if not existed:
            self._forget(key)
        return True
