"""The pods of our projects' pools that can be claimed now.

A pod is free from the announcement of its agent on, or from when the API server shows it as Ready, whichever this
process hears of first; and until it is taken here, or the API server shows that it has left its pool. In between the
agent decides: it refuses the second load.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, NamedTuple

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import Key
from appfn.api.runtime import Architecture
from appfn.dispatch.podstatus import is_ready, read_status

_MAX_EARLY: Final = 1000
"""Announcements kept of pods that the watch has not shown yet."""


class Pool(NamedTuple):
    """Pods that can stand in for each other."""

    namespace: str
    runtime: str
    architecture: Architecture
    template: str
    """Digest of what they offer, see `ANNOTATION_TEMPLATE`."""


@dataclass(frozen=True, slots=True)
class WarmPod:
    """A pod that was taken from a pool."""

    key: Key
    address: str
    body: Json
    """As last seen."""


class WarmPods:
    """Knows the pods that carry the label of a pool."""

    def __init__(self) -> None:
        self._bodies: dict[Key, Json] = {}
        self._free: dict[Pool, OrderedDict[Key, str]] = {}
        """Addresses of free pods, those longest free first."""
        self._early: OrderedDict[Key, str] = OrderedDict()
        """Addresses of pods that have announced themselves and that the API server does not call Ready yet."""
        self._taken: set[Key] = set()
        self._refused: set[Key] = set()

    def see(self, key: Key, body: Json) -> None:
        """Take in what the API server says of a pod of a pool."""
        self._bodies[key] = body
        status = read_status(body)
        if status.ended or key in self._taken or key in self._refused:
            self._remove(key)
        elif is_ready(body) and status.address:
            self._early.pop(key, None)
            self._add(key, status.address)
        elif key in self._early:
            self._add(key, self._early[key])
        else:
            self._remove(key)

    def announce(self, key: Key, address: str) -> None:
        """Take in what the agent of a pod says, whose pool the watch may be yet to tell."""
        self._early[key] = address
        while len(self._early) > _MAX_EARLY:
            self._early.popitem(last=False)
        if (body := self._bodies.get(key)) is not None:
            self.see(key, body)

    def forget(self, key: Key) -> None:
        """Take in that a pod is gone, or is no pool's any more."""
        self._remove(key)
        self._bodies.pop(key, None)
        self._early.pop(key, None)
        self._taken.discard(key)
        self._refused.discard(key)

    def forget_namespace(self, namespace: str) -> None:
        """Forget all pods of a namespace that is not watched any more."""
        for key in [key for key in self._bodies if key.namespace == namespace]:
            self.forget(key)

    def take(self, pool: Pool) -> WarmPod | None:
        """Return a pod that nobody else here gets any more; None where none is free."""
        free = self._free.get(pool)
        if not free:
            return None
        key, address = free.popitem(last=False)
        self._taken.add(key)
        return WarmPod(key, address, self._bodies[key])

    def free(self, pool: Pool) -> int:
        """Return how many could be taken now."""
        return len(self._free.get(pool, ()))

    def refuse(self, key: Key) -> None:
        """Take in that a pod has been loaded by somebody else, who is to take it out of its pool soon."""
        self._taken.discard(key)
        self._refused.add(key)

    def refused(self) -> dict[Key, Json]:
        """Return the pods that are loaded by somebody else and still in their pools."""
        return {key: self._bodies[key] for key in self._refused if key in self._bodies}

    def _add(self, key: Key, address: str) -> None:
        if (pool := _pool(self._bodies[key])) is not None:
            self._free.setdefault(pool, OrderedDict())[key] = address

    def _remove(self, key: Key) -> None:
        body = self._bodies.get(key)
        pool = _pool(body) if body is not None else None
        free = self._free.get(pool) if pool is not None else None
        if pool is not None and free is not None:
            free.pop(key, None)
            if not free:
                del self._free[pool]


def _pool(body: Json) -> Pool | None:
    """Return what a pod can be claimed for; None where it does not say."""
    metadata = body["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    try:
        return Pool(
            namespace=metadata["namespace"],
            runtime=labels[names.LABEL_RUNTIME],
            architecture=Architecture(labels[names.LABEL_ARCHITECTURE]),
            template=annotations[names.ANNOTATION_TEMPLATE],
        )
    except (KeyError, ValueError):
        return None
