"""Executions that are not to run before a time of their own."""

from dataclasses import replace
from datetime import timedelta

import pytest

from appfn.api.execution import ExecutionPhase
from appfn.core.records import Origin
from appfn.errors import QueueFullError
from appfn.store.executions import ExecutionStore
from appfn.store.model import Comparison, ExecutionQuery, Field, Filter
from support.executions import START, Clock, a_request, an_outcome

LATER = START + timedelta(minutes=5)
QUERY = ExecutionQuery(namespace="shop", function_uid="uid-greet")


async def claimed(store: ExecutionStore, limit: int = 10) -> list[str]:
    return [record.id for record in await store.claim("w", limit=limit, lease_seconds=15)]


async def test_a_delayed_execution_is_scheduled_and_not_claimed_before_its_time(
    store: ExecutionStore, clock: Clock
) -> None:
    record, created = await store.accept(a_request(scheduled_at=LATER), queue_limit=10)
    assert (record.phase, created) == (ExecutionPhase.SCHEDULED, True)
    clock.advance(299)
    assert await claimed(store) == []
    found = await store.get("shop", record.id)
    assert found is not None
    assert (found.phase, found.request.scheduled_at) == (ExecutionPhase.SCHEDULED, LATER)

    clock.advance(1)
    assert await claimed(store) == [record.id]
    assert await store.begin(record.id, "w") == 1
    assert await store.finish(record.id, "w", attempt=1, outcome=an_outcome())


async def test_what_waits_for_its_time_outlives_a_restart(url: str, clock: Clock) -> None:
    async with ExecutionStore.open(url, now=clock) as store:
        record, _ = await store.accept(a_request(scheduled_at=LATER), queue_limit=10)
    clock.at = LATER
    async with ExecutionStore.open(url, now=clock) as store:
        assert await claimed(store) == [record.id]


async def test_a_time_that_has_passed_is_now(store: ExecutionStore) -> None:
    record, _ = await store.accept(a_request(scheduled_at=START), queue_limit=10)
    assert record.phase is ExecutionPhase.WAITING
    assert await claimed(store) == [record.id]


async def test_the_tick_of_a_schedule_is_not_delayed_by_a_clock_that_is_ahead(store: ExecutionStore) -> None:
    record, _ = await store.accept(a_request(scheduled_at=LATER, origin=Origin.SCHEDULE), queue_limit=10)
    assert record.phase is ExecutionPhase.WAITING


async def test_those_whose_time_came_take_their_turn_by_that_time(store: ExecutionStore, clock: Clock) -> None:
    late, _ = await store.accept(a_request(scheduled_at=LATER), queue_limit=10)
    early, _ = await store.accept(a_request(scheduled_at=LATER - timedelta(minutes=1)), queue_limit=10)
    clock.at = LATER
    now, _ = await store.accept(a_request(), queue_limit=10)
    assert await claimed(store) == [early.id, late.id, now.id]


async def test_they_are_listed_as_scheduled(store: ExecutionStore, clock: Clock) -> None:
    record, _ = await store.accept(a_request(scheduled_at=LATER), queue_limit=10)
    await store.accept(a_request(), queue_limit=10)
    scheduled = replace(QUERY, filters=(Filter(Field.PHASE, Comparison.EQUAL, ("scheduled",)),))
    assert [item.id for item in (await store.list(scheduled)).executions] == [record.id]
    clock.at = LATER
    await claimed(store)
    assert (await store.list(scheduled)).total == 0


async def test_they_do_not_fill_the_queue_and_are_bounded_by_themselves(store: ExecutionStore) -> None:
    for _ in range(2):
        await store.accept(a_request(scheduled_at=LATER), queue_limit=2)
    assert (await store.accept(a_request(), queue_limit=2))[1]
    with pytest.raises(QueueFullError):
        await store.accept(a_request(scheduled_at=LATER), queue_limit=2)
    assert (await store.accept(a_request(scheduled_at=LATER, function_uid="uid-other"), queue_limit=2))[1]
