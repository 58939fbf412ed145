"""Telling events: what the store is given at once, and what happens while it does not answer."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import cast

import pytest

from appfn.api.function import Function
from appfn.core.records import ExecutionRequest
from appfn.errors import QueueFullError, TransientError
from appfn.shim.catalog import Catalog
from appfn.shim.events.delivery import MAX_BYTES, Delivery
from appfn.shim.events.occurrence import Occurrence
from appfn.shim.events.own import MAX_WAITING, OwnEvents
from appfn.shim.events.subscriptions import Subscriptions
from appfn.shim.executor import Executor
from appfn.shim.metrics import Metrics
from support.clock import on_virtual_clock
from support.executions import Clock, a_finished
from support.objects import function


@dataclass
class Intake:
    """Takes executions, as many at once as it is told; refuses what its test wants refused."""

    refused: set[str] = field(default_factory=set)
    accepted: list[ExecutionRequest] = field(default_factory=list)
    away: int = 0
    together: int = 0
    most: int = 0
    now: Callable[[], datetime] = field(default_factory=Clock)

    async def enqueue(self, request: ExecutionRequest) -> SimpleNamespace:
        self.together += len(request.event_data)
        self.most = max(self.most, self.together)
        await asyncio.sleep(0)
        self.together -= len(request.event_data)
        if self.away:
            self.away -= 1
            raise TransientError("away")
        if request.function in self.refused:
            raise QueueFullError("full", retry_after=1)
        self.accepted.append(request)
        return SimpleNamespace(id=request.id)


def delivery(intake: Intake, *functions: Function) -> Delivery:
    index = Subscriptions()
    for item in functions:
        index.changed(item.metadata.key, None, item)
    return Delivery(executor=cast("Executor", intake), subscriptions=index)


def occurrence(data: str = "{}") -> Occurrence:
    return Occurrence(names=("users.u1.create", "users.*"), id="e", source="/s", data=data)


async def test_much_data_is_given_to_the_store_in_portions() -> None:
    functions = [function(f"f{number}", events=["users.*"]) for number in range(5)]
    intake = Intake()

    (told,) = await delivery(intake, *functions).tell([(occurrence("x" * (MAX_BYTES // 2)), functions)])

    assert [item.function.metadata.name for item in told] == [f"f{number}" for number in range(5)]
    assert all(item.new for item in told)
    assert intake.most <= MAX_BYTES


async def test_a_refusal_is_raised_once_all_others_are_accepted() -> None:
    functions = [function(name, events=["users.*"]) for name in ("a", "b", "c")]
    intake = Intake(refused={"a"})

    with pytest.raises(QueueFullError):
        await delivery(intake, *functions).tell([(occurrence(), functions)])

    assert [request.function for request in intake.accepted] == ["b", "c"]


def own_events(subscriptions: Subscriptions, metrics: Metrics) -> OwnEvents:
    catalog = SimpleNamespace(
        subscriptions=subscriptions,
        named=lambda *_: function("greet", meta={"namespace": "shop", "uid": "uid-greet"}),
        deployment_id=lambda *_: "d1",
        on_resource=lambda _: None,
    )
    return OwnEvents(catalog=cast("Catalog", catalog), metrics=metrics)


@on_virtual_clock
async def test_an_event_of_a_function_is_kept_until_the_store_answers() -> None:
    intake = Intake(away=3)
    teller = delivery(intake, function("audit", events=["functions.*"]))
    own = own_events(teller.subscriptions, Metrics())

    async with own.running(teller):
        own.execution_created(a_finished())

    (request,) = intake.accepted
    assert request.event.startswith("functions.greet.executions.")


@on_virtual_clock
async def test_a_function_whose_queue_is_full_holds_up_nobody_else() -> None:
    metrics, intake = Metrics(), Intake(refused={"full"})
    teller = delivery(intake, function("full", events=["functions.*"]), function("audit", events=["functions.*"]))
    own = own_events(teller.subscriptions, metrics)

    async with own.running(teller):
        for number in range(3):
            own.execution_created(a_finished(id=f"e{number}"))
            await asyncio.sleep(0.1)
        assert [request.function for request in intake.accepted] == ["audit"] * 3
        intake.refused.clear()
        await asyncio.sleep(2)
        assert sorted(request.function for request in intake.accepted) == ["audit"] * 3 + ["full"] * 3
    assert metrics.registry.get_sample_value("appfn_events_lost_total", {"namespace": "shop"}) is None


@on_virtual_clock
async def test_an_event_that_nobody_stores_for_long_is_counted_as_lost() -> None:
    metrics = Metrics()
    teller = delivery(Intake(refused={"full"}), function("full", events=["functions.*"]))
    own = own_events(teller.subscriptions, metrics)

    async with own.running(teller):
        own.execution_created(a_finished())
        await asyncio.sleep(60)
        assert metrics.registry.get_sample_value("appfn_events_lost_total", {"namespace": "shop"}) == 1


async def test_events_beyond_those_that_may_wait_are_counted() -> None:
    metrics = Metrics()
    teller = delivery(Intake(), function("audit", events=["functions.*"]))
    own = own_events(teller.subscriptions, metrics)

    for _ in range(MAX_WAITING + 2):
        own.execution_created(a_finished())

    assert metrics.registry.get_sample_value("appfn_events_lost_total", {"namespace": "shop"}) == 2
