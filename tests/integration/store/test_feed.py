"""The change feed."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from appfn.api.execution import ExecutionPhase
from appfn.core.records import Origin
from appfn.store.executions import ExecutionStore
from appfn.store.model import Change
from support.executions import Clock, a_finished, a_request, an_outcome

LIMIT = 5000


@pytest.fixture
async def other(url: str, clock: Clock, store: ExecutionStore) -> AsyncIterator[ExecutionStore]:
    """The store of another replica."""
    async with ExecutionStore.open(url, now=clock) as opened:
        yield opened


async def test_every_phase_of_an_execution_shows_in_the_feed(store: ExecutionStore) -> None:
    end = (await store.changes(-1)).next
    record, _ = await store.accept(a_request(origin=Origin.RESOURCE), queue_limit=LIMIT)
    page = await store.changes(end)
    assert page.changes == (
        Change(
            sequence=page.next,
            namespace="shop",
            function="greet",
            function_uid="uid-greet",
            execution=record.id,
            origin=Origin.RESOURCE,
            phase=ExecutionPhase.WAITING,
        ),
    )
    await store.claim("w", limit=1, lease_seconds=15)
    assert (await store.changes(page.next)).changes == ()
    await store.begin(record.id, "w")
    page = await store.changes(page.next)
    assert [change.phase for change in page.changes] == [ExecutionPhase.PROCESSING]
    await store.finish(record.id, "w", attempt=1, outcome=an_outcome())
    page = await store.changes(page.next)
    assert [change.phase for change in page.changes] == [ExecutionPhase.COMPLETED]
    assert (await store.changes(page.next)) == type(page)(page.next, ())


async def test_pages_of_the_feed_show_every_execution_once(store: ExecutionStore) -> None:
    ids = set()
    for size in (1, 7, 3, 20, 1):
        records = [a_finished(origin=Origin.RESOURCE) for _ in range(size)]
        ids |= {record.id for record in records}
        for record in records:
            await store.record(record)
        await store.flush()
    seen: list[str] = []
    after = 0
    while page := (await store.changes(after, limit=2)).changes:
        seen += [change.execution for change in page]
        after = page[-1].sequence
    assert sorted(seen) == sorted(ids)


async def test_calls_of_a_function_that_come_to_the_same_show_as_one_change(store: ExecutionStore) -> None:
    for function in ("greet", "greet", "bye", "greet"):
        await store.record(a_finished(function=function, function_uid=f"uid-{function}"))
    await store.flush()

    page = await store.changes(0)

    assert sorted((change.function, change.execution) for change in page.changes) == [("bye", ""), ("greet", "")]
    assert page.next == (await store.changes(-1)).next
    assert (await store.changes(page.next)).changes == ()


async def test_a_reader_beside_many_writers_misses_nothing(store: ExecutionStore, other: ExecutionStore) -> None:
    seen: set[str] = set()
    written: set[str] = set()
    done = asyncio.Event()

    async def write(target: ExecutionStore) -> None:
        for _ in range(60):
            records = await asyncio.gather(
                *(target.accept(a_request(origin=Origin.RESOURCE), queue_limit=LIMIT) for _ in range(3))
            )
            written.update(record.id for record, _ in records)

    async def read() -> None:
        after = 0
        while True:
            finished = done.is_set()
            page = await store.changes(after, limit=5)
            seen.update(change.execution for change in page.changes)
            if finished and not page.changes:
                return
            after = page.next

    reader = asyncio.create_task(read())
    await asyncio.gather(write(store), write(other), write(store), write(other))
    done.set()
    await reader
    assert len(written) == 720
    assert seen == written


async def test_a_change_of_this_process_wakes_who_waits_at_once_and_of_another_soon(
    store: ExecutionStore,
    other: ExecutionStore,
) -> None:
    after = (await store.changes(-1)).next
    assert not await store.wait_change(after, within=0.01)
    here, there = (asyncio.create_task(s.wait_change(after, within=10)) for s in (store, other))
    await store.accept(a_request(), queue_limit=LIMIT)
    assert await asyncio.wait_for(here, 0.9)
    assert await asyncio.wait_for(there, 3)


async def test_a_reader_that_is_ahead_of_a_replaced_database_is_sent_back(store: ExecutionStore) -> None:
    await store.accept(a_request(), queue_limit=LIMIT)
    end = (await store.changes(-1)).next
    assert await store.wait_change(end + 1000, within=0.01)
    assert (await store.changes(end + 1000)).next == end


async def test_executions_deleted_behind_a_reader_do_not_stop_it(store: ExecutionStore) -> None:
    after = (await store.changes(-1)).next
    await store.record(a_finished())
    await store.flush()
    await store.purge_function("uid-greet")
    page = await store.changes(after)
    assert page.changes == ()
    assert not await store.wait_change(page.next, within=0.01)
