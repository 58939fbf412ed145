"""Accepting and recording."""

import asyncio
import threading

import pytest

from appfn.api.execution import Component, ExecutionPhase, Failure, FailureReason
from appfn.core.records import MAX_OUTPUT, Origin, Times
from appfn.errors import IdempotencyError, QueueFullError
from appfn.store.commit import GroupCommit
from appfn.store.database import open_database
from appfn.store.executions import ExecutionStore
from appfn.store.intake import Accept
from appfn.store.recording import Record
from support.executions import START, Clock, a_finished, a_request, an_outcome, failed

LIMIT = 1000
DAY = 24 * 3600


async def test_what_was_accepted_is_returned_whole_and_found_again(store: ExecutionStore) -> None:
    request = a_request(
        origin=Origin.EVENT,
        data='{"a": "ä🙂"}',
        headers={"X-Thing": "ß"},
        path="/x?y=1",
        method="PUT",
        user_id="ada",
        event="users.1.create",
        event_data="{}",
        permissions=('read("user:ada")',),
        scheduled_at=START,
        idempotency_key="key",
        body_hash="hash",
        max_attempts=3,
    )
    record, created = await store.accept(request, queue_limit=LIMIT)
    assert created
    assert record.request == request
    assert (record.phase, record.created_at, record.attempt) == (ExecutionPhase.WAITING, START, 0)
    assert record.outcome is None
    assert await store.get("shop", request.id) == record
    assert await store.get("other", request.id) is None


async def test_the_same_key_and_body_is_the_same_execution_also_after_it_has_finished(store: ExecutionStore) -> None:
    first, _ = await store.accept(a_request(idempotency_key="k", body_hash="h"), queue_limit=LIMIT)
    again, created = await store.accept(a_request(idempotency_key="k", body_hash="h"), queue_limit=LIMIT)
    assert (again, created) == (first, False)

    await store.claim("w", limit=1, lease_seconds=15)
    attempt = await store.begin(first.id, "w")
    assert attempt == 1
    assert await store.finish(first.id, "w", attempt=attempt, outcome=an_outcome())
    finished, created = await store.accept(a_request(idempotency_key="k", body_hash="h"), queue_limit=LIMIT)
    assert not created
    assert (finished.id, finished.phase) == (first.id, ExecutionPhase.COMPLETED)
    assert (await store.counts("uid-greet")).total == 1


async def test_the_same_key_with_another_body_is_refused(store: ExecutionStore) -> None:
    await store.accept(a_request(idempotency_key="k", body_hash="h"), queue_limit=LIMIT)
    with pytest.raises(IdempotencyError):
        await store.accept(a_request(idempotency_key="k", body_hash="other"), queue_limit=LIMIT)


async def test_the_same_key_in_another_namespace_or_after_a_day_is_another_execution(
    store: ExecutionStore,
    clock: Clock,
) -> None:
    await store.accept(a_request(idempotency_key="k", body_hash="h"), queue_limit=LIMIT)
    _, created = await store.accept(
        a_request(idempotency_key="k", body_hash="x", namespace="b", function_uid="uid-b"),
        queue_limit=LIMIT,
    )
    assert created
    clock.advance(DAY - 1)
    with pytest.raises(IdempotencyError):
        await store.accept(a_request(idempotency_key="k", body_hash="x"), queue_limit=LIMIT)
    clock.advance(1)
    _, created = await store.accept(a_request(idempotency_key="k", body_hash="x"), queue_limit=LIMIT)
    assert created


async def test_many_repeats_at_once_make_one_execution(store: ExecutionStore) -> None:
    answers = await asyncio.gather(
        *(store.accept(a_request(idempotency_key="k", body_hash="h"), queue_limit=LIMIT) for _ in range(50)),
    )
    assert len({record.id for record, _ in answers}) == 1
    assert [created for _, created in answers].count(True) == 1


async def test_an_id_that_another_tenant_used_is_refused(store: ExecutionStore) -> None:
    await store.accept(a_request(id="same", body_hash="h"), queue_limit=LIMIT)
    assert not (await store.accept(a_request(id="same", body_hash="h"), queue_limit=LIMIT))[1]
    with pytest.raises(IdempotencyError):
        await store.accept(a_request(id="same", body_hash="h", namespace="b"), queue_limit=LIMIT)


async def test_a_full_queue_refuses_before_it_accepts_and_only_for_its_function(store: ExecutionStore) -> None:
    answers = await asyncio.gather(
        *(store.accept(a_request(), queue_limit=10) for _ in range(30)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, QueueFullError) for answer in answers) == 20
    assert (await store.counts("uid-greet")).total == 10
    assert (await store.accept(a_request(function_uid="uid-other"), queue_limit=10))[1]

    await store.claim("w", limit=1, lease_seconds=15)
    claimed_still_waits = store.accept(a_request(), queue_limit=10)
    with pytest.raises(QueueFullError):
        await claimed_still_waits


async def test_a_recorded_execution_is_seen_at_once_and_whole_once_it_is_durable(store: ExecutionStore) -> None:
    record = a_finished(
        jwt="secret",
        outcome=failed(
            cold_start=True,
            times=Times(boot_ms=7),
            failure=Failure(component=Component.FUNCTION, reason=FailureReason.TIMEOUT, message="too slow"),
        ),
    )
    await store.record(record)
    buffered = await store.get("shop", record.id)
    await store.flush()
    stored = await store.get("shop", record.id)
    assert buffered is not None
    assert stored is not None
    assert stored.sequence == 1
    for found in (buffered, stored):
        assert found.outcome == record.outcome
        assert found.request.jwt == ""
        assert (found.phase, found.deployment, found.attempt) == (ExecutionPhase.FAILED, "greet-1", 1)
        assert (found.started_at, found.finished_at) == (START, START)


@pytest.mark.parametrize("number", [1, 16, 145, 300])
async def test_records_that_come_together_are_each_stored_as_they_are(store: ExecutionStore, number: int) -> None:
    records = [a_finished(id=f"n{n}", outcome=an_outcome(response=f"answer {n}")) for n in range(number)]
    for record in records:
        await store.record(record)
    await store.flush()

    found = [await store.get("shop", record.id) for record in records]

    assert [(each.id, each.outcome) for each in found if each] == [(each.id, each.outcome) for each in records]
    assert (await store.counts(records[0].request.function_uid)).total == number


async def test_records_are_durable_without_a_flush(url: str, clock: Clock) -> None:
    record = a_finished()
    async with (
        ExecutionStore.open(url, now=clock, flush_seconds=0.01) as one,
        ExecutionStore.open(url, now=clock) as two,
    ):
        await one.record(record)
        assert await two.wait_change(0, within=5.0)
        assert await two.get("shop", record.id) is not None


@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside other writes"])
async def test_records_that_keep_coming_are_committed_at_intervals_and_not_as_they_come(
    url: str, clock: Clock, *, others: bool
) -> None:
    commits = 0

    def recorded() -> None:
        nonlocal commits
        commits += 1

    async with open_database(url) as database:
        lane = GroupCommit(database, now=clock, delay=0.2, committed=lambda _: None, recorded=recorded)
        running = asyncio.create_task(lane.run())
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while loop.time() - begun < 1:
            await lane.records.put(Record(a_finished()))
            if others:
                await lane.submit(Accept(a_request(), LIMIT))
            await asyncio.to_thread(threading.Event().wait, 0.001)
        await lane.close(running)

    assert 2 <= commits <= 6


async def test_closing_writes_what_is_buffered(url: str, clock: Clock) -> None:
    records = [a_finished() for _ in range(1200)]
    async with ExecutionStore.open(url, now=clock, flush_seconds=3600) as store:
        for record in records:
            await store.record(record)
    async with ExecutionStore.open(url, now=clock) as store:
        assert (await store.counts("uid-greet")).completed == 1200
        assert await store.get("shop", records[-1].id) is not None


async def test_recording_twice_counts_once(store: ExecutionStore) -> None:
    record = a_finished()
    await store.record(record)
    await store.record(record)
    await store.flush()
    await store.record(record)
    await store.flush()
    assert (await store.counts("uid-greet")).total == 1


async def test_a_record_that_cannot_be_stored_does_not_take_others_with_it(store: ExecutionStore) -> None:
    good, bad = a_finished(), a_finished(outcome=an_outcome(status_code=10**30))
    await store.record(bad)
    await store.record(good)
    record, _ = await store.accept(a_request(), queue_limit=LIMIT)
    await store.flush()
    assert await store.get("shop", good.id) is not None
    assert await store.get("shop", record.id) is not None
    assert await store.get("shop", bad.id) is None


async def test_text_that_databases_refuse_is_made_fit(store: ExecutionStore) -> None:
    dirty, clean = "a\0b\ud800c", "a\ufffdb\ufffdc"
    outcome = an_outcome(response=dirty, stdout=dirty, stderr=dirty)
    record = a_finished(outcome=outcome, headers={dirty: dirty}, data=dirty, path=dirty, user_id=dirty)
    await store.record(record)
    await store.flush()
    found = await store.get("shop", record.id)
    assert found is not None
    assert found.outcome is not None
    assert {found.outcome.response, found.outcome.stdout, found.outcome.stderr} == {clean}
    assert (found.request.headers, found.request.data, found.request.path) == ({clean: clean}, clean, clean)

    accepted, _ = await store.accept(a_request(idempotency_key=dirty, data=dirty), queue_limit=LIMIT)
    assert accepted.request.data == clean
    assert not (await store.accept(a_request(idempotency_key=dirty), queue_limit=LIMIT))[1]


async def test_output_is_stored_up_to_a_megabyte(store: ExecutionStore) -> None:
    record = a_finished(outcome=an_outcome(response="ä" * MAX_OUTPUT, stdout="x" * MAX_OUTPUT))
    await store.record(record)
    await store.flush()
    found = await store.get("shop", record.id)
    assert found is not None
    assert found.outcome is not None
    assert found.outcome.response == "ä" * (MAX_OUTPUT // 2)
    assert found.outcome.stdout == "x" * MAX_OUTPUT


async def test_usage_and_counts_add_up(store: ExecutionStore, clock: Clock) -> None:
    await store.record(a_finished(at=START))
    await store.record(a_finished(at=START, outcome=failed(duration=1.0)))
    record, _ = await store.accept(a_request(), queue_limit=LIMIT)
    clock.advance(3600)
    await store.claim("w", limit=1, lease_seconds=15)
    assert await store.begin(record.id, "w")
    assert await store.finish(record.id, "w", attempt=1, outcome=an_outcome(duration=0.5))
    await store.record(a_finished(function_uid="uid-b"))

    counts = await store.counts("uid-greet")
    assert (counts.total, counts.completed, counts.failed) == (3, 2, 1)
    hour = START.replace(minute=0, second=0, microsecond=0)
    usage = await store.usage("shop", since=hour, until=clock.at, function_uid="uid-greet")
    assert [(u.start, u.completed, u.failed, u.compute_ms) for u in usage] == [
        (hour, 1, 1, 1250),
        (hour.replace(hour=4), 1, 0, 500),
    ]
    both = await store.usage("shop", since=hour, until=clock.at)
    assert [(u.start, u.completed, u.failed, u.compute_ms) for u in both] == [
        (hour, 2, 1, 1500),
        (hour.replace(hour=4), 1, 0, 500),
    ]
    assert await store.usage("shop", since=hour, until=hour) == []
    assert (await store.counts("unknown")).total == 0
