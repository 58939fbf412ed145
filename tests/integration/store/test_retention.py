"""Deleting what is old, and functions that are gone."""

from datetime import timedelta

from appfn.store.executions import ExecutionStore
from support.executions import START, Clock, a_finished, a_request, an_outcome, failed

DAY = 24 * 3600


async def test_retention_deletes_in_batches_and_lowers_no_count(store: ExecutionStore) -> None:
    old = [a_finished(at=START - timedelta(days=3), outcome=failed() if n == 0 else None) for n in range(5)]
    young = a_finished(at=START)
    for record in (*old, young):
        await store.record(record)
    await store.flush()
    before = START - timedelta(days=1)
    assert [await store.delete_finished_before(before, batch=2) for _ in range(4)] == [2, 2, 1, 0]
    assert await store.get("shop", old[0].id) is None
    assert await store.get("shop", young.id) is not None
    counts = await store.counts("uid-greet")
    assert (counts.total, counts.completed, counts.failed) == (6, 5, 1)


async def test_retention_leaves_what_has_not_finished(store: ExecutionStore, clock: Clock) -> None:
    waiting, _ = await store.accept(a_request(), queue_limit=10)
    clock.advance(99 * DAY)
    assert await store.delete_finished_before(clock.at) == 0
    assert await store.get("shop", waiting.id) is not None


async def test_retention_keeps_the_promise_of_an_idempotency_key(store: ExecutionStore, clock: Clock) -> None:
    record, _ = await store.accept(a_request(idempotency_key="k", body_hash="h"), queue_limit=10)
    await store.claim("w", limit=1, lease_seconds=15)
    await store.finish(record.id, "w", attempt=0, outcome=an_outcome())
    clock.advance(DAY - 1)
    assert await store.delete_finished_before(clock.at) == 0
    again, created = await store.accept(a_request(idempotency_key="k", body_hash="h"), queue_limit=10)
    assert (again.id, created) == (record.id, False)
    clock.advance(1)
    assert await store.delete_finished_before(clock.at) == 1


async def test_expired_keys_are_deleted_in_batches_too(store: ExecutionStore, clock: Clock) -> None:
    for n in range(5):
        await store.accept(a_request(idempotency_key=f"k{n}"), queue_limit=10)
    clock.advance(DAY)
    assert [await store.delete_finished_before(START, batch=2) for _ in range(4)] == [2, 2, 1, 0]


async def test_usage_is_kept_a_hundred_days(store: ExecutionStore, clock: Clock) -> None:
    await store.record(a_finished(at=START))
    await store.flush()
    for days, hours in ((99, 1), (101, 0)):
        clock.at = START + timedelta(days=days)
        await store.delete_finished_before(START)
        assert len(await store.usage("shop", since=START - timedelta(days=1), until=clock.at)) == hours


async def test_a_purged_function_leaves_nothing(store: ExecutionStore) -> None:
    for _ in range(1100):
        await store.record(a_finished())
    running, _ = await store.accept(a_request(idempotency_key="k", body_hash="h"), queue_limit=10)
    kept, _ = await store.accept(a_request(function_uid="uid-other"), queue_limit=10)
    await store.claim("w", limit=2, lease_seconds=15)
    await store.begin(running.id, "w")

    await store.purge_function("uid-greet")

    assert not await store.finish(running.id, "w", attempt=1, outcome=an_outcome())
    assert await store.get("shop", running.id) is None
    assert (await store.counts("uid-greet")).total == 0
    usage = await store.usage("shop", since=START - timedelta(days=1), until=START + timedelta(days=1))
    assert usage == []
    assert (await store.accept(a_request(idempotency_key="k", body_hash="other"), queue_limit=10))[1]
    assert await store.get("shop", kept.id) is not None
