"""Killing whoever holds work or has just taken it on, and several who want the same."""

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appfn.api.execution import ExecutionPhase, FailureReason
from appfn.store.executions import ExecutionStore
from support.executions import Clock, a_request, an_outcome

LIMIT = 5000
LEASE = 15.0
_DEATH = 0.2

_CHILD = """
import asyncio, sys
from appfn.store.executions import ExecutionStore
from support.executions import Clock, a_finished, a_request

async def main(url):
    async with ExecutionStore.open(url, now=Clock()) as store:
        await store.accept(a_request(id="accepted", idempotency_key="k", body_hash="h"), queue_limit=10)
        await store.claim("dead", limit=1, lease_seconds=15)
        await store.begin("accepted", "dead")
        await store.record(a_finished(id="recorded"))
        await store.flush()
        await store.accept(a_request(id="last"), queue_limit=10)
        print("done", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(sys.argv[1]))
"""


async def test_what_was_promised_is_there_after_a_kill_right_behind_the_promise(url: str, clock: Clock) -> None:
    root = Path(__file__).parents[3]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _CHILD,
        url,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{root}/operator:{root}/tests"},
    )
    assert child.stdout is not None
    assert await asyncio.wait_for(child.stdout.readline(), 60) == b"done\n"
    child.send_signal(signal.SIGKILL)
    await child.wait()

    async with ExecutionStore.open(url, now=clock) as store:
        phases = {}
        for name in ("accepted", "recorded", "last"):
            record = await store.get("shop", name)
            assert record is not None, name
            phases[name] = record.phase
        assert phases == {
            "accepted": ExecutionPhase.PROCESSING,
            "recorded": ExecutionPhase.COMPLETED,
            "last": ExecutionPhase.WAITING,
        }
        again, created = await store.accept(a_request(idempotency_key="k", body_hash="h"), queue_limit=10)
        assert (again.id, created) == ("accepted", False)
        clock.advance(LEASE)
        assert (await store.reap()).lost == 1


@pytest.fixture
async def replicas(url: str, clock: Clock) -> AsyncIterator[list[ExecutionStore]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(ExecutionStore.open(url, now=clock)) for _ in range(2)]


async def test_no_execution_is_taken_by_two_workers(replicas: list[ExecutionStore]) -> None:
    accepted = await asyncio.gather(
        *(replicas[n % 2].accept(a_request(function_uid=f"uid-{n % 7}"), queue_limit=LIMIT) for n in range(300)),
    )
    taken: Counter[str] = Counter()

    async def work(store: ExecutionStore, worker: str) -> None:
        while records := await store.claim(worker, limit=3, lease_seconds=LEASE):
            taken.update(record.id for record in records)

    await asyncio.gather(*(work(replicas[n % 2], f"w{n}") for n in range(8)))
    left = await replicas[0].claim("last", limit=LIMIT, lease_seconds=LEASE)
    taken.update(record.id for record in left)
    assert set(taken) == {record.id for record, _ in accepted}
    assert set(taken.values()) == {1}


@dataclass(slots=True)
class Fleet:
    """Workers that die at random, and a ledger of what each did to an execution before."""

    dice: random.Random
    begun: Counter[str] = field(default_factory=Counter)
    finished: set[str] = field(default_factory=set)

    async def live_and_maybe_die(self, store: ExecutionStore, worker: str) -> None:
        records = await store.claim(worker, limit=40, lease_seconds=LEASE)
        await asyncio.gather(*(self._run(store, worker, record.id) for record in records))

    async def _run(self, store: ExecutionStore, worker: str, key: str) -> None:
        if self.dice.random() < _DEATH:
            return  # before the code was started
        attempt = await store.begin(key, worker)
        if attempt is None:
            return
        self.begun[key] += 1
        assert attempt == self.begun[key]
        if self.dice.random() < _DEATH:
            return  # while the code ran
        if await store.finish(key, worker, attempt=attempt, outcome=an_outcome()):
            self.finished.add(key)


@pytest.mark.parametrize("max_attempts", [1, 3])
async def test_executions_whose_workers_die_at_random_all_end_and_none_begins_too_often(
    replicas: list[ExecutionStore],
    clock: Clock,
    max_attempts: int,
) -> None:
    requests = [a_request(function_uid=f"uid-{n % 5}", max_attempts=max_attempts) for n in range(200)]
    await asyncio.gather(*(replicas[n % 2].accept(request, queue_limit=LIMIT) for n, request in enumerate(requests)))
    fleet = Fleet(random.Random(max_attempts))  # noqa: S311 - a test that can be repeated

    for life in range(100):
        await asyncio.gather(*(fleet.live_and_maybe_die(replicas[n % 2], f"w{life}-{n}") for n in range(4)))
        clock.advance(LEASE)
        await replicas[life % 2].reap()
        if await _ended(replicas[0]) == len(requests):
            break

    assert max(fleet.begun.values()) <= max_attempts
    assert 0 < len(fleet.finished) < sum(fleet.begun.values())
    for request in requests:
        await _check_end(replicas[1], request.id, fleet)


async def _check_end(store: ExecutionStore, key: str, fleet: Fleet) -> None:
    record = await store.get("shop", key)
    assert record is not None
    assert record.attempt == fleet.begun[key]
    assert record.outcome is not None
    if key in fleet.finished:
        assert record.phase is ExecutionPhase.COMPLETED
    else:
        assert record.outcome.failure is not None
        assert record.outcome.failure.reason is FailureReason.EXECUTOR_LOST


async def _ended(store: ExecutionStore) -> int:
    counts = [await store.counts(f"uid-{n}") for n in range(5)]
    return sum(count.completed + count.failed for count in counts)


async def test_a_caller_that_gives_up_does_not_disturb_the_others(replicas: list[ExecutionStore]) -> None:
    store = replicas[0]
    calls = [asyncio.create_task(store.accept(a_request(id=f"n{n}"), queue_limit=LIMIT)) for n in range(20)]
    await asyncio.wait(calls[:1], timeout=0)
    for call in calls[::2]:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [True, False] * 10
    assert (await store.accept(a_request(id="after"), queue_limit=LIMIT))[1]
