"""The change feed: who is marked, how often, and that the shim's absence only delays it."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfn.api.base import Json
from appfn.api.kinds import Key, Kind
from appfn.config import load
from appfn.core.observed import Changes
from appfn.errors import TransientError
from appfn.kube.protocols import Cluster
from appfn.reconcile import change_feed
from appfn.reconcile.change_feed import COALESCE_SECONDS, PAUSE_SECONDS, SHORT_PAUSE_SECONDS, Throttle
from appfn.reconcile.dependencies import Controller, Dependencies
from appfn.reconcile.shim_client import Shim
from support.clock import on_virtual_clock
from support.objects import execution

HELLO = Key("shop", "hello")


@dataclass
class Marks:
    """What was marked, with the delay."""

    made: list[tuple[Controller, Key, float]] = field(default_factory=list)
    due: set[float] = field(default_factory=set)

    def __call__(self, controller: Controller, key: Key, *, after: float = 0.0) -> None:
        self.made.append((controller, key, after))
        self.due.add(round(asyncio.get_running_loop().time() + after, 3))


@dataclass
class Feed:
    """Pages to be answered in order, or errors; then it waits for ever."""

    pages: list[Changes | Exception]
    asked: list[int] = field(default_factory=list)
    last_asked: float = 0.0

    async def changes(self, after: int, *, wait: float) -> Changes:
        assert wait > 0
        self.asked.append(after)
        self.last_asked = asyncio.get_running_loop().time()
        if not self.pages:
            await asyncio.get_running_loop().create_future()
        page = self.pages.pop(0)
        if isinstance(page, Exception):
            raise page
        return page


class Listing:
    """A reader that lists one Execution."""

    async def list(self, kind: Kind, **_selectors: str) -> list[Json]:
        assert kind.name == "Execution"
        return [execution("mine").model_dump(mode="json", by_alias=True)]


def page(next_: int, *changes: Json) -> Changes:
    return Changes.model_validate({"next": next_, "changes": changes})


def change(execution_id: str = "e1", *, origin: str = "api", phase: str = "completed") -> Json:
    return {"namespace": "shop", "function": "hello", "execution": execution_id, "origin": origin, "phase": phase}


async def run(*pages: Changes | Exception, submitted: Sequence[tuple[str, Key]] = ()) -> tuple[Marks, Feed]:
    """Follow the feed to its end."""
    marks, feed = Marks(), Feed(list(pages))
    deps = Dependencies(
        cluster=cast(Cluster, Listing()),
        shim=cast(Shim, feed),
        config=load({"APPFN_IMAGE": "appfn"}),
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        mark=marks,
    )
    for uid, key in submitted:
        deps.submitted.add(uid, key)
    clock = asyncio.get_running_loop().time
    with suppress(TimeoutError):
        async with asyncio.timeout(100):
            await change_feed.follow(deps, clock=clock)
    return marks, feed


@on_virtual_clock
async def test_a_finished_call_marks_counts_and_history() -> None:
    marks, feed = await run(page(7), page(8, change()))

    assert marks.made == [(Controller.FUNCTION, HELLO, 0), (Controller.HISTORY, HELLO, 0)]
    assert feed.asked == [-1, 7, 8]


@on_virtual_clock
async def test_a_busy_function_is_marked_once_in_five_seconds() -> None:
    begun = asyncio.get_running_loop().time()
    marks, _ = await run(page(0), *(page(number, change(), change()) for number in range(1, 11)))

    first = begun + PAUSE_SECONDS
    assert marks.due == {round(first, 3), round(first + COALESCE_SECONDS, 3)}


@on_virtual_clock
@pytest.mark.parametrize(
    ("submitted", "pause"), [((), PAUSE_SECONDS), ([("uid-x", Key("shop", "x"))], SHORT_PAUSE_SECONDS)]
)
async def test_a_busy_shim_is_asked_less_often_while_nobody_waits_for_an_execution(
    submitted: Sequence[tuple[str, Key]], pause: float
) -> None:
    begun = asyncio.get_running_loop().time()
    _, feed = await run(*(page(number, change()) for number in range(5)), submitted=submitted)

    assert feed.last_asked - begun == pytest.approx(5 * pause)


@on_virtual_clock
async def test_an_execution_resource_is_marked_at_once_by_the_name_it_was_submitted_under() -> None:
    changes = [change("uid-x", origin="resource", phase=phase) for phase in ("processing", "completed")]

    marks, _ = await run(page(0), page(2, *changes), submitted=[("uid-x", Key("shop", "x"))])

    assert marks.made.count((Controller.EXECUTION, Key("shop", "x"), 0)) == 2
    assert not any(controller is Controller.HISTORY for controller, _, _ in marks.made)


@on_virtual_clock
async def test_an_execution_that_an_earlier_process_submitted_is_found_by_its_uid() -> None:
    marks, _ = await run(page(0), page(2, change("uid-mine", origin="resource"), change("uid-gone", origin="resource")))

    assert [key for controller, key, _ in marks.made if controller is Controller.EXECUTION] == [Key("shop", "mine")]


@on_virtual_clock
async def test_a_shim_that_is_away_is_asked_again_for_what_was_missed() -> None:
    marks, feed = await run(page(3), TransientError("away"), TransientError("away"), page(4, change()))

    assert feed.asked == [-1, 3, 3, 3, 4]
    assert marks.made[0] == (Controller.FUNCTION, HELLO, 0)


@given(pauses=st.lists(st.floats(0, 12, allow_nan=False), max_size=40))
def test_marks_are_spread_and_none_is_later_than_the_interval(pauses: list[float]) -> None:
    now = 0.0
    throttle = Throttle(5.0, rate=20, burst=40, clock=lambda: now)
    due: list[float] = []

    for pause in pauses:
        now += pause
        delay = throttle.delay(HELLO)
        assert 0 <= delay <= 5 + 1e-6
        due.append(now + delay)

    distinct: list[float] = []
    for time in due:
        if not distinct or time - distinct[-1] > 1e-6:
            distinct.append(time)
    assert all(later - earlier >= 5 - 1e-6 for earlier, later in pairwise(distinct))


def test_functions_are_throttled_apart() -> None:
    throttle = Throttle(5.0, rate=20, burst=40, clock=lambda: 1.0)

    assert [throttle.delay(HELLO), throttle.delay(Key("shop", "other")), throttle.delay(HELLO)] == [0, 0, 5]


def test_many_functions_are_marked_in_turn_after_a_burst_of_them() -> None:
    now = 100.0
    throttle = Throttle(5.0, rate=20, burst=40, clock=lambda: now)
    first = [throttle.delay(Key("shop", f"f-{number}")) for number in range(60)]
    assert first[:40] == [0] * 40
    assert first[40:] == pytest.approx([0.05 * number for number in range(1, 21)])

    now += 1
    assert throttle.delay(Key("shop", "another")) == pytest.approx(0.05)
    now += 60
    assert throttle.delay(Key("shop", "one more")) == 0
