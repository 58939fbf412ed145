"""One runtime pod as its dispatcher knows it: state, calls in it, and what the watch cache says of it."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from appfn.api.base import Json
from appfn.api.kinds import Key
from appfn.api.runtime import Architecture
from appfn.core.records import Times
from appfn.dispatch.podstatus import read_status


class PodState(StrEnum):
    """The life of a pod; it only ever moves forward."""

    CREATING = "creating"
    """Asked of the API server, or about to be."""
    SCHEDULING = "scheduling"
    """Exists; its address is not known yet."""
    CONNECTING = "connecting"
    """Address known; the agent does not answer yet."""
    LOADING = "loading"
    """The agent has the code, or is getting it."""
    READY = "ready"
    """Takes calls."""
    DRAINING = "draining"
    """Takes no new calls; those in it go on."""
    GONE = "gone"
    """No concern of ours any more; being deleted or deleted."""

    @property
    def starting(self) -> bool:
        """Tell whether the pod is on its way to READY."""
        return _ORDER[self] < _ORDER[PodState.READY]


_ORDER: Final = {state: position for position, state in enumerate(PodState)}


@dataclass(slots=True)
class Timeline:
    """When a pod reached what, in monotonic seconds; 0 while it has not."""

    created: float = 0.0
    addressed: float = 0.0
    loaded: float = 0.0
    boot_seconds: float = 0.0
    """The end of the load: the runtime server's own start, as the agent measured it."""

    def waited(self, since: float, until: float) -> Times:
        """Return how the wait of one call divides into phases; only what lies within the wait counts."""
        if self.loaded <= since:
            return Times(queue_ms=milliseconds(until - since))
        booting = max(self.addressed, self.loaded - self.boot_seconds)

        def within(start: float, end: float) -> float:
            return max(0.0, min(end, until) - max(start, since))

        claim, load = within(self.created, self.addressed), within(self.addressed, booting)
        boot = within(booting, self.loaded)
        return Times(
            queue_ms=milliseconds(until - since - claim - load - boot),
            claim_ms=milliseconds(claim),
            load_ms=milliseconds(load),
            boot_ms=milliseconds(boot),
        )


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, never less than 0."""
    return max(0, round(seconds * 1000))


class RuntimePod:
    """A pod of one deployment. Mutable, and touched by the event loop's thread alone."""

    def __init__(
        self,
        *,
        key: Key,
        architecture: Architecture,
        runtime_key: str,
        created: float,
        body: Json | None = None,
    ) -> None:
        """`created`: monotonic seconds, or when it was claimed; `body`: a pod that exists already, as last seen."""
        self.key: Final = key
        self.architecture: Final = architecture
        self.runtime_key: Final = runtime_key
        self.timeline: Final = Timeline(created=created)
        self.exists: Final = body is not None
        """Nobody has to create it: it was claimed from a pool, or adopted."""
        self.body: Json = body or {}
        self.announced = False
        """Its agent has said itself that it listens."""
        self._restarts = read_status(self.body).restarts
        self.in_flight = 0
        self.served = 0
        """Calls it has answered."""
        self.idle_since = created
        self.waiting = "nothing is known of it yet"
        """Why it is not up yet, in words."""
        loop = asyncio.get_running_loop()
        self.address: Final[asyncio.Future[str]] = loop.create_future()
        """The pod's IP address: its agent announces it, and if that fails, the watch cache tells it later."""
        self.ending: Final[asyncio.Future[str]] = loop.create_future()
        """Why the pod serves no (more) calls, in words, once that is certain."""
        self.vanished: Final[asyncio.Future[None]] = loop.create_future()
        """Done once the API server has no such pod any more: nothing runs in it, whatever its connections say."""
        self.state = PodState.CREATING
        """Where in its life the pod is; `advance` alone changes it."""

    def advance(self, state: PodState) -> None:
        """Move on to a later state; a pod that is further already, as one given up meanwhile, stays where it is."""
        if _ORDER[state] > _ORDER[self.state]:
            self.state = state

    def observe(self, body: Json) -> None:
        """Take in what the API server says of the pod."""
        self.body = body
        status = read_status(body)
        self.waiting = status.waiting or self.waiting
        if status.address and not self.address.done():
            self.address.set_result(status.address)
        if status.ended:
            self._end(status.ended)
        elif status.restarts > self._restarts:  # what it runs now has no code, and never gets any
            self._end(status.last_end)

    def announce(self, address: str) -> None:
        """Take in what the pod's agent says of it."""
        self.announced = True
        if not self.address.done():
            self.address.set_result(address)

    def vanish(self) -> None:
        """Take in that the API server has the pod no more."""
        self._end("it was deleted")
        if not self.vanished.done():
            self.vanished.set_result(None)

    def _end(self, why: str) -> None:
        if not self.ending.done():  # the first reason stands
            self.ending.set_result(why)
