"""Many calls and many pods: order, bounds, growth, and the end of what is not needed."""

import asyncio

import pytest
from aiohttp import web

from appfn.api.execution import ExecutionPhase, FailureReason
from appfn.core.records import Outcome
from appfn.dispatch.stats import Replicas
from appfn.errors import QueueFullError
from support.dispatching import Project
from support.fake_node import FakeCall, envelope
from support.polling import eventually


async def obey(call: FakeCall) -> web.StreamResponse:
    """Wait for the gate that the payload names; answer with the pod's name."""
    if gate := call.body["payload"]:
        await call.node.gates[gate].wait()
    return envelope(call.pod.name)


async def test_one_call_at_a_time_runs_in_a_pod_however_many_come(app: Project) -> None:
    app.scaling = {"maxReplicas": 3}
    outcomes = await asyncio.gather(*(app.invoke() for _ in range(60)))
    assert {outcome.phase for outcome in outcomes} == {ExecutionPhase.COMPLETED}
    assert len(app.node.seen) == 3
    assert {pod.most_running for pod in app.node.seen} == {1}


async def test_a_pod_runs_as_many_calls_at_once_as_its_runtime_allows_and_the_function_asks(app: Project) -> None:
    app.runtime = app.runtime_with(concurrency=8)
    app.scaling = {"maxReplicas": 1, "concurrency": 5}
    app.node.function = obey
    calls = [app.call("gate") for _ in range(12)]
    await app.running(5)
    await app.queued(7)
    app.node.gates["gate"].set()
    await asyncio.gather(*calls)
    assert app.node.seen[0].most_running == 5


async def test_a_lowered_concurrency_holds_for_the_calls_that_wait_already(app: Project) -> None:
    app.runtime = app.runtime_with(concurrency=8)
    app.scaling = {"maxReplicas": 1, "concurrency": 4}
    app.node.function = obey
    running = [app.call("first") for _ in range(4)]
    await app.running(4)
    waiting = [app.call("second") for _ in range(4)]
    await app.queued(4)
    app.scaling, app.generation = {"maxReplicas": 1, "concurrency": 1}, app.generation + 1
    app.sync()

    app.node.gates["first"].set()
    await asyncio.gather(*running)
    await app.running(1)

    assert app.dispatcher.replicas(app.uid) == Replicas(ready=1, queued=3, in_flight=1)
    app.node.gates["second"].set()
    await asyncio.gather(*waiting)


async def test_a_function_cannot_ask_for_more_at_once_than_its_runtime_allows(app: Project) -> None:
    app.scaling = {"maxReplicas": 1, "concurrency": 50}
    await asyncio.gather(*(app.invoke() for _ in range(10)))
    assert [pod.most_running for pod in app.node.seen] == [1]


async def test_calls_are_served_in_the_order_they_came(app: Project) -> None:
    app.scaling = {"maxReplicas": 1}
    await asyncio.gather(*(app.invoke(str(number)) for number in range(30)))
    [pod] = app.node.seen
    assert [call["payload"] for call in pod.calls] == [str(number) for number in range(30)]


async def test_pods_are_added_up_to_the_maximum_while_calls_wait(app: Project) -> None:
    app.scaling = {"maxReplicas": 3}
    app.node.function = obey
    calls = [app.call("gate") for _ in range(5)]
    await app.running(3)
    await app.queued(2)
    assert app.dispatcher.replicas(app.uid) == Replicas(ready=3, queued=2, in_flight=3)
    assert app.dispatcher.functions() == {(app.namespace, "greet"): Replicas(ready=3, queued=2, in_flight=3)}
    app.node.gates["gate"].set()
    outcomes = await asyncio.gather(*calls)
    assert len({outcome.response for outcome in outcomes}) == 3


async def test_a_warm_pod_is_used_before_another_is_started(app: Project) -> None:
    outcomes = [await app.invoke() for _ in range(5)]
    assert [outcome.cold_start for outcome in outcomes] == [True, False, False, False, False]


async def test_waiting_for_a_busy_pod_is_no_cold_start(app: Project) -> None:
    app.scaling = {"maxReplicas": 1}
    app.node.function = obey
    await app.invoke()
    first = app.call("gate")
    await app.running(1)
    second = app.call()
    await app.queued(1)
    app.node.gates["gate"].set()
    await first
    outcome = await second
    assert not outcome.cold_start
    assert outcome.times.queue_ms > 0


async def test_a_deployment_that_is_called_but_is_none_to_be_kept_loaded_keeps_no_pod(app: Project) -> None:
    app.scaling = {"minReplicas": 1, "idleSeconds": 0}
    await app.invoke()
    await app.pods(0)


async def test_an_idle_pod_is_deleted_after_its_time_and_not_before_its_call_ends(app: Project) -> None:
    app.scaling = {"idleSeconds": 1}
    app.node.function = obey
    call = app.call("gate")
    await app.running(1)
    await asyncio.wait({call}, timeout=1.5)
    assert len(app.node.pods) == 1
    app.node.gates["gate"].set()
    await call
    await app.pods(0)
    assert app.dispatcher.replicas(app.uid) == Replicas()


async def test_after_the_only_pod_it_may_have_has_gone_the_next_call_starts_another(app: Project) -> None:
    app.scaling = {"maxReplicas": 1, "idleSeconds": 0}
    unchanged = app.function()  # the very object, as the cache gives it between two changes

    async def invoke() -> Outcome:
        return await app.dispatcher.invoke(app.invocation(), app.runtime, unchanged)

    await asyncio.gather(*(invoke() for _ in range(3)))
    await app.pods(0)

    assert (await asyncio.wait_for(invoke(), 5)).cold_start


async def test_the_minimum_is_loaded_before_any_call_and_stays(app: Project) -> None:
    app.scaling = {"minReplicas": 2, "idleSeconds": 0}
    app.sync()
    await app.ready(2)
    assert all(pod.loads[0]["env"] == {"NAME": "ahead"} for pod in app.node.seen)
    assert not (await app.invoke()).cold_start
    await app.node.kill(app.node.seen[0], {"reason": "Error"})

    async def replaced() -> bool:
        return len(app.node.seen) == 3 and app.dispatcher.ready(app.uid, app.deployments["greet-1"]) == 2

    await eventually(replaced)


async def test_a_lowered_minimum_lets_pods_go(app: Project) -> None:
    app.scaling = {"minReplicas": 2, "idleSeconds": 0}
    app.sync()
    await app.ready(2)
    app.scaling = {"minReplicas": 1, "idleSeconds": 0}
    app.generation += 1
    app.sync()
    await app.pods(1)
    assert len(app.node.seen) == 2


async def test_a_new_deployment_takes_over_and_the_old_ones_pods_end_with_their_calls(app: Project) -> None:
    await app.deploy("greet-2")
    app.node.function = obey
    app.sync()
    old = app.call("gate")
    await app.running(1)
    app.sync(deployment="greet-2")
    new = await app.invoke(deployment="greet-2")
    assert new.response.startswith("greet-2-")
    assert len(app.node.pods) == 2
    app.node.gates["gate"].set()
    assert (await old).response.startswith("greet-1-")
    [left] = await app.pods(1)
    assert left.name == new.response


async def test_pods_of_a_function_that_is_gone_are_deleted(app: Project) -> None:
    app.scaling = {"minReplicas": 1}
    app.sync()
    await app.ready(1)
    app.sync(deployment=None)
    await app.pods(0)
    assert app.dispatcher.functions() == {}


async def test_pods_that_still_start_are_deleted_when_their_deployment_is_retired(app: Project) -> None:
    app.scaling = {"minReplicas": 1}
    app.node.status = lambda _: None
    app.sync()
    await app.pods(1)
    app.sync(deployment=None)
    await app.pods(0)


async def test_a_change_of_the_pods_settings_replaces_them_and_any_other_does_not(app: Project) -> None:
    app.scaling = {"minReplicas": 1}
    app.sync()
    await app.ready(1)
    [first] = app.node.seen
    app.generation, app.spec = 2, {"timeout": 60}
    app.sync()
    assert (await app.invoke(), list(app.node.pods.values()))[1] == [first]
    app.generation, app.spec = 3, {"resources": {"limits": {"memory": "64Mi"}}}
    app.sync()
    await app.ready(1)
    [second] = await app.pods(1)
    assert second is not first
    assert second.body["spec"]["containers"][0]["resources"]["limits"] == {"memory": "64Mi"}


async def test_a_caller_that_still_sees_the_old_settings_does_not_bring_them_back(app: Project) -> None:
    app.generation, app.spec = 2, {"resources": {"limits": {"memory": "64Mi"}}}
    await app.invoke()
    app.generation, app.spec = 1, {}
    assert not (await app.invoke()).cold_start
    assert len(app.node.seen) == 1


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(project: Project) -> None:
    project.scaling = {"maxReplicas": 1}
    project.node.function = obey
    async with project.dispatching(sync_queue_limit=2) as dispatcher:
        await project.invoke()
        calls = [project.call("gate") for _ in range(3)]
        await project.running(1)
        await project.queued(2)
        with pytest.raises(QueueFullError) as caught:
            await project.invoke()
        assert dispatcher.overloaded(project.uid, project.deployments["greet-1"]) == caught.value.retry_after
        assert caught.value.retry_after > 0
        project.node.gates["gate"].set()
        assert {outcome.phase for outcome in await asyncio.gather(*calls)} == {ExecutionPhase.COMPLETED}
        assert dispatcher.overloaded(project.uid, project.deployments["greet-1"]) is None


async def test_a_call_that_waited_too_long_for_busy_pods_fails_as_such(project: Project) -> None:
    project.scaling = {"maxReplicas": 1}
    project.node.function = obey
    async with project.dispatching(pod_start_seconds=2.0):
        running = project.call("gate", timeout=30)
        await project.running(1)
        outcome = await project.invoke()
        assert outcome.failure is not None
        assert outcome.failure.reason is FailureReason.QUEUE_TIMEOUT
        assert outcome.times.queue_ms >= 2000
        project.node.gates["gate"].set()
        await running


async def test_a_pod_that_a_sync_starts_for_waiting_calls_has_their_variables(app: Project) -> None:
    app.scaling = {"maxReplicas": 1}
    app.node.function = obey
    calls = [app.call("gate") for _ in range(2)]
    await app.running(1)
    await app.queued(1)
    app.scaling = {"maxReplicas": 2}
    app.sync(variables=None)  # what a target without minReplicas says
    await app.running(2)
    app.node.gates["gate"].set()
    await asyncio.gather(*calls)
    assert [pod.loads[0]["env"] for pod in app.node.seen] == [app.variables] * 2
