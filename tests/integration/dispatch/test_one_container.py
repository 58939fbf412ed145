"""Pods made for a call, of a Runtime whose image brings the agent, and the Secret by which they announce themselves."""

import asyncio
import base64
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from appfn import names
from appfn.api.base import Json
from appfn.api.execution import ExecutionPhase, FailureReason
from appfn.api.kinds import POD, SECRET, Key, Kind
from appfn.api.runtime import LoadMode
from appfn.dispatch.tokens import announce_token
from appfn.errors import AppfnError, ConflictError, ForbiddenError, RejectedError, TransientError
from appfn.kube.client import KubeCluster
from support.dispatching import Project
from support.fake_node import FakeCall, FakePod, envelope
from support.polling import eventually

RESOURCE_QUOTA = Kind(group="", version="v1", plural="resourcequotas", name="ResourceQuota")


@pytest.fixture
def made(project: Project) -> Project:
    """A project whose Runtime's image brings the agent; without a dispatcher yet."""
    project.runtime = project.runtime_with(agent_command="/agent.sh")
    return project


def secret_key(project: Project) -> Key:
    return Key(project.namespace, names.announce_secret("greet-1", project.deployments["greet-1"]))


async def secret_of(project: Project) -> Json | None:
    return await project.cluster.get(SECRET, secret_key(project))


class WatchedCluster:
    """An API server whose writes of Secrets and creates of pods go through what the test says."""

    def __init__(self, cluster: KubeCluster) -> None:
        self._cluster = cluster
        self.get, self.list, self.delete = cluster.get, cluster.list, cluster.delete
        self.apply_status, self.merge_patch = cluster.apply_status, cluster.merge_patch
        self.before_secret: Callable[[], Awaitable[None]] = _pass
        self.before_pod: Callable[[], Awaitable[None]] = _pass
        self.applied = 0

    async def apply(self, kind: Kind, manifest: Json, *, manager: str) -> Json:
        assert kind is SECRET
        self.applied += 1
        await self.before_secret()
        return await self._cluster.apply(kind, manifest, manager=manager)

    async def create(self, kind: Kind, manifest: Json, *, manager: str = "") -> Json:
        assert kind is POD
        await self.before_pod()
        return await self._cluster.create(kind, manifest, manager=manager)


async def _pass() -> None:
    pass


def raising(*errors: AppfnError) -> Callable[[], Awaitable[None]]:
    """Return what raises these errors, one each time, and passes from then on."""
    left = list(errors)

    async def fail() -> None:
        if left:
            raise left.pop(0)

    return fail


async def test_a_call_that_finds_no_pod_is_answered_by_one_container_without_volumes(made: Project) -> None:
    async with made.dispatching():
        outcome = await made.invoke("hello")

    assert (outcome.phase, outcome.response) == (ExecutionPhase.COMPLETED, "hello")
    [pod] = made.node.seen
    [container] = pod.body["spec"]["containers"]
    assert "volumes" not in pod.body["spec"]
    assert "volumeMounts" not in container
    assert pod.environment("APPFN_ANNOUNCE_AS") == f"{made.namespace}/greet-1/{pod.name}"
    assert names.is_runtime_pod(pod.name, "greet-1")
    [source] = [
        item["valueFrom"]["secretKeyRef"] for item in container["env"] if item["name"] == "APPFN_ANNOUNCE_TOKEN"
    ]
    assert source == {"name": secret_key(made).name, "key": "token"}


async def test_its_token_is_its_deployments_and_goes_with_that(made: Project) -> None:
    async with made.dispatching():
        await made.invoke()
        secret = await secret_of(made)

    assert secret is not None
    uid = made.deployments["greet-1"]
    token = announce_token(b"master", namespace=made.namespace, deployment="greet-1", uid=uid)
    assert base64.b64decode(secret["data"]["token"]).decode() == token
    assert [(owner["kind"], owner["name"], owner["uid"]) for owner in secret["metadata"]["ownerReferences"]] == [
        ("Deployment", "greet-1", uid)
    ]
    assert secret["metadata"]["labels"][names.LABEL_DEPLOYMENT] == "greet-1"


async def test_all_pods_of_a_deployment_share_a_secret_that_is_written_once(made: Project) -> None:
    made.scaling = {"maxReplicas": 3}
    made.node.function = hold
    async with made.dispatching():
        calls = [made.call(str(number)) for number in range(3)]
        await made.running(3)
        first = await secret_of(made)
        made.node.gates["all"].set()
        await asyncio.gather(*calls)
        await lose_all(made)
        await made.invoke()
        last = await secret_of(made)

    assert first is not None
    assert last is not None
    assert first["metadata"]["resourceVersion"] == last["metadata"]["resourceVersion"]


async def lose_all(project: Project) -> None:
    """Delete all pods; return when the dispatcher knows."""
    for pod in list(project.node.pods.values()):
        await project.delete(pod)
    await project.ready(0)


async def hold(call: FakeCall) -> web.StreamResponse:
    await call.node.gates["all"].wait()
    return envelope()


async def test_a_secret_that_somebody_deleted_is_there_again_for_the_next_pod(made: Project) -> None:
    async with made.dispatching():
        await made.invoke()
        await made.cluster.delete(SECRET, secret_key(made))
        await lose_all(made)
        assert (await made.invoke()).phase is ExecutionPhase.COMPLETED

    assert await secret_of(made) is not None


async def test_a_pod_does_not_wait_for_its_secret_to_be_created(made: Project) -> None:
    through = WatchedCluster(made.cluster)

    async def pod_is_there() -> None:
        await made.pods(1)

    through.before_secret = pod_is_there
    async with made.dispatching(through=through):
        assert (await made.invoke()).phase is ExecutionPhase.COMPLETED
    assert through.applied == 1


@pytest.mark.parametrize("spec", [{"agent_command": ""}, {"load_mode": LoadMode.EXEC}])
async def test_a_pod_of_two_containers_needs_no_secret(made: Project, spec: dict[str, object]) -> None:
    made.runtime = made.runtime_with(**spec)
    through = WatchedCluster(made.cluster)
    async with made.dispatching(through=through):
        assert (await made.invoke()).phase is ExecutionPhase.COMPLETED
    assert len(made.node.seen[0].body["spec"]["containers"]) == 2
    assert through.applied == 0


async def test_a_pod_of_a_pool_still_has_two_containers_and_is_taken_first(made: Project) -> None:
    made.runtime = made.runtime_with(pool=1)
    through = WatchedCluster(made.cluster)
    [warm] = await made.pool(1)
    async with made.dispatching(through=through) as dispatcher:
        made.sync()

        async def seen() -> bool:
            return len(dispatcher._fleet.warm._free) == 1

        await eventually(seen)
        assert (await made.invoke()).phase is ExecutionPhase.COMPLETED
    assert len(warm.loads) == 1
    assert [container["name"] for container in warm.body["spec"]["containers"]] == ["runtime", "agent"]
    assert through.applied == 0


async def test_a_secret_beyond_the_quota_fails_the_call_at_once_with_the_servers_words(made: Project) -> None:
    await made.cluster.create(
        RESOURCE_QUOTA,
        {"metadata": {"name": "none", "namespace": made.namespace}, "spec": {"hard": {"secrets": "0"}}},
    )

    async def counted() -> bool:
        quota = await made.cluster.get(RESOURCE_QUOTA, Key(made.namespace, "none"))
        return bool(quota and quota.get("status", {}).get("hard"))

    await eventually(counted)
    async with made.dispatching(pod_start_seconds=60.0):
        outcome = await made.invoke()
        await made.pods(0)

    assert outcome.failure is not None
    assert outcome.failure.reason is FailureReason.POD_START_FAILED
    assert secret_key(made).name in outcome.failure.message
    assert "exceeded quota" in outcome.failure.message


@pytest.mark.parametrize("error", [ForbiddenError("says the API server"), RejectedError("says the API server")])
async def test_a_secret_that_is_refused_fails_the_call_by_name_and_leaves_no_pod(
    made: Project, error: AppfnError
) -> None:
    through = WatchedCluster(made.cluster)
    through.before_secret = raising(error)
    async with made.dispatching(through=through, pod_start_seconds=60.0):
        outcome = await made.invoke()
        await made.pods(0)

    assert outcome.failure is not None
    assert outcome.failure.reason is FailureReason.POD_START_FAILED
    assert "says the API server" in outcome.failure.message


async def test_a_secret_that_cannot_be_written_now_is_tried_again(made: Project) -> None:
    through = WatchedCluster(made.cluster)
    through.before_secret = raising(TransientError("the connection broke"), ConflictError("changed meanwhile"))
    async with made.dispatching(through=through):
        assert (await made.invoke()).phase is ExecutionPhase.COMPLETED
    assert through.applied == 3
    assert len(made.node.seen) == 1


async def test_a_secret_that_is_never_taken_is_named_when_the_time_is_over(made: Project) -> None:
    through = WatchedCluster(made.cluster)
    through.before_secret = raising(*[TransientError("the connection broke")] * 10)
    made.node.status = lambda _: None
    async with made.dispatching(through=through, pod_start_seconds=1.0):
        outcome = await made.invoke()

    assert outcome.failure is not None
    assert "did not take its Secret: the connection broke" in outcome.failure.message


async def test_a_pod_that_is_refused_ends_the_write_of_its_secret_too(made: Project) -> None:
    through, ended = WatchedCluster(made.cluster), asyncio.Event()
    begun = asyncio.Event()

    async def wait_for_ever() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def refuse() -> None:
        await begun.wait()
        raise RejectedError("no such pod")

    through.before_secret, through.before_pod = wait_for_ever, refuse
    async with made.dispatching(through=through, pod_start_seconds=60.0):
        outcome = await made.invoke()
        assert ended.is_set()

    assert outcome.failure is not None
    assert "no such pod" in outcome.failure.message


async def test_a_pod_of_one_container_serves_on_after_a_restart_of_the_shim(made: Project) -> None:
    async with made.dispatching():
        await made.invoke()
    async with made.dispatching():
        made.sync()
        await made.ready(1)
        assert (await made.invoke("again")).response == "again"
    assert len(made.node.seen) == 1


async def test_a_pod_of_one_container_whose_container_ends_is_named(made: Project) -> None:
    async def die(pod: FakePod) -> web.Response:
        await made.node.kill(pod, {"reason": "OOMKilled", "exitCode": 137})
        return web.json_response({})

    made.node.agent = die
    async with made.dispatching():
        outcome = await made.invoke()

    assert outcome.failure is not None
    assert outcome.failure.reason in {FailureReason.POD_START_FAILED, FailureReason.LOAD_FAILED}
