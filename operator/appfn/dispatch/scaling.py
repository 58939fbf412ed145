"""How many pods one deployment of a function should have: a pure decision over a snapshot."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from appfn.dispatch.pod import PodState


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the function asks for. `maximum` bounds pods that start or serve; a draining one has been replaced."""

    minimum: int
    maximum: int
    concurrency: int
    """Calls one pod may run at once."""
    idle_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """One pod as the decision sees it. Times are monotonic seconds."""

    name: str
    state: PodState
    in_flight: int
    idle_since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A group of pods at one moment."""

    limits: Limits
    queued: int
    pods: Sequence[PodView]
    retired: bool
    """Nothing new should come: pods stay only as long as there is work."""
    troubled: bool
    """The last pod failed: only one is tried at a time until a call succeeds."""
    not_before: float
    """Earliest time for the next pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, and when to look again although nothing happened."""

    start: int = 0
    stop: tuple[str, ...] = ()
    wake_at: float | None = None
    full: bool = False
    """No more may be started, however many calls wait."""


def decide(observed: Observed, now: float) -> Plan:
    """Return how many pods to start, which to stop (never one with a call in it), and when to decide again."""
    stop, idle_wake = _to_stop(observed, now)
    allowed, wanted = _to_start(observed)
    if wanted and now < observed.not_before:
        wakes = [observed.not_before] if idle_wake is None else [observed.not_before, idle_wake]
        return Plan(stop=stop, wake_at=min(wakes))
    return Plan(start=wanted, stop=stop, wake_at=idle_wake, full=allowed <= 0)


def _to_start(observed: Observed) -> tuple[int, int]:
    """Return how many more pods there may be, and how many of them to start now."""
    limits = observed.limits
    starting = sum(1 for pod in observed.pods if pod.state.starting)
    serving = sum(1 for pod in observed.pods if pod.state is PodState.READY)
    minimum = 0 if observed.retired else limits.minimum
    for_minimum = minimum - starting - serving
    for_queue = math.ceil(observed.queued / limits.concurrency) - starting
    allowed = max(limits.maximum, minimum) - starting - serving
    wanted = max(0, min(max(for_minimum, for_queue), allowed))
    return allowed, min(wanted, 1 - min(starting, 1)) if observed.troubled else wanted


def _to_stop(observed: Observed, now: float) -> tuple[tuple[str, ...], float | None]:
    if observed.queued:
        return (), None
    serving = [pod for pod in observed.pods if pod.state is PodState.READY]
    idle = sorted((pod for pod in serving if not pod.in_flight), key=lambda pod: pod.idle_since)
    if observed.retired:
        unfinished = [pod for pod in observed.pods if pod.state.starting]
        return tuple(pod.name for pod in [*unfinished, *idle]), None
    limits = observed.limits
    excess = max(0, len(serving) - max(limits.maximum, limits.minimum))
    spare = max(0, len(serving) - limits.minimum)
    candidates = idle[:spare]
    due = [
        pod
        for position, pod in enumerate(candidates)
        if position < excess or pod.idle_since + limits.idle_seconds <= now
    ]
    waiting = [pod.idle_since + limits.idle_seconds for pod in candidates[len(due) :]]
    return tuple(pod.name for pod in due), min(waiting, default=None)
