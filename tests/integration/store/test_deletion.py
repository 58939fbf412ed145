"""Deleting one execution, and what is said about it afterwards."""

from datetime import timedelta

import pytest

from appfn.api.execution import ExecutionPhase
from appfn.core.records import Origin
from appfn.errors import IdempotencyError
from appfn.store.executions import ExecutionStore
from appfn.store.model import Deletion, ExecutionQuery
from appfn.store.recording import Record
from support.executions import START, Clock, a_finished, a_request, an_outcome

QUERY = ExecutionQuery(namespace="shop", function_uid="uid-greet")


async def deleted(store: ExecutionStore, id_: str, *, namespace: str = "shop", uid: str = "uid-greet") -> Deletion:
    return await store.delete(namespace, uid, id_)


async def test_a_finished_execution_is_deleted_and_its_counts_stay(store: ExecutionStore, clock: Clock) -> None:
    record, other = a_finished(), a_finished()
    await store.record(record)  # not written yet
    await store.record(other)

    assert await deleted(store, record.id) is Deletion.DONE

    assert await store.get("shop", record.id) is None
    assert [item.id for item in (await store.list(QUERY)).executions] == [other.id]
    assert (await store.counts("uid-greet")).total == 2
    (used,) = await store.usage("shop", since=START - timedelta(days=1), until=clock.at)
    assert used.completed == 2
    assert await deleted(store, record.id) is Deletion.MISSING


async def test_what_is_in_progress_is_not_deleted(store: ExecutionStore) -> None:
    record, _ = await store.accept(a_request(), queue_limit=10)
    assert await deleted(store, record.id) is Deletion.IN_PROGRESS
    await store.claim("w", limit=1, lease_seconds=15)
    assert await deleted(store, record.id) is Deletion.IN_PROGRESS
    await store.begin(record.id, "w")
    assert await deleted(store, record.id) is Deletion.IN_PROGRESS
    await store.finish(record.id, "w", attempt=1, outcome=an_outcome())
    assert await deleted(store, record.id) is Deletion.DONE


async def test_what_waits_for_its_time_is_deleted_and_never_runs(store: ExecutionStore, clock: Clock) -> None:
    record, _ = await store.accept(a_request(scheduled_at=START + timedelta(minutes=1)), queue_limit=10)
    assert await deleted(store, record.id) is Deletion.DONE
    clock.advance(120)
    assert await store.claim("w", limit=1, lease_seconds=15) == []


@pytest.mark.parametrize(("namespace", "uid"), [("other", "uid-greet"), ("shop", "uid-other")])
async def test_nobody_deletes_what_belongs_to_another_function_or_project(
    store: ExecutionStore, namespace: str, uid: str
) -> None:
    record = a_finished()
    await store.record(record)
    assert await deleted(store, record.id, namespace=namespace, uid=uid) is Deletion.MISSING
    assert await store.get("shop", record.id) is not None


async def test_late_writes_do_not_bring_it_back(store: ExecutionStore) -> None:
    sync = a_finished()
    await store.record(sync)
    queued, _ = await store.accept(a_request(), queue_limit=10)
    await store.claim("w", limit=1, lease_seconds=15)
    await store.begin(queued.id, "w")
    await store.finish(queued.id, "w", attempt=1, outcome=an_outcome())
    for id_ in (sync.id, queued.id):
        assert await deleted(store, id_) is Deletion.DONE

    # As after a commit whose acknowledgement was lost, which another process would try again.
    await store._commits.records.put(Record(sync))
    await store.flush()
    assert not await store.finish(queued.id, "w", attempt=1, outcome=an_outcome())
    assert (await store.reap()).lost == 0

    assert await store.get("shop", sync.id) is None
    assert await store.get("shop", queued.id) is None
    assert (await store.counts("uid-greet")).completed == 2


async def test_the_idempotency_key_of_what_was_deleted_runs_nothing_again(store: ExecutionStore, clock: Clock) -> None:
    request = a_request(idempotency_key="k", body_hash="h", scheduled_at=START + timedelta(minutes=1))
    await store.accept(request, queue_limit=10)
    await deleted(store, request.id)
    with pytest.raises(IdempotencyError, match="deleted"):
        await store.accept(a_request(idempotency_key="k", body_hash="h"), queue_limit=10)
    with pytest.raises(IdempotencyError, match="deleted"):
        await store.accept(a_request(id=request.id), queue_limit=10)

    clock.advance(24 * 3600)
    assert (await store.accept(a_request(idempotency_key="k", body_hash="h"), queue_limit=10))[1]
    await store.delete_finished_before(START)
    assert (await store.accept(a_request(id=request.id), queue_limit=10))[1]


async def test_who_follows_the_feed_is_not_held_up_by_a_deletion(store: ExecutionStore) -> None:
    start = (await store.changes(-1)).next
    record = a_finished(origin=Origin.API)
    await store.record(record)
    await deleted(store, record.id)
    page = await store.changes(start)
    assert page.changes == ()
    assert page.next > start
    await store.accept(a_request(), queue_limit=10)
    (change,) = (await store.changes(page.next)).changes
    assert change.phase is ExecutionPhase.WAITING
