"""The controllers by name, and the feeds that wake them: all that handlers/ needs to know of this package."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from appfn.api.kinds import Key
from appfn.config import Config
from appfn.kube.protocols import Cluster
from appfn.reconcile.shim_client import Shim


class Controller(StrEnum):
    """One reconciler; with a Key it is what the work queue holds."""

    FUNCTION = "function"
    DEPLOYMENT = "deployment"
    EXECUTION = "execution"
    RUNTIME = "runtime"
    HISTORY = "history"
    """Key of a Function: keeps its newest executions mirrored as Execution resources."""


Handler = Callable[[Key], Awaitable[float | None]]
"""Brings one object to what it should be, from whatever state; returns seconds until it wants to look again.

Raises the errors of `appfn.errors`; the queue backs off, and honours `TransientError.retry_after`.
"""


class Mark(Protocol):
    """Puts a key into the work queue, now or after some seconds; must not block."""

    def __call__(self, controller: Controller, key: Key, *, after: float = 0.0) -> None:
        """Mark the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """What every controller is given."""

    cluster: Cluster
    shim: Shim
    config: Config
    now: Callable[[], datetime]
    """Aware UTC time."""
    mark: Mark


def controllers(deps: Dependencies) -> Mapping[Controller, Handler]:
    """Return the reconciler of every controller."""
    raise NotImplementedError


async def feeds(deps: Dependencies) -> None:
    """Mark what the shim reports as changed, until cancelled; survives the shim's absence."""
    raise NotImplementedError
