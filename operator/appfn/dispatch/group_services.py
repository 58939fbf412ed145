"""What all groups of pods share, and what they are told."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from appfn.dispatch.fleet import Fleet
from appfn.dispatch.launcher import Launcher
from appfn.dispatch.stats import Counters
from appfn.dispatch.tasks import Tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupServices:
    """What all groups share."""

    launcher: Launcher
    fleet: Fleet
    tasks: Tasks
    counters: Counters
    queue_limit: int
    wait_seconds: float
    """How long a call may wait for a pod."""
    now: Callable[[], float]
    """Monotonic seconds, those of the event loop."""


class Standing(StrEnum):
    """Whether a group should be there."""

    TARGET = "target"
    """It is what should run: `minReplicas` holds."""
    CALLED = "called"
    """A call asked for it since the last sync, which will tell."""
    RETIRED = "retired"
    """Not any more: its pods go as they run out of work."""
