"""What the shim reports as changed, turned into marks.

One long poll follows the shim's change feed. An Execution resource is marked at once; a Function, whose counts and
history change with every call, at most every COALESCE_SECONDS, and all of them together at most RATE times a second: so
however many are called, and however often, that costs a bounded number of writes.
The feed is followed from where it ends at the start: what happened before is seen by looking at every object.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable

from appfn import names
from appfn.api.execution import Execution
from appfn.api.kinds import Key
from appfn.core.observed import Change
from appfn.core.records import Origin
from appfn.errors import AppfnError
from appfn.reconcile.dependencies import Controller, Dependencies
from appfn.reconcile.gather import of_function

logger = logging.getLogger(__name__)

COALESCE_SECONDS = 5.0
"""Least time between two marks of one Function."""
RATE = 20.0
"""Functions marked a second."""
BURST = 40
"""Functions marked at once after a quiet time."""
WAIT_SECONDS = 25.0
"""How long one poll waits for a change."""
PAUSE_SECONDS = 0.5
"""Between two polls, so that a busy shim has more to tell in each: a poll costs it as much as thirty calls."""
SHORT_PAUSE_SECONDS = 0.1
"""The same while Executions are under way, whose end somebody may wait for."""
AWAY_SECONDS = 5.0
"""Pause after a poll that failed."""
_FROM_NOW_ON = -1
_MANY = 10_000


class Throttle:
    """Spreads the marks of each key: none before `interval` seconds after the last one of that key.

    All keys together are marked `rate` times a second, and where there was less for a while, up to `burst` at once: so
    the mark of one of many busy keys comes as many seconds late as there are others, by the rate.
    """

    def __init__(self, interval: float, *, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._interval = interval
        self._spacing = 1 / rate
        self._lead = burst / rate
        self._clock = clock
        self._turn = clock() - self._lead
        """When the last mark was to be, had all of them been evenly spaced."""
        self._last: dict[Key, float] = {}

    def delay(self, key: Key) -> float:
        """Return the seconds after which to mark the key; calls until then return what is left of them."""
        now = self._clock()
        last = self._last.get(key)
        if last is None or last <= now:
            if len(self._last) > _MANY:
                self._last = {known: time for known, time in self._last.items() if time + self._interval > now}
            self._turn = max(self._turn, now - self._lead) + self._spacing
            last = max(now, self._turn, now if last is None else last + self._interval)
            self._last[key] = last
        return last - now


async def follow(deps: Dependencies, *, clock: Callable[[], float]) -> None:
    """Follow the feed until cancelled; `clock` is monotonic, in seconds."""
    throttle = Throttle(COALESCE_SECONDS, rate=RATE, burst=BURST, clock=clock)
    position = _FROM_NOW_ON
    while True:
        try:
            page = await deps.shim.changes(position, wait=WAIT_SECONDS)
            await _mark(deps, page.changes, throttle)
        except AppfnError as error:
            logger.warning("change feed", extra={"error": str(error)})
            await asyncio.sleep(AWAY_SECONDS)
        else:
            position = page.next
            await asyncio.sleep(SHORT_PAUSE_SECONDS if deps.submitted else PAUSE_SECONDS)


async def _mark(deps: Dependencies, changes: Iterable[Change], throttle: Throttle) -> None:
    unnamed: dict[Key, set[str]] = defaultdict(set)
    for change in changes:
        function = Key(change.namespace, change.function)
        if change.origin is Origin.RESOURCE:
            execution = deps.submitted.get(change.execution)
            if execution is None:
                unnamed[function].add(change.execution)
            else:
                deps.mark(Controller.EXECUTION, execution)
        after = throttle.delay(function)
        deps.mark(Controller.FUNCTION, function, after=after)
        if change.phase.terminal and change.origin is not Origin.RESOURCE:
            deps.mark(Controller.HISTORY, function, after=after)
    for function, uids in unnamed.items():
        await _mark_by_uid(deps, function, uids)


async def _mark_by_uid(deps: Dependencies, function: Key, uids: set[str]) -> None:
    """Mark Executions that an earlier process submitted: the feed knows their uid, the API server their name."""
    for execution in await of_function(deps.cluster, Execution, function, labels=f"!{names.LABEL_MIRRORED}"):
        if execution.metadata.uid in uids:
            deps.mark(Controller.EXECUTION, execution.metadata.key)
