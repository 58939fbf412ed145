"""How the processes of one shim share what it may have: each gets a part, and the parts sum to the whole.

Every process computes the same from its index alone, so that limits hold and calls find their way without a word
between them. Who gets what does not divide evenly is rotated by a salt, the function's uid: functions with one pod
spread over the processes.
"""

import zlib
from dataclasses import dataclass
from typing import Self

from appfn import names
from appfn.api.function import Function, Scaling
from appfn.api.runtime import Runtime
from appfn.config import MAX_PROCESSES, ShimConfig


@dataclass(frozen=True, slots=True)
class Part:
    """One process of several."""

    index: int = 0
    count: int = 1

    @classmethod
    def of(cls, config: ShimConfig) -> Self:
        """Return the process that a configuration is of; the only one where nobody has started it as one of several."""
        return cls(config.process_index, config.processes) if config.is_child else cls()

    @property
    def leads(self) -> bool:
        """Tell whether this process does what only one has to do."""
        return self.index == 0

    def share(self, total: int, salt: str = "", *, servers: int = MAX_PROCESSES) -> int:
        """Return this process's part of a limit that so many share, or all; it never shrinks as the total grows."""
        if self.count == 1:
            return total  # as for most; it is asked several times for each call
        among, turn = min(servers, self.count), self._turn(salt)
        return total // among + (turn < total % among) if turn < among else 0

    def server(self, salt: str, *, servers: int) -> int:
        """Return who serves what comes in here: this process where it is one of so many servers, else one of them."""
        turn = self._turn(salt)
        return (self.index - turn + turn % min(servers, self.count)) % self.count

    def first_server(self, salt: str) -> int:
        """Return the process that serves however few do."""
        return (self.index - self._turn(salt)) % self.count

    def replica(self, pod: str) -> str:
        """Return the name that runtime pods of this process carry, given the name of the shim's own pod."""
        return names.shim_replica(pod, self.index) if self.count > 1 else pod

    def former(self, pod: str) -> frozenset[str]:
        """Return the names whose runtime pods the first process has to remove, as their processes are no more.

        They are left when the number of processes changes: between one and several, or to fewer.
        """
        if not self.leads:
            return frozenset()
        gone = {names.shim_replica(pod, index) for index in range(MAX_PROCESSES)}
        return frozenset({pod} | gone) - {Part(index, self.count).replica(pod) for index in range(self.count)}

    def _turn(self, salt: str) -> int:
        """Return the place of this process among those that serve: the first ones do."""
        return (self.index - zlib.crc32(salt.encode())) % self.count


ALONE = Part()
"""The only process."""


def servers(scaling: Scaling) -> int:
    """Return how many processes may serve a function: each has a pod, and one that is kept loaded where any is."""
    return max(1, scaling.min_replicas or scaling.max_replicas)


def elsewhere(function: Function, part: Part) -> int | None:
    """Return which other process runs a function's calls; None where this one does."""
    index = part.server(function.metadata.uid, servers=servers(function.spec.scaling))
    return index if index != part.index else None


def share_of(function: Function, total: int, part: Part) -> int:
    """Return a process's part of what a function may have in all."""
    return part.share(total, function.metadata.uid, servers=servers(function.spec.scaling))


def capacity(function: Function, runtime: Runtime | None, part: Part) -> int:
    """Return how many calls of a function a process can run at once, all its pods together."""
    limit = runtime.spec.concurrency if runtime else 1
    per_pod = max(1, min(function.spec.scaling.concurrency or limit, limit))
    return share_of(function, max(1, function.spec.scaling.max_replicas), part) * per_pod
