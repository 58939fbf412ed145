"""What dispatch shows of itself."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

from appfn.dispatch.pod import PodState, RuntimePod


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """Pods and calls of a function at one moment."""

    ready: int = 0
    starting: int = 0
    draining: int = 0
    """Take no new calls; those in them go on."""
    queued: int = 0
    """Calls that wait for a pod."""
    in_flight: int = 0
    """Calls that run."""

    @classmethod
    def of(cls, pods: Collection[RuntimePod], *, queued: int) -> Self:
        """Return what these pods are, and so many calls that wait for one."""
        states = [pod.state for pod in pods]
        return cls(
            ready=states.count(PodState.READY),
            starting=sum(1 for state in states if state.starting),
            draining=states.count(PodState.DRAINING),
            queued=queued,
            in_flight=sum(pod.in_flight for pod in pods),
        )

    def __add__(self, other: "Replicas") -> "Replicas":
        return Replicas(
            ready=self.ready + other.ready,
            starting=self.starting + other.starting,
            draining=self.draining + other.draining,
            queued=self.queued + other.queued,
            in_flight=self.in_flight + other.in_flight,
        )


@dataclass(slots=True, kw_only=True)
class Counters:
    """Since the start; only ever grow."""

    calls: int = 0
    """Requests sent to pods."""
    cold_calls: int = 0
    """Of them, those that waited for a pod to start."""
    pods_claimed: int = 0
    """Taken from a pool."""
    claims_lost: int = 0
    """Of them, those that another process had taken, or that broke."""
    pods_created: int = 0
    """Made because no pool had one."""
    pods_failed: int = 0
    """Pods that never took a call."""
    pods_lost: int = 0
    """Pods that ended unasked."""
    pods_deleted: int = 0
