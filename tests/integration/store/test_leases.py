"""Claims, leases, fencing and reaping."""

from collections.abc import AsyncIterator

import pytest

from appfn.api.execution import Component, ExecutionPhase, FailureReason
from appfn.core.records import ExecutionRecord
from appfn.store.executions import ExecutionStore
from appfn.store.model import Reaped
from support.executions import Clock, a_request, an_outcome, failed

LIMIT = 5000


@pytest.fixture
async def other(url: str, clock: Clock, store: ExecutionStore) -> AsyncIterator[ExecutionStore]:
    """The store of another replica."""
    async with ExecutionStore.open(url, now=clock) as opened:
        yield opened


async def accepted(store: ExecutionStore, **changes: object) -> ExecutionRecord:
    record, created = await store.accept(a_request(**changes), queue_limit=LIMIT)
    assert created
    return record


async def claimed(store: ExecutionStore, worker: str = "w", **changes: object) -> ExecutionRecord:
    record = await accepted(store, **changes)
    (taken,) = await store.claim(worker, limit=1, lease_seconds=15)
    assert taken.id == record.id
    return taken


async def state(store: ExecutionStore, execution_id: str) -> ExecutionRecord:
    record = await store.get("shop", execution_id)
    assert record is not None
    return record


async def test_an_execution_goes_from_waiting_through_processing_to_its_end(
    store: ExecutionStore, clock: Clock
) -> None:
    record = await claimed(store, jwt="token")
    assert record.request.jwt == "token"
    assert record.phase is ExecutionPhase.WAITING
    clock.advance(1)
    assert await store.begin(record.id, "w", deployment="greet-1") == 1
    running = await state(store, record.id)
    assert (running.phase, running.attempt, running.started_at) == (ExecutionPhase.PROCESSING, 1, clock.at)
    assert running.deployment == "greet-1"
    clock.advance(1)
    outcome = an_outcome()
    assert await store.finish(record.id, "w", attempt=1, outcome=outcome, deployment="greet-2")
    ended = await state(store, record.id)
    assert (ended.phase, ended.outcome, ended.finished_at) == (ExecutionPhase.COMPLETED, outcome, clock.at)
    assert ended.deployment == "greet-2"
    assert ended.created_at == record.created_at


async def test_a_jwt_is_erased_when_the_execution_ends_and_shown_to_no_reader(store: ExecutionStore) -> None:
    record = await claimed(store, jwt="token", max_attempts=2)
    assert (await state(store, record.id)).request.jwt == ""
    await store.finish(record.id, "w", attempt=0, outcome=failed())
    async with store._database.reader.connect() as connection:
        jwt = await connection.exec_driver_sql("SELECT jwt FROM executions")
        assert jwt.scalar_one() == ""


async def test_what_is_claimed_is_not_claimed_again(store: ExecutionStore, other: ExecutionStore) -> None:
    await claimed(store)
    assert await store.claim("w", limit=5, lease_seconds=15) == []
    assert await other.claim("v", limit=5, lease_seconds=15) == []


async def test_only_the_worker_that_claimed_may_begin_finish_release_or_renew(store: ExecutionStore) -> None:
    record = await claimed(store)
    assert await store.begin(record.id, "thief") is None
    assert not await store.finish(record.id, "thief", attempt=0, outcome=an_outcome())
    assert not await store.release(record.id, "thief")
    assert await store.renew("thief", [record.id], lease_seconds=15) == frozenset()
    assert await store.begin("unknown", "w") is None
    assert await store.begin(record.id, "w") == 1


async def test_a_begun_execution_is_not_begun_again(store: ExecutionStore) -> None:
    record = await claimed(store)
    assert await store.begin(record.id, "w") == 1
    assert await store.begin(record.id, "w") is None
    assert not await store.release(record.id, "w")


async def test_finishing_again_is_harmless_and_counts_once(store: ExecutionStore) -> None:
    record = await claimed(store)
    assert await store.begin(record.id, "w") == 1
    assert await store.finish(record.id, "w", attempt=1, outcome=an_outcome())
    assert await store.finish(record.id, "w", attempt=1, outcome=failed())
    assert (await state(store, record.id)).phase is ExecutionPhase.COMPLETED
    counts = await store.counts("uid-greet")
    assert (counts.completed, counts.failed) == (1, 0)


async def test_a_claimed_execution_can_end_without_having_begun(store: ExecutionStore) -> None:
    record = await claimed(store)
    assert await store.finish(record.id, "w", attempt=record.attempt, outcome=failed())
    ended = await state(store, record.id)
    assert (ended.phase, ended.attempt, ended.started_at) == (ExecutionPhase.FAILED, 0, None)


async def test_a_released_execution_keeps_its_turn_or_waits_for_its_delay(store: ExecutionStore, clock: Clock) -> None:
    first = await accepted(store)
    clock.advance(1)
    second = await accepted(store)
    (taken,) = await store.claim("w", limit=1, lease_seconds=15)
    assert taken.id == first.id
    assert await store.release(first.id, "w")
    (taken,) = await store.claim("w", limit=1, lease_seconds=15)
    assert taken.id == first.id
    assert await store.release(first.id, "w", delay=5)
    taken_now = await store.claim("w", limit=5, lease_seconds=15)
    assert [record.id for record in taken_now] == [second.id]
    clock.advance(5)
    taken_later = await store.claim("w", limit=5, lease_seconds=15)
    assert [record.id for record in taken_later] == [first.id]


async def test_a_lease_that_is_renewed_does_not_run_out(store: ExecutionStore, clock: Clock) -> None:
    record = await claimed(store)
    for _ in range(3):
        clock.advance(14)
        assert await store.renew("w", [record.id, "unknown"], lease_seconds=15) == {record.id}
        assert await store.reap() == Reaped()
    assert await store.begin(record.id, "w") == 1
    assert await store.renew("w", [], lease_seconds=15) == frozenset()


async def test_an_execution_not_begun_is_run_by_another_worker_when_its_worker_dies(
    store: ExecutionStore,
    other: ExecutionStore,
    clock: Clock,
) -> None:
    record = await claimed(store)
    clock.advance(15)
    assert await other.reap() == Reaped(requeued=1)
    (again,) = await other.claim("v", limit=5, lease_seconds=15)
    assert again.id == record.id
    assert await store.begin(record.id, "w") is None
    assert await other.begin(record.id, "v") == 1
    assert not await store.finish(record.id, "w", attempt=1, outcome=an_outcome())


async def test_a_worker_whose_lease_ran_out_cannot_begin_even_before_anybody_noticed(
    store: ExecutionStore,
    clock: Clock,
) -> None:
    record = await claimed(store)
    clock.advance(15)
    assert await store.begin(record.id, "w") is None


async def test_a_begun_execution_ends_executor_lost_when_its_worker_dies(store: ExecutionStore, clock: Clock) -> None:
    record = await claimed(store, jwt="token")
    await store.begin(record.id, "w")
    clock.advance(15)
    assert await store.reap() == Reaped(lost=1)
    assert await store.reap() == Reaped()
    lost = await state(store, record.id)
    assert (lost.phase, lost.attempt, lost.finished_at) == (ExecutionPhase.FAILED, 1, clock.at)
    assert lost.outcome is not None
    assert lost.outcome.status_code == 500
    assert lost.outcome.failure is not None
    assert lost.outcome.failure.reason is FailureReason.EXECUTOR_LOST
    assert lost.outcome.failure.component is Component.EXECUTOR
    assert not await store.finish(record.id, "w", attempt=1, outcome=an_outcome())
    assert (await state(store, record.id)).phase is ExecutionPhase.FAILED
    counts = await store.counts("uid-greet")
    assert (counts.total, counts.completed, counts.failed) == (1, 0, 1)


async def test_a_begun_execution_with_attempts_left_runs_again_with_the_next_number(
    store: ExecutionStore,
    clock: Clock,
) -> None:
    record = await claimed(store, max_attempts=2, jwt="token")
    await store.begin(record.id, "w")
    clock.advance(15)
    assert await store.reap() == Reaped(retried=1)
    assert (await state(store, record.id)).phase is ExecutionPhase.WAITING
    (again,) = await store.claim("w", limit=1, lease_seconds=15)
    assert (again.attempt, again.request.jwt) == (1, "token")
    # The same worker's first attempt comes back late: the number tells it from the second.
    assert await store.begin(record.id, "w") == 2
    assert not await store.finish(record.id, "w", attempt=1, outcome=failed())
    clock.advance(15)
    assert await store.reap() == Reaped(lost=1)


async def test_an_attempt_that_came_to_nothing_is_given_back_by_its_own_worker_alone(
    store: ExecutionStore,
    clock: Clock,
) -> None:
    record = await claimed(store, max_attempts=2)
    assert not await store.retry(record.id, "w", attempt=1), "it was not begun"
    await store.begin(record.id, "w")
    assert not await store.retry(record.id, "v", attempt=1)
    assert not await store.retry(record.id, "w", attempt=2)
    assert await store.retry(record.id, "w", attempt=1, delay=5)
    assert not await store.retry(record.id, "w", attempt=1), "its time is over"
    assert not await store.finish(record.id, "w", attempt=1, outcome=an_outcome())
    assert await store.claim("w", limit=1, lease_seconds=15) == []
    clock.advance(5)
    (again,) = await store.claim("w", limit=1, lease_seconds=15)
    assert (again.phase, again.attempt) == (ExecutionPhase.WAITING, 1)
    assert await store.begin(record.id, "w") == 2


async def test_a_finish_after_the_lease_ran_out_counts_as_long_as_nobody_took_it(
    store: ExecutionStore,
    clock: Clock,
) -> None:
    record = await claimed(store)
    await store.begin(record.id, "w")
    clock.advance(60)
    assert await store.finish(record.id, "w", attempt=1, outcome=an_outcome())
    assert await store.reap() == Reaped()


async def test_one_function_with_a_thousand_waiting_does_not_hold_up_another_with_one(store: ExecutionStore) -> None:
    for _ in range(40):
        await accepted(store, function_uid="uid-big")
    small = await accepted(store, function_uid="uid-small")
    taken = await store.claim("w", limit=2, lease_seconds=15)
    assert {record.request.function_uid for record in taken} == {"uid-big", "uid-small"}
    assert small.id in {record.id for record in taken}


async def test_functions_take_turns_over_several_claims(store: ExecutionStore) -> None:
    for uid in ("a", "b", "c"):
        for _ in range(3):
            await accepted(store, function_uid=uid)
    turns = [
        record.request.function_uid for _ in range(9) for record in await store.claim("w", limit=1, lease_seconds=15)
    ]
    assert turns == ["a", "b", "c"] * 3


async def test_a_claim_takes_the_oldest_first_and_fills_its_limit_from_whoever_has_more(
    store: ExecutionStore,
    clock: Clock,
) -> None:
    big = []
    for _ in range(6):
        big.append((await accepted(store, function_uid="uid-big")).id)
        clock.advance(1)
    small = (await accepted(store, function_uid="uid-small")).id
    taken = [record.id for record in await store.claim("w", limit=5, lease_seconds=15)]
    assert taken == [big[0], small, *big[1:4]]


async def test_a_claim_respects_the_caps_of_functions(store: ExecutionStore) -> None:
    for uid in ("a", "b", "c"):
        for _ in range(4):
            await accepted(store, function_uid=uid)
    taken = await store.claim("w", limit=20, lease_seconds=15, free={"a": 0, "b": 2})
    assert sorted(record.request.function_uid for record in taken) == ["b", "b", "c", "c", "c", "c"]


async def test_who_waits_for_work_is_woken_by_an_acceptance(store: ExecutionStore) -> None:
    assert await store.claim("w", limit=1, lease_seconds=15) == []
    assert not await store.wait_claimable(within=0.01)
    await accepted(store)
    assert await store.wait_claimable(within=5)
    await store.claim("w", limit=1, lease_seconds=15)
    # A full claim may have left something: look again.
    assert await store.wait_claimable(within=5)
    assert await store.claim("w", limit=1, lease_seconds=15) == []
    assert not await store.wait_claimable(within=0.01)


async def test_only_ended_executions_and_outcomes_are_taken(store: ExecutionStore) -> None:
    record = await claimed(store)
    with pytest.raises(ValueError, match="ended"):
        await store.record(record)
    with pytest.raises(ValueError, match="completed or failed"):
        await store.finish(record.id, "w", attempt=0, outcome=an_outcome(phase=ExecutionPhase.WAITING))
