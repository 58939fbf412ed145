"""How the processes of one shim share what it may have: each gets a part, and the parts sum to the whole.

Every process computes the same from its index alone, so that limits hold and calls find their way without a word
between them. Who gets what does not divide evenly is rotated by a salt, the function's uid: functions with one pod
spread over the processes.
"""

import zlib
from dataclasses import dataclass
from typing import Self

from appfn import names
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

    def share(self, total: int, salt: str = "") -> int:
        """Return this process's part of a limit; never shrinks where the total grows."""
        return total // self.count + (self._turn(salt) < total % self.count)

    def owner(self, total: int, salt: str) -> int:
        """Return who serves what comes in here: this process, or where its share of `total` is 0 one that has some."""
        return (self.index - self._turn(salt) + self._turn(salt) % min(total, self.count)) % self.count

    def first(self, salt: str) -> int:
        """Return the index of the process that has a share of whatever is more than nothing."""
        return (self.index - self._turn(salt)) % self.count

    def queue(self, limit: int, *, pods: int, salt: str) -> int:
        """Return how many calls of a function with so many pods in all may wait here: who has no pods has no queue."""
        owners, turn = min(pods, self.count), self._turn(salt)
        return Part(turn, owners).share(limit) if turn < owners else 0

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
        return (self.index - zlib.crc32(salt.encode())) % self.count


ALONE = Part()
"""The only process."""
