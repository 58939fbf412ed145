"""The worker against a store that fails or dawdles, on a virtual clock."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

from appfn.api.execution import ExecutionPhase
from appfn.core.records import ExecutionRecord, Outcome
from appfn.errors import TransientError
from appfn.shim.catalog import Catalog
from appfn.shim.executor import Endings, Executor
from appfn.shim.worker import RETRY_SECONDS, Worker
from support.clock import on_virtual_clock
from support.executions import START, Clock, a_request

OUTAGE_SECONDS = 300.0


@dataclass
class Store:
    """Holds one execution; answers as its test wants it to."""

    record: ExecutionRecord | None = field(
        default_factory=lambda: ExecutionRecord(
            request=a_request(), phase=ExecutionPhase.WAITING, created_at=START, updated_at=START
        )
    )
    away_until: float = 0.0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    dawdle: asyncio.Event | None = None
    delay: float = 0.0
    """The one with which executions are expected back."""
    released: list[str] = field(default_factory=list)
    gave_back: asyncio.Event = field(default_factory=asyncio.Event)
    ended: "asyncio.Queue[Outcome]" = field(default_factory=asyncio.Queue)

    async def claim(self, _worker: str, **_: object) -> Sequence[ExecutionRecord]:
        self.asked.set()
        record, self.record = self.record, None
        if self.dawdle is not None:
            await self.dawdle.wait()
        return [record] if record is not None else []

    async def wait_claimable(self, *, within: float) -> bool:
        await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=within)
        return False

    async def finish(self, _id: str, _worker: str, *, outcome: Outcome, **_: object) -> bool:
        if asyncio.get_running_loop().time() < self.away_until:
            raise TransientError("away")
        self.ended.put_nowait(outcome)
        return True

    async def release(self, execution_id: str, _worker: str, *, delay: float) -> bool:
        assert delay == self.delay
        self.released.append(execution_id)
        self.gave_back.set()
        return True

    async def renew(self, _worker: str, ids: Sequence[str], **_: object) -> frozenset[str]:
        return frozenset(ids)

    async def reap(self) -> None:
        """Find nothing."""


def worker(store: Store) -> Worker:
    """Return a worker that knows no function, so that each execution ends as unavailable."""
    metrics = SimpleNamespace(finished=lambda *_: None)
    listener = SimpleNamespace(execution_ended=lambda *_: None)
    executor = SimpleNamespace(store=store, metrics=metrics, endings=Endings(), listener=listener)
    nothing = SimpleNamespace(project_of=lambda _: None, named=lambda *_: None, capacities=dict)
    clock = Clock()
    clock.advance(3600)
    return Worker(
        executor=cast("Executor", executor),
        catalog=cast("Catalog", nothing),
        name="shim-0/1",
        concurrency=4,
        lease_seconds=15,
        now=clock,
        monotonic=asyncio.get_running_loop().time,
    )


@on_virtual_clock
async def test_an_end_is_stored_however_long_the_database_was_away() -> None:
    store = Store(away_until=OUTAGE_SECONDS)
    async with worker(store).running(remaining=lambda: 10.0):
        async with asyncio.timeout(OUTAGE_SECONDS + 10):
            ended = await store.ended.get()
    assert ended.phase is ExecutionPhase.FAILED
    assert store.released == []


@on_virtual_clock
async def test_what_a_claim_brings_after_the_drain_began_is_given_back() -> None:
    store = Store(dawdle=asyncio.Event())
    assert store.record is not None
    assert store.dawdle is not None
    claimed = store.record.id
    async with worker(store).running(remaining=lambda: 10.0):
        await store.asked.wait()
        asyncio.get_running_loop().call_later(1, store.dawdle.set)
    assert store.released == [claimed]
    assert store.ended.empty()


@on_virtual_clock
async def test_what_this_process_has_no_pods_for_any_more_goes_back_to_the_queue() -> None:
    store = Store(delay=RETRY_SECONDS)
    made = worker(store)
    request = store.record.request if store.record else None
    assert request is not None
    function = SimpleNamespace(metadata=SimpleNamespace(uid=request.function_uid))
    catalog = SimpleNamespace(
        project_of=lambda _: "shop",
        named=lambda *_: function,
        callee=lambda *_: SimpleNamespace(capacity=0),
        capacities=lambda: {request.function_uid: 1},  # what it was when the claim began
    )
    made.catalog = cast("Catalog", catalog)
    async with made.running(remaining=lambda: 1.0):
        await store.gave_back.wait()

    assert store.released == [request.id]
    assert store.ended.empty()
