"""What functions used, by hours and days."""

from dataclasses import replace
from datetime import datetime, timedelta

from msgspec import structs

from appfn.store.executions import ExecutionStore
from appfn.store.model import EndedBuild
from support.executions import START, Clock, a_finished, a_request, an_outcome, failed

DAY = timedelta(days=1)
BUILD = EndedBuild(
    key="b1", namespace="shop", function_uid="uid-greet", ended_at=START, seconds=2.5, memory_mb=2048, ready=True
)


def midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


async def test_memory_is_counted_with_the_time_it_was_held(store: ExecutionStore) -> None:
    await store.record(structs.replace(a_finished(outcome=an_outcome(duration=2.0)), memory_mb=128))
    await store.record(structs.replace(a_finished(outcome=failed(duration=0.5)), memory_mb=256))
    record, _ = await store.accept(a_request(), queue_limit=10)
    await store.claim("w", limit=1, lease_seconds=15)
    await store.begin(record.id, "w")
    await store.finish(record.id, "w", attempt=1, outcome=an_outcome(duration=1.0), memory_mb=512)

    (used,) = await store.usage("shop", since=midnight(START), until=START)

    assert (used.completed, used.failed, used.compute_ms) == (2, 1, 3500)
    assert used.compute_mb_ms == 2000 * 128 + 500 * 256 + 1000 * 512
    found = await store.get("shop", record.id)
    assert found is not None
    assert found.memory_mb == 512


async def test_what_was_recorded_counts_as_what_was_queued_does(store: ExecutionStore) -> None:
    outcomes = [
        an_outcome(duration=0.0004),
        an_outcome(duration=1.2346),
        failed(duration=0.7),
        an_outcome(duration=900),
    ]
    for outcome in outcomes:
        record = a_finished(namespace="recorded", function_uid="uid-recorded", outcome=outcome)
        await store.record(structs.replace(record, memory_mb=128))
        queued, _ = await store.accept(a_request(namespace="queued", function_uid="uid-queued"), queue_limit=10)
        await store.claim("w", limit=1, lease_seconds=15)
        await store.begin(queued.id, "w")
        await store.finish(queued.id, "w", attempt=1, outcome=outcome, memory_mb=128)

    recorded = await store.usage("recorded", since=midnight(START), until=START + DAY)
    assert recorded == await store.usage("queued", since=midnight(START), until=START + DAY)
    counts = [await store.counts(f"uid-{name}") for name in ("recorded", "queued")]
    assert counts[0].to_json() == counts[1].to_json() == {"total": 4, "completed": 3, "failed": 1}


async def test_days_are_the_sum_of_their_hours_and_of_the_functions(store: ExecutionStore, clock: Clock) -> None:
    for hours in (0, 1, 20, 24, 30):
        await store.record(a_finished(at=START + timedelta(hours=hours)))
    await store.record(a_finished(function_uid="uid-other"))
    await store.record(a_finished(namespace="other"))
    until = START + 3 * DAY

    days = await store.usage("shop", since=midnight(START), until=until, step=DAY)
    assert [(used.start, used.completed) for used in days] == [(midnight(START), 4), (midnight(START) + DAY, 2)]
    mine = await store.usage("shop", since=midnight(START), until=until, step=DAY, function_uid="uid-greet")
    assert [used.completed for used in mine] == [3, 2]
    assert await store.usage("shop", since=midnight(START) + 2 * DAY, until=until, step=DAY) == []


async def test_a_function_that_is_purged_takes_what_it_used_along(store: ExecutionStore) -> None:
    for uid in ("uid-greet", "uid-other"):
        await store.record(
            structs.replace(a_finished(function_uid=uid, outcome=an_outcome(duration=2.0)), memory_mb=128)
        )
    await store.add_builds([BUILD])

    await store.purge_function("uid-greet")

    (used,) = await store.usage("shop", since=midnight(START), until=START)
    assert (used.completed, used.compute_ms, used.compute_mb_ms) == (1, 2000, 256_000)
    assert (used.builds_ready, used.build_ms, used.build_mb_ms) == (0, 0, 0)


async def test_a_build_counts_once_however_often_it_is_told_of(store: ExecutionStore) -> None:
    bad = replace(BUILD, key="b2", ready=False, seconds=1.0)
    await store.add_builds([BUILD, BUILD])
    await store.add_builds([BUILD, bad])
    await store.add_builds([])

    (used,) = await store.usage("shop", since=midnight(START), until=START)

    assert (used.builds_ready, used.builds_failed, used.build_ms) == (1, 1, 3500)
    assert used.build_mb_ms == 3500 * 2048
    assert used.completed == 0


async def test_a_build_of_long_ago_is_not_counted_again_when_it_is_forgotten(
    store: ExecutionStore, clock: Clock
) -> None:
    await store.add_builds([BUILD])
    clock.advance(timedelta(days=101).total_seconds())
    await store.delete_finished_before(START)
    await store.add_builds([BUILD])
    assert await store.usage("shop", since=midnight(START), until=clock.at) == []
