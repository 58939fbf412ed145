"""The end of a dispatcher: nothing new, what runs may finish, loaded pods stay for whoever comes next."""

import asyncio

import pytest
from aiohttp import web

from appfn.api.execution import ExecutionPhase, FailureReason
from appfn.errors import TransientError
from support.dispatching import Project
from support.fake_node import FakeCall, envelope, running
from support.polling import eventually


async def obey(call: FakeCall) -> web.StreamResponse:
    if gate := call.body["payload"]:
        await call.node.gates[gate].wait()
    return envelope()


async def test_a_drain_lets_running_and_waiting_calls_finish_and_takes_no_new_ones(project: Project) -> None:
    project.scaling = {"maxReplicas": 1}
    project.node.function = obey
    async with project.dispatching() as dispatcher:
        calls = [project.call("gate"), project.call("gate")]
        await project.running(1)
        await project.queued(1)
        drained = asyncio.get_running_loop().create_task(dispatcher.drain(30))
        await asyncio.wait({drained}, timeout=0.05)
        with pytest.raises(TransientError):
            await project.invoke()
        assert not drained.done()
        project.node.gates["gate"].set()
        assert await drained
        assert {outcome.phase for outcome in await asyncio.gather(*calls)} == {ExecutionPhase.COMPLETED}
    await project.pods(1)


async def test_a_drain_waits_for_a_call_whose_client_has_left(project: Project) -> None:
    project.node.function = obey
    async with project.dispatching() as dispatcher:
        left = project.call("gate")
        await project.running(1)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert not await dispatcher.drain(0.1)
        project.node.gates["gate"].set()
        assert await dispatcher.drain(10)


async def test_a_drain_that_is_over_ends_running_calls_as_unknown_and_gives_waiting_ones_back(project: Project) -> None:
    project.scaling = {"maxReplicas": 1}
    project.node.function = obey
    async with project.dispatching() as dispatcher:
        running = project.call("never")
        await project.running(1)
        waiting = project.call("never")
        await project.queued(1)
        assert not await dispatcher.drain(0.1)
    outcome = await running
    assert outcome.failure is not None
    assert outcome.failure.reason is FailureReason.EXECUTOR_LOST
    with pytest.raises(TransientError):
        await waiting
    [pod] = await project.pods(1)
    assert pod.running == 1, "what runs is not reaped"


async def test_pods_that_are_loaded_stay_and_those_on_their_way_go(project: Project) -> None:
    project.scaling = {"minReplicas": 2}
    project.node.status = lambda pod: running(pod) if pod is project.node.seen[0] else None
    async with project.dispatching():
        project.sync()
        await project.ready(1)
        await project.pods(2)
    assert await project.pods(1) == [project.node.seen[0]]


async def test_a_call_whose_connection_has_just_broken_ends_with_its_dispatcher(project: Project) -> None:
    async def broken(call: FakeCall) -> web.StreamResponse:
        return call.reset()

    project.node.function = broken
    async with project.dispatching() as dispatcher:
        call = project.call()

        async def looked_into() -> bool:
            return any(task.get_name().startswith("obituary") for task in dispatcher._tasks._tasks)

        await eventually(looked_into)
    outcome = await asyncio.wait_for(call, 10)
    assert outcome.failure is not None
    assert outcome.failure.reason is FailureReason.EXECUTOR_LOST
