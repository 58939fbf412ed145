"""All pods that concern this replica: its own, those of the pools, and those that nobody uses any more.

A pod that carries our replica's label but is not in the registry was left by a process before us, or by a create whose
answer was lost. Pods are registered before they are created; so that is never one of ours. It is an orphan, as is a pod
of a replica that is no more: it is adopted or deleted (`adoption.py`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import POD, Key
from appfn.dispatch.pod import PodState, RuntimePod
from appfn.dispatch.tasks import Tasks
from appfn.dispatch.warm import WarmPods
from appfn.dispatch.watches import Watches
from appfn.errors import AppfnError
from appfn.kube.protocols import Reader, Watcher, WatchEvent, WatchEventType, Writer

_log = logging.getLogger(__name__)

_DELETE_PAUSES: Final = (0.2, 1.0, 5.0, 15.0)
"""Seconds between tries to delete a pod; after the last the sweep takes over."""
_SWEEP_SECONDS: Final = 60.0
_CLOSE_SECONDS: Final = 2.0

Orphanage = Callable[[Key, Json], None]
"""Takes a pod that nobody uses."""


class PodCluster(Reader, Writer, Protocol):
    """What dispatch asks of Kubernetes besides watching: list, create, patch and delete pods."""


class Fleet:
    """Registry of pods, fed by watch caches."""

    def __init__(
        self,
        *,
        cluster: PodCluster,
        watcher: Watcher,
        replica: str,
        tasks: Tasks,
        replicas: Callable[[], Awaitable[frozenset[str]]],
        former: frozenset[str] = frozenset(),
    ) -> None:
        """`replicas` returns the names of the replicas that exist, `former` are names of processes that are no more."""
        self._cluster = cluster
        self._tasks = tasks
        self._mine: Final = former | {replica}
        self._replicas = replicas
        self._watches: Final = Watches(watcher=watcher, tasks=tasks, on_event=self._on_event)
        self.warm: Final = WarmPods()
        self.on_orphan: Orphanage = lambda key, body: self.delete(key, uid=body["metadata"]["uid"])
        """Whoever adopts pods sets this."""
        self._pods: dict[Key, RuntimePod] = {}
        self._strangers: dict[Key, Json] = {}
        """Pods that carry another replica's label."""
        self._missing: frozenset[str] = frozenset()
        """Owners of strangers that did not exist at the last sweep."""
        self._refused: frozenset[Key] = frozenset()
        """Pods of pools that somebody else had loaded before the last sweep."""
        self._wanted: frozenset[str] = frozenset()
        """Namespaces in which something may be called."""
        self._doomed: set[Key] = set()
        """Being deleted; kept until they are gone, as a late event may still show them alive."""
        self.deleted = 0
        """Pods whose deletion the API server has accepted."""

    def start(self) -> None:
        """Begin to sweep."""
        self._tasks.start(self._sweep(), name="sweep runtime pods")

    async def watch(self, namespace: str) -> None:
        """Return when the pods of a namespace are watched; raises what opening the watch raises."""
        await self._watches.open(namespace)

    def watches(self, namespace: str) -> bool:
        """Tell whether the pods of a namespace are watched now."""
        return self._watches.is_open(namespace)

    def add(self, pod: RuntimePod) -> None:
        """Know a pod, from before it is created or as soon as it is taken."""
        self._pods[pod.key] = pod

    def release(self, pod: RuntimePod) -> None:
        """Know a pod no more that turned out to be somebody else's."""
        self._pods.pop(pod.key, None)
        self.warm.refuse(pod.key)

    def remove(self, pod: RuntimePod) -> None:
        """Delete a pod in the background; it is known until it is gone."""
        self.delete(pod.key, uid="")

    def delete(self, key: Key, *, uid: str) -> None:
        """Delete any pod in the background, only the one of that uid where one is given."""
        if key not in self._doomed:
            self._doomed.add(key)
            self._tasks.start(self._delete_until_accepted(key, uid), name=f"delete pod {key}")

    def announce(self, key: Key, address: str, *, own_token: bool) -> None:
        """Take in what the agent of a pod says of itself.

        By a token that is not the pod's own, user code can name pods that there never were: nothing is kept of these.
        """
        pod = self._pods.get(key)
        if pod is not None:
            pod.announce(address)
        elif own_token:
            self.warm.announce(key, address)

    def knows(self, key: Key) -> bool:
        """Tell whether a pod is in use here."""
        return key in self._pods

    def survey(self, namespaces: Iterable[str]) -> None:
        """Be told in which namespaces anything is to run: their pods are watched from now on."""
        self._wanted = frozenset(namespaces)
        for namespace in self._wanted:
            self._watches.begin(namespace)

    async def close(self) -> None:
        """Leave the pods that are loaded to whoever comes after us; delete the others, as far as two seconds allow."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                rest = {key for key, pod in self._pods.items() if pod.state is not PodState.READY} - self._doomed
                self._doomed |= rest
                await asyncio.gather(*(self._delete(key, "") for key in rest), return_exceptions=True)
        except TimeoutError:
            _log.warning("runtime pods are left for the next start", extra={"pods": len(self._pods)})

    def _on_event(self, event: WatchEvent) -> None:
        match event.type:
            case WatchEventType.SET:
                self._on_seen(event.key, event.body)
            case WatchEventType.GONE:
                self._forget(event.key)

    def _on_seen(self, key: Key, body: Json) -> None:
        labels = body["metadata"].get("labels") or {}
        self._strangers.pop(key, None)
        if names.LABEL_POOL not in labels:
            self.warm.forget(key)
        if key in self._pods:  # one that is claimed carries the label of its pool a little longer
            self._pods[key].observe(body)
        elif names.LABEL_POOL in labels:
            self.warm.see(key, body)
        elif labels.get(names.LABEL_SHIM) not in self._mine:
            self._strangers[key] = body
        elif not body["metadata"].get("deletionTimestamp") and key not in self._doomed:
            self.on_orphan(key, body)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._leave()
            self.survey(self._wanted)  # again where it failed: no other sync may come for long
            self._watches.repeat()
            self._sweep_pools()
            await self._sweep_strangers()

    def _leave(self) -> None:
        """Stop watching where there is nothing any more: a project that was deleted would be asked for ever."""
        for namespace in self._watches.namespaces() - self._wanted - {key.namespace for key in self._pods}:
            if self._watches.close(namespace):
                self._forget_namespace(namespace)

    def _forget_namespace(self, namespace: str) -> None:
        self._doomed = {key for key in self._doomed if key.namespace != namespace}
        self._strangers = {key: body for key, body in self._strangers.items() if key.namespace != namespace}
        self.warm.forget_namespace(namespace)

    def _sweep_pools(self) -> None:
        """Hand on pods that were loaded by a process which died before it made them its own: nobody ever will."""
        refused = self.warm.refused()
        for key in self._refused & refused.keys():
            self.on_orphan(key, refused[key])
        self._refused = frozenset(refused)

    async def _sweep_strangers(self) -> None:
        """Hand on the pods of replicas that were not there at two sweeps in a row: they will not come back soon."""
        owners = {key: _owner(body) for key, body in self._strangers.items()}
        if not owners:
            return
        try:
            living = await self._replicas()
        except AppfnError as error:
            _log.warning("the replicas of the shim cannot be listed", extra={"error": str(error)})
            return
        missing = frozenset(owner for owner in owners.values() if not _exists(owner, living))
        for key, owner in owners.items():
            if owner in missing & self._missing and key in self._strangers:
                self.on_orphan(key, self._strangers[key])
        self._missing = missing

    def _forget(self, key: Key) -> None:
        self._doomed.discard(key)
        self._strangers.pop(key, None)
        self.warm.forget(key)
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


def _owner(body: Json) -> str:
    return str((body["metadata"].get("labels") or {}).get(names.LABEL_SHIM, ""))


def _exists(owner: str, living: Iterable[str]) -> bool:
    """Tell whether the pod of a replica exists; one with several processes has a replica for each, `<pod>-<index>`."""
    return any(owner == pod or owner.startswith(f"{pod}-") for pod in living)
