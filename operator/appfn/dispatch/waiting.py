"""The calls of a group that wait for a pod, and what they get."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

from appfn.api.execution import Failure
from appfn.core.records import Times
from appfn.core.values import Value
from appfn.dispatch.pod import RuntimePod
from appfn.errors import TransientError


class Slot(Value, frozen=True, kw_only=True):
    """The right to run one call in a pod; must be given back by `Group.release`."""

    pod: RuntimePod
    cold: bool
    """The call waited for a pod to be started."""
    waited: Times
    """Where the wait went; nothing has run yet."""


class Waiter:
    """A call in the queue."""

    __slots__ = ("answer", "since")

    def __init__(self, since: float) -> None:
        """`since`: when the call came in, monotonic seconds."""
        self.since = since
        self.answer: asyncio.Future[Slot | Failure] = asyncio.get_running_loop().create_future()

    def granted(self) -> Slot | None:
        """Return the slot that it was given, if it was."""
        if not self.answer.done() or self.answer.cancelled() or self.answer.exception() is not None:
            return None
        granted = self.answer.result()
        return granted if isinstance(granted, Slot) else None


class Line(OrderedDict[Waiter, None]):
    """First come, first served. A mapping itself, as each call asks several times how long it is."""

    def join(self, waiter: Waiter, *, first: bool) -> None:
        """Stand at the end, or at the front."""
        self[waiter] = None
        if first:
            self.move_to_end(waiter, last=False)

    def leave(self, waiter: Waiter) -> None:
        """Stand there no more."""
        self.pop(waiter, None)

    def next(self) -> Waiter:
        """Return the first, who leaves."""
        return self.popitem(last=False)[0]

    def refuse_all(self, failure: Failure) -> None:
        """Send all away with the failure."""
        for waiter in self._empty():
            if not waiter.answer.done():
                waiter.answer.set_result(failure)

    def close(self) -> None:
        """Send all away: they may be served elsewhere, or later."""
        for waiter in self._empty():
            if not waiter.answer.done():
                waiter.answer.set_exception(TransientError("the dispatcher is shutting down", retry_after=1.0))

    def _empty(self) -> Iterable[Waiter]:
        waiters = list(self)
        self.clear()
        return waiters
