"""Pods that are claimed from a pool: whose they are, what is written, and what happens when two want the same."""

import asyncio

import pytest
from aiohttp import web

from appfn import names
from appfn.api.base import Json
from appfn.api.execution import ExecutionPhase
from appfn.api.kinds import POD, Key
from appfn.dispatch.dispatcher import Dispatcher
from support.cluster import AuditLog
from support.dispatching import REPLICA, Project
from support.fake_node import FakeCall, FakePod, envelope
from support.polling import eventually


async def body_of(project: Project, pod: FakePod) -> Json:
    body = await project.cluster.get(POD, pod.key)
    assert body is not None
    return body


async def claimed(project: Project, pod: FakePod) -> Json:
    """Return a pod once it has left its pool."""

    async def probe() -> Json | None:
        body = await body_of(project, pod)
        return None if names.LABEL_POOL in body["metadata"]["labels"] else body

    return await eventually(probe)


async def warm(project: Project, dispatcher: Dispatcher, number: int) -> None:
    """Return once the dispatcher knows of so many pods that it could claim."""

    async def probe() -> bool:
        free = dispatcher._fleet.warm._free
        return sum(len(pods) for pods in free.values()) == number

    project.dispatcher = dispatcher
    project.sync()
    await eventually(probe)


async def test_the_first_call_runs_in_a_pod_of_the_pool_which_is_refilled(project: Project) -> None:
    before = await project.pool(2)
    async with project.dispatching() as dispatcher:
        await warm(project, dispatcher, 2)
        outcome = await project.invoke("hello")

        assert (outcome.phase, outcome.response, outcome.cold_start) == (ExecutionPhase.COMPLETED, "hello", True)
        [used] = [pod for pod in project.node.seen if pod.loads]
        assert used in before
        metadata = (await claimed(project, used))["metadata"]
        assert metadata["labels"] == {
            "app.kubernetes.io/managed-by": "appfn",
            "appfn.dev/component": "runtime",
            "appfn.dev/runtime": "node-20.0",
            "appfn.dev/architecture": "amd64",
            "appfn.dev/function": "greet",
            "appfn.dev/deployment": "greet-1",
            "appfn.dev/shim": REPLICA,
        }
        [owner] = metadata["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("Deployment", "greet-1", True)
        await project.free(2)
        assert used.name in project.node.pods
        assert dispatcher.counters().pods_created == 0


async def test_a_claim_is_one_write(project: Project, audit: AuditLog) -> None:
    await project.pool(1)
    async with project.dispatching() as dispatcher:
        await warm(project, dispatcher, 1)
        before = audit.position()
        await project.invoke()
        [used] = [pod for pod in project.node.seen if pod.loads]
        await claimed(project, used)
        writes = audit.writes(since=before, resource="pods")

    assert [(write.verb, write.name) for write in writes if write.namespace == project.namespace and write.name] == [
        ("patch", used.name)
    ]


async def listens(pod: FakePod) -> bool:
    """Tell whether both servers of a pod are up."""
    return len(pod.runners) == 2


async def test_a_pod_is_free_as_soon_as_its_agent_says_so(project: Project) -> None:
    project.node.status = lambda pod: {"phase": "Running", "podIP": pod.address}  # not Ready: nobody probed it yet
    async with project.dispatching() as dispatcher:
        project.sync()
        async with asyncio.timeout(20):
            pool = asyncio.create_task(project.pool(1))
            [pod] = await project.pods(1)
            pool.cancel()
        await eventually(lambda: listens(pod))
        digest = dispatcher.announce(project.namespace, pod.name, address=pod.address, own_token=True)
        await warm(project, dispatcher, 1)
        await project.invoke()

    assert len(digest) == 64
    assert [len(each.loads) for each in project.node.seen if each is pod] == [1]


async def test_a_pod_that_somebody_else_has_loaded_is_passed_over(project: Project) -> None:
    pods = await project.pool(2)
    for pod in pods:
        pod.loads.append({"digest": "of somebody else", "key": "k"})
    async with project.dispatching() as dispatcher:
        await warm(project, dispatcher, 2)
        outcome = await project.invoke()

        assert outcome.phase is ExecutionPhase.COMPLETED
        assert dispatcher.counters().claims_lost == 2
        assert dispatcher.counters().pods_created == 1
    assert {pod.name for pod in pods} <= set(project.node.pods), "they are not ours to delete"


async def test_two_shims_that_claim_at_once_never_share_a_pod(project: Project) -> None:
    project.scaling = {"maxReplicas": 6}
    await project.pool(8)
    async with project.dispatching() as one, project.dispatching(replica="appfn-shim-1") as other:
        await warm(project, one, 8)
        await warm(project, other, 8)
        invocations = [project.invocation(str(number)) for number in range(12)]
        outcomes = await asyncio.gather(
            *(
                dispatcher.invoke(invocation, project.runtime, project.function())
                for dispatcher, invocation in zip([one, other] * 6, invocations, strict=True)
            )
        )

    assert {outcome.phase for outcome in outcomes} == {ExecutionPhase.COMPLETED}
    assert {len(pod.loads) for pod in project.node.seen} <= {0, 1}


async def test_a_function_with_resources_of_its_own_takes_no_pod_of_the_pool(project: Project) -> None:
    await project.pool(1)
    project.spec = {"resources": {"limits": {"memory": "64Mi"}}}
    async with project.dispatching() as dispatcher:
        await warm(project, dispatcher, 1)
        await project.invoke()
        assert dispatcher.counters().pods_claimed == 0


async def test_a_pod_made_before_its_runtime_was_changed_is_not_claimed(project: Project) -> None:
    await project.pool(1)
    project.runtime = project.runtime_with(start_command="/other.sh")
    async with project.dispatching() as dispatcher:
        await warm(project, dispatcher, 1)
        await project.invoke()
        assert dispatcher.counters().pods_claimed == 0


async def test_pods_that_wait_for_their_first_call_come_from_the_pool_too(project: Project) -> None:
    await project.pool(2)
    project.scaling = {"minReplicas": 2}
    async with project.dispatching() as dispatcher:
        project.sync()
        await project.ready(2)
        assert dispatcher.counters().pods_created == 0
        assert (await project.invoke()).cold_start is False


async def test_a_claimed_pod_whose_runtime_is_started_again_is_lost(project: Project) -> None:
    """Pods of a pool are restarted in place, which brings no code back."""
    [pod] = await project.pool(1)
    async with project.dispatching() as dispatcher:
        await warm(project, dispatcher, 1)
        await project.invoke()
        last = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
        container = {"name": "runtime", "image": "i", "imageID": "", "ready": True, "restartCount": 1}
        await project.node.report(
            pod, {"phase": "Running", "podIP": pod.address, "containerStatuses": [{**container, "lastState": last}]}
        )

        async def lost() -> bool:
            return dispatcher.counters().pods_lost == 1

        await eventually(lost)
        assert (await project.invoke()).phase is ExecutionPhase.COMPLETED


async def obey(call: FakeCall) -> web.StreamResponse:
    if gate := call.body["payload"]:
        await call.node.gates[gate].wait()
    return envelope(call.pod.name)


async def test_a_successor_goes_on_with_the_pods_that_are_loaded(project: Project) -> None:
    async with project.dispatching():
        await project.invoke()
    [pod] = await project.pods(1)
    async with project.dispatching():
        project.sync()
        await project.ready(1)
        outcome = await project.invoke()

    assert outcome.cold_start is False
    assert project.node.seen == [pod]


async def test_a_pod_whose_call_goes_on_without_its_caller_is_adopted_when_it_has_ended(project: Project) -> None:
    project.node.function = obey
    async with project.dispatching():
        _ = project.call("gate")
        await project.running(1)
    [pod] = await project.pods(1)
    async with project.dispatching():
        project.sync()
        waiting = project.call()
        await asyncio.wait({waiting}, timeout=1)
        assert pod.running == 1
        assert pod.name in project.node.pods
        project.node.gates["gate"].set()
        await project.ready(2)


async def test_a_pod_that_cannot_say_what_it_runs_is_deleted_when_its_time_is_over(project: Project) -> None:
    project.node.tells_running = False
    project.spec = {"timeout": 1}
    async with project.dispatching():
        await project.invoke()
    await project.pods(1)
    async with project.dispatching():
        project.sync()
        await project.pods(0)


@pytest.mark.parametrize("change", ["other deployment", "other code", "other settings", "function gone"])
async def test_a_pod_that_is_not_what_should_run_is_not_adopted(project: Project, change: str) -> None:
    await project.deploy("greet-2")
    async with project.dispatching():
        await project.invoke()
    match change:
        case "other deployment":
            deployment: str | None = "greet-2"
        case "other code":
            deployment, project.digest = "greet-1", "sha256:" + "0" * 64
        case "other settings":
            deployment, project.spec = "greet-1", {"resources": {"limits": {"memory": "64Mi"}}}
        case _:
            deployment = None
    async with project.dispatching() as dispatcher:
        project.sync(deployment=deployment)
        await dispatcher._fleet.watch(project.namespace)
        await project.pods(0)


async def test_a_pod_left_in_its_pool_after_its_load_is_deleted(project: Project) -> None:
    """Its shim died between the load and the patch; the pool would stay one short for ever."""
    [pod] = await project.pool(1)
    pod.loads.append({"digest": "sha256:x", "key": "k"})
    async with project.dispatching() as dispatcher:
        await warm(project, dispatcher, 1)
        await project.invoke()
        assert dispatcher.counters().claims_lost == 1

        async def swept() -> bool:
            dispatcher._fleet._sweep_pools()
            return pod.name not in project.node.pods

        await eventually(swept, within=10)
        await project.free(1)


async def test_a_new_deployment_is_loaded_before_the_one_before_it_goes(project: Project) -> None:
    await project.deploy("greet-2")
    project.scaling = {"minReplicas": 1}
    async with project.dispatching() as dispatcher:
        project.sync()
        await project.ready(1)
        project.sync(deployment="greet-2")

        async def loaded() -> bool:
            return dispatcher.ready(project.uid, project.deployments["greet-2"]) == 1

        await eventually(loaded)
        assert dispatcher.ready(project.uid, project.deployments["greet-1"]) == 1, "calls may be on their way to it"

        async def gone() -> bool:
            return dispatcher.ready(project.uid, project.deployments["greet-1"]) == 0

        await eventually(gone, within=15)


async def test_a_deployment_goes_on_as_long_as_its_successor_does_not_come_up(project: Project) -> None:
    await project.deploy("greet-2")
    project.scaling = {"minReplicas": 1}
    async with project.dispatching(pod_start_seconds=8.0) as dispatcher:
        project.sync()
        await project.ready(1)
        project.node.status = lambda _: None
        project.sync(deployment="greet-2")
        await project.pods(2)
        outcome = await project.invoke()
        assert outcome.cold_start is False

        async def gone() -> bool:
            return dispatcher.ready(project.uid, project.deployments["greet-1"]) == 0

        await eventually(gone, within=25)


async def test_no_pod_of_another_namespace_is_claimed(project: Project) -> None:
    await project.pool(1)
    async with project.dispatching() as dispatcher:
        await warm(project, dispatcher, 1)
        foreign = dispatcher._fleet.warm._free
        assert {pool.namespace for pool in foreign} == {project.namespace}
        assert Key(project.namespace, project.node.seen[0].name) in next(iter(foreign.values()))
