"""Pods that do not come up, and what is said and done about it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from appfn.api.base import Json
from appfn.api.execution import ExecutionPhase, FailureReason
from appfn.api.kinds import NAMESPACE, POD, Key, Kind
from appfn.api.runtime import LoadMode, SecurityProfile
from appfn.core.records import Outcome
from appfn.errors import ForbiddenError, TransientError
from appfn.kube.client import KubeCluster
from support.dispatching import Project
from support.fake_node import FakePod
from support.polling import eventually

RESOURCE_QUOTA = Kind(group="", version="v1", plural="resourcequotas", name="ResourceQuota")


def reason_of(outcome: Outcome) -> tuple[FailureReason, str]:
    assert outcome.phase is ExecutionPhase.FAILED
    assert outcome.failure is not None
    assert outcome.stderr == outcome.failure.message
    return outcome.failure.reason, outcome.failure.message


def waiting(reason: str) -> Callable[[FakePod], Json]:
    container = {"name": "runtime", "image": "image", "imageID": "", "ready": False, "restartCount": 0}
    state = {"waiting": {"reason": reason, "message": "says the kubelet"}}
    return lambda _: {"phase": "Pending", "containerStatuses": [{**container, "state": state}]}


def unschedulable(_: FakePod) -> Json:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are fit"}
    return {"phase": "Pending", "conditions": [condition]}


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (waiting("ImagePullBackOff"), "container runtime: ImagePullBackOff: says the kubelet"),
        (waiting("CreateContainerError"), "container runtime: CreateContainerError: says the kubelet"),
        (unschedulable, "Unschedulable: 0/1 nodes are fit"),
        (lambda _: {"phase": "Running", "podIP": "127.1.1.1"}, "its agent takes no connections"),
        (lambda _: None, "its containers are being created"),
    ],
)
async def test_a_pod_that_does_not_come_up_in_time_fails_the_call_with_its_reason(
    project: Project,
    status: Callable[[FakePod], Json | None],
    says: str,
) -> None:
    project.node.status = status
    async with project.dispatching(pod_start_seconds=1.0):
        reason, message = reason_of(await project.invoke())
    assert reason is FailureReason.POD_START_FAILED
    assert says in message
    await project.pods(0)


@pytest.mark.parametrize("why", ["InvalidImageName", "ErrImageNeverPull"])
async def test_what_no_time_heals_fails_all_waiting_calls_at_once(project: Project, why: str) -> None:
    project.node.status = waiting(why)
    project.scaling = {"maxReplicas": 1}
    async with project.dispatching(pod_start_seconds=60.0):
        outcomes = await asyncio.gather(project.invoke(), project.invoke())
    for outcome in outcomes:
        reason, message = reason_of(outcome)
        assert reason is FailureReason.POD_START_FAILED
        assert f"{why}: says the kubelet" in message
        assert outcome.times.queue_ms < 10_000


async def test_a_quota_that_is_used_up_fails_the_call_at_once_with_the_servers_words(project: Project) -> None:
    await project.cluster.create(
        RESOURCE_QUOTA,
        {"metadata": {"name": "none", "namespace": project.namespace}, "spec": {"hard": {"pods": "0"}}},
    )

    async def counted() -> bool:
        quota = await project.cluster.get(RESOURCE_QUOTA, Key(project.namespace, "none"))
        return bool(quota and quota.get("status", {}).get("hard"))

    await eventually(counted)
    async with project.dispatching(pod_start_seconds=60.0):
        reason, message = reason_of(await project.invoke())
    assert reason is FailureReason.POD_START_FAILED
    assert "exceeded quota" in message


async def test_a_pod_that_ends_while_it_starts_fails_the_call_at_once(app: Project) -> None:
    async def hang(pod: FakePod) -> web.Response:
        await app.node.kill(pod, {"reason": "StartError", "exitCode": 128})
        return web.json_response({})

    app.node.agent = hang
    reason, message = reason_of(await app.invoke())
    assert reason in {FailureReason.POD_START_FAILED, FailureReason.LOAD_FAILED}
    assert "pod" in message or "agent" in message


@pytest.mark.parametrize(
    ("status", "document", "says"),
    [
        (422, {"reason": "InvalidArchive", "message": "the tarball has a symlink"}, "the tarball has a symlink"),
        (401, {}, "refuses our token"),
        (409, {}, "already loaded"),
        (504, {}, "did not open its port"),
        (500, {}, "answered 500"),
    ],
)
async def test_a_load_that_the_agent_refuses_fails_the_call(
    app: Project,
    status: int,
    document: dict[str, Any],
    says: str,
) -> None:
    async def refuse(_: FakePod) -> web.Response:
        return web.json_response(document, status=status)

    app.node.agent = refuse
    reason, message = reason_of(await app.invoke())
    assert reason is FailureReason.LOAD_FAILED
    assert says in message
    await app.pods(0)


async def test_an_artifact_that_is_missing_fails_the_call(app: Project) -> None:
    app.digest = "sha256:" + "0" * 64
    reason, message = reason_of(await app.invoke())
    assert reason is FailureReason.LOAD_FAILED
    assert app.digest in message


async def test_a_deployment_without_a_build_for_the_runtimes_images_makes_no_pod(app: Project) -> None:
    app.runtime = app.runtime_with(images=[])
    reason, _ = reason_of(await app.invoke())
    assert reason is FailureReason.FUNCTION_UNAVAILABLE
    assert app.node.seen == []


async def test_a_broken_deployment_makes_few_pods_and_recovers_by_itself(app: Project) -> None:
    async def refuse(_: FakePod) -> web.Response:
        return web.json_response({"message": "broken"}, status=422)

    healthy, app.node.agent = app.node.agent, refuse
    app.scaling = {"maxReplicas": 10}
    await asyncio.gather(*(app.invoke() for _ in range(20)))
    made = len(app.node.seen)
    assert made <= 10
    again = [app.call() for _ in range(20)]
    await asyncio.wait(again, timeout=0.5)
    assert len(app.node.seen) == made, "the next pod waits its time"
    app.node.agent = healthy
    outcomes = await asyncio.gather(*again)
    assert {outcome.phase for outcome in outcomes} == {ExecutionPhase.COMPLETED}


async def test_a_pod_that_crashes_after_its_load_is_not_replaced_in_a_storm(app: Project) -> None:
    async def crash(pod: FakePod) -> web.Response:
        app.node.crash_later(pod)
        return web.json_response({"bootMs": 1})

    app.node.agent = crash
    app.scaling = {"minReplicas": 1}
    app.sync()

    async def lost() -> bool:
        return app.dispatcher.counters().pods_lost + app.dispatcher.counters().pods_failed >= 2

    await eventually(lost, within=8)
    assert len(app.node.seen) <= 3


@pytest.mark.parametrize("load_mode", LoadMode)
async def test_pods_of_restricted_runtimes_pass_the_api_servers_own_pod_security(
    app: Project,
    load_mode: LoadMode,
) -> None:
    await enforce(app, "restricted")
    app.runtime = app.runtime_with(load_mode=load_mode)
    assert (await app.invoke()).phase is ExecutionPhase.COMPLETED


async def test_a_restricted_pod_of_one_container_passes_the_api_servers_own_pod_security(app: Project) -> None:
    await enforce(app, "restricted")
    app.runtime = app.runtime_with(agent_command="/agent.sh")
    assert (await app.invoke()).phase is ExecutionPhase.COMPLETED
    assert len(app.node.seen[0].body["spec"]["containers"]) == 1


@pytest.mark.parametrize(("level", "refused"), [("baseline", False), ("restricted", True)])
async def test_pods_of_baseline_runtimes_pass_pod_security_baseline_only(
    app: Project,
    level: str,
    *,
    refused: bool,
) -> None:
    await enforce(app, level)
    app.runtime = app.runtime_with(security_profile=SecurityProfile.BASELINE, load_mode=LoadMode.EXEC)
    assert ("violates PodSecurity" in (await app.invoke()).stderr) is refused


async def enforce(app: Project, level: str) -> None:
    """Let Pod Security hold in the namespace; return when the API server has noticed."""
    labels = {"pod-security.kubernetes.io/enforce": level}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": app.namespace, "labels": labels}}
    await app.cluster.apply(NAMESPACE, manifest, manager="tests")
    key = Key(app.namespace, "probe")
    containers = [{"name": "c", "image": "i"}]
    spec = {"containers": containers, "hostNetwork": True, "serviceAccountName": "appfn-runtime"}

    async def refused() -> bool:
        try:
            await app.cluster.create(POD, {"metadata": {"name": key.name, "namespace": key.namespace}, "spec": spec})
        except ForbiddenError:
            return True
        await app.cluster.delete(POD, key)
        return False

    await eventually(refused)


class FlakyCluster:
    """An API server whose answer to the first create and to the first delete is lost."""

    def __init__(self, cluster: KubeCluster) -> None:
        self._cluster = cluster
        self.get, self.list = cluster.get, cluster.list
        self.apply, self.apply_status, self.merge_patch = cluster.apply, cluster.apply_status, cluster.merge_patch
        self.lost: list[str] = []

    async def create(self, kind: Kind, manifest: Json, *, manager: str = "") -> Json:
        body = await self._cluster.create(kind, manifest)
        self._lose("create")
        return body

    async def delete(self, kind: Kind, key: Key, *, uid: str = "", grace_seconds: int | None = None) -> bool:
        existed = await self._cluster.delete(kind, key, uid=uid, grace_seconds=grace_seconds)
        self._lose("delete")
        return existed

    def _lose(self, verb: str) -> None:
        if verb not in self.lost:
            self.lost.append(verb)
            raise TransientError("the connection broke")


async def test_a_lost_answer_of_the_api_server_neither_fails_a_call_nor_leaves_a_pod(project: Project) -> None:
    project.scaling = {"idleSeconds": 0}
    flaky = FlakyCluster(project.cluster)
    async with project.dispatching(through=flaky):
        assert (await project.invoke()).phase is ExecutionPhase.COMPLETED
        await project.pods(0)
        assert len(project.node.seen) == 1

        async def lost() -> bool:  # the node may hear of it before whoever asked for it
            return flaky.lost == ["create", "delete"]

        await eventually(lost)


async def test_pods_that_a_dead_process_has_left_are_deleted_and_those_of_others_are_not(project: Project) -> None:
    async with project.dispatching():
        await project.invoke()
        [mine] = project.node.pods.values()
        for name, labels in (("left", {}), ("other", {"appfn.dev/shim": "appfn-shim-1"})):
            await project.cluster.create(POD, copy_of(mine, name=name, labels=labels))

        async def reaped() -> bool:
            return set(project.node.pods) == {mine.name, "other"}

        await eventually(reaped)


async def test_pods_left_in_a_namespace_that_were_never_loaded_are_deleted_at_the_first_sync(project: Project) -> None:
    async with project.dispatching():
        await project.invoke()
        [pod] = project.node.pods.values()
    await project.cluster.create(POD, copy_of(pod, name="left", labels={}))
    await project.pods(2)
    async with project.dispatching():
        project.sync()
        assert await project.pods(1) == [pod]


def copy_of(pod: FakePod, *, name: str, labels: dict[str, str]) -> Json:
    metadata = pod.body["metadata"]
    kept = {"namespace": metadata["namespace"], "ownerReferences": metadata["ownerReferences"]}
    spec = pod.body["spec"]
    return {"metadata": {**kept, "name": name, "labels": metadata["labels"] | labels}, "spec": spec}
