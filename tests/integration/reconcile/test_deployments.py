"""Builds on a real API server: the Job controller makes the pods, the tests speak for the kubelet."""

import json
from datetime import timedelta
from typing import Any

import pytest

from appfn.api.base import Json
from appfn.api.kinds import CONFIG_MAP, DEPLOYMENT, FUNCTION, JOB, NODE, POD, RUNTIME, Key, Kind
from appfn.reconcile.registry import Controller
from support.polling import eventually
from support.reconciling import CrashError, Operator, condition

DIGEST = "sha256:" + "b" * 64
LOG = "sha256:" + "c" * 64
JOB_NAME = "hello-v1-build-amd64-1"
QUOTA = Kind(group="", version="v1", plural="resourcequotas", name="ResourceQuota")
SERVICE_ACCOUNTS = Kind(group="", version="v1", plural="serviceaccounts", name="ServiceAccount")


async def arrange(operator: Operator, runtime: str, *, source: Json | None = None) -> None:
    await operator.create(FUNCTION, "hello", {"runtime": runtime})
    inline = {"inline": {"files": {"index.js": "module.exports = () => 1"}}}
    await operator.create(DEPLOYMENT, "hello-v1", {"functionRef": {"name": "hello"}, "source": source or inline})


async def build(operator: Operator, name: str = "hello-v1") -> Json:
    """Reconcile the Deployment and return its status."""
    await operator.run(Controller.DEPLOYMENT, name)
    return await operator.status(Controller.DEPLOYMENT, name)


async def pod_of(operator: Operator, job: str = JOB_NAME) -> Json:
    async def probe() -> Json | None:
        return await operator.pod_of(job)

    return await eventually(probe, within=15)


def ended(name: str, *, code: int = 0, message: Json | None = None) -> Json:
    times = {"startedAt": "2026-03-01T12:00:00Z", "finishedAt": "2026-03-01T12:00:01Z"}
    state = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", **times}
    told = {} if message is None else {"message": json.dumps(message)}
    return container(name, terminated=state | told)


def container(name: str, **state: Any) -> Json:
    return {
        "name": name,
        "image": "i",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "containerID": "",
        "state": state,
    }


async def succeed(operator: Operator, job: str = JOB_NAME) -> None:
    """Let the pod of a Job end as a good build does."""
    report = {"artifact": {"digest": DIGEST, "size": 3}, "log": {"digest": LOG, "size": 3}, "sourceDigest": DIGEST}
    status = {
        "phase": "Succeeded",
        "containerStatuses": [ended("agent", message=report), ended("build")],
    }
    await operator.pod_status(await pod_of(operator, job), status)


async def fail(operator: Operator, job: str = JOB_NAME) -> None:
    """Let the pod of a Job end as a failing build does."""
    report = {"artifact": None, "log": {"digest": LOG, "size": 3}, "reason": "BuildFailed", "message": "npm: no such"}
    status = {
        "phase": "Failed",
        "containerStatuses": [ended("agent", code=1, message=report), ended("build")],
    }
    await operator.pod_status(await pod_of(operator, job), status)


async def at_rest(operator: Operator, name: str = "hello-v1") -> None:
    since = operator.audit.position()
    for _ in range(2):
        await operator.run(Controller.DEPLOYMENT, name)
    assert operator.writes(since) == []


async def test_an_inline_source_is_stored_and_built_and_the_deployment_gets_ready(
    operator: Operator, runtime: str
) -> None:
    operator.shim.artifacts[LOG] = b"installing\ndone\n"
    await arrange(operator, runtime)

    processing = await build(operator)
    await pod_of(operator)
    await at_rest(operator)
    await succeed(operator)
    ready = await build(operator)

    assert processing["phase"] == "processing"
    assert processing["sourceDigest"] in operator.shim.artifacts
    assert ready["phase"] == "ready"
    assert condition(ready, "Ready") == ("True", "BuildReady")
    assert condition(ready, "Reconciling") is None
    assert ready["builds"][0]["artifact"] == {"digest": DIGEST, "size": 3}
    assert ready["builds"][0]["logTail"] == "installing\ndone\n"
    assert [stored["artifact"]["digest"] for stored in operator.shim.builds.values()] == [DIGEST]
    await at_rest(operator)


async def test_a_report_on_the_pod_makes_the_deployment_ready_before_the_kubelet_tells(
    operator: Operator, runtime: str
) -> None:
    await arrange(operator, runtime)
    await build(operator)
    report = {"artifact": {"digest": DIGEST, "size": 3}, "log": None, "sourceDigest": DIGEST}
    pod = await pod_of(operator)
    annotations = {"appfn.dev/build-report": json.dumps(report)}
    await operator.patch(POD, pod["metadata"]["name"], {"metadata": {"annotations": annotations}})

    early = await build(operator)
    await at_rest(operator)
    await succeed(operator)
    await at_rest(operator)

    assert early["phase"] == "ready"
    assert early["builds"][0]["artifact"] == {"digest": DIGEST, "size": 3}


async def test_the_same_source_is_not_built_again(operator: Operator, runtime: str) -> None:
    await arrange(operator, runtime)
    await build(operator)
    key = {"artifact": {"digest": DIGEST, "size": 3}, "log": None}
    await succeed(operator)
    # What the agent reports as the source's digest is what the operator packed.
    await build(operator)
    operator.shim.builds = dict.fromkeys(operator.shim.builds, key)
    source = (await operator.status(Controller.DEPLOYMENT, "hello-v1"))["sourceDigest"]
    artifact = {"artifact": {"digest": source}}
    await operator.create(DEPLOYMENT, "hello-v2", {"functionRef": {"name": "hello"}, "source": artifact})

    await build(operator, "hello-v2")
    keys = [call.rsplit("/", 1)[1] for call in operator.shim.calls if call.startswith("GET /internal/v1/builds")]
    operator.shim.builds = {keys[-1]: key}
    await operator.create(DEPLOYMENT, "hello-v3", {"functionRef": {"name": "hello"}, "source": artifact})
    third = await build(operator, "hello-v3")

    assert len(set(keys)) == 1  # hello-v1 and hello-v2 ask for one and the same build
    assert third["phase"] == "ready"
    assert third["builds"][0].get("job", "") == ""
    assert [job["metadata"]["name"] for job in await operator.jobs() if "hello-v3" in job["metadata"]["name"]] == []


async def test_a_running_pod_shows_as_building(operator: Operator, runtime: str) -> None:
    await arrange(operator, runtime)
    await build(operator)
    running = container("agent", running={"startedAt": "2026-03-01T12:00:00Z"})
    await operator.pod_status(await pod_of(operator), {"phase": "Running", "containerStatuses": [running]})

    status = await build(operator)

    assert (status["phase"], condition(status, "Reconciling")) == ("building", ("True", "Building"))
    await at_rest(operator)


async def test_a_failed_build_says_why_and_is_built_again_by_annotation(operator: Operator, runtime: str) -> None:
    operator.shim.artifacts[LOG] = b"npm: no such package\n"
    await arrange(operator, runtime)
    await build(operator)
    await fail(operator)

    failed = await build(operator)
    await at_rest(operator)
    await operator.cluster.delete(JOB, Key(operator.namespace, JOB_NAME))
    await at_rest(operator)
    await operator.patch(DEPLOYMENT, "hello-v1", {"metadata": {"annotations": {"appfn.dev/retry": "1"}}})
    again = await build(operator)
    await pod_of(operator, "hello-v1-build-amd64-2")
    await at_rest(operator)
    await succeed(operator, "hello-v1-build-amd64-2")
    ready = await build(operator)

    assert (failed["phase"], condition(failed, "Stalled")) == ("failed", ("True", "BuildFailed"))
    assert failed["builds"][0]["logTail"] == "npm: no such package\n"
    assert (again["phase"], again["builds"][0]["attempt"], again["retryToken"]) == ("processing", 2, "1")
    assert ready["phase"] == "ready"


async def test_a_canceled_build_stops_at_once_and_stays_canceled(operator: Operator, runtime: str) -> None:
    await arrange(operator, runtime)
    await build(operator)
    running = container("agent", running={"startedAt": "2026-03-01T12:00:00Z"})
    await operator.pod_status(await pod_of(operator), {"phase": "Running", "containerStatuses": [running]})
    await build(operator)

    await operator.patch(DEPLOYMENT, "hello-v1", {"metadata": {"annotations": {"appfn.dev/cancel": "now"}}})
    canceled = await build(operator)

    assert canceled["phase"] == "canceled"
    assert condition(canceled, "Ready") == ("False", "Canceled")
    assert condition(canceled, "Stalled") == ("True", "Canceled")

    async def gone() -> bool:
        return await operator.jobs() == []

    await eventually(gone, within=15)
    await at_rest(operator)
    await operator.run(Controller.FUNCTION, "hello")
    assert "activeDeployment" not in await operator.status(Controller.FUNCTION, "hello")


async def test_a_cancel_that_crashed_between_job_and_status_is_finished(operator: Operator, runtime: str) -> None:
    await arrange(operator, runtime)
    await build(operator)
    await operator.patch(DEPLOYMENT, "hello-v1", {"metadata": {"annotations": {"appfn.dev/cancel": "now"}}})
    operator.crash.at, operator.crash.after, operator.crash.seen = 1, True, 0
    with pytest.raises(CrashError):
        await build(operator)
    operator.crash.at = 0

    assert (await build(operator))["phase"] == "canceled"


async def test_a_job_deleted_in_the_middle_is_made_again(operator: Operator, runtime: str) -> None:
    await arrange(operator, runtime)
    await build(operator)
    first = await operator.get(JOB, JOB_NAME)
    await operator.cluster.delete(JOB, Key(operator.namespace, JOB_NAME))

    async def again() -> bool:
        await build(operator)
        jobs = await operator.jobs()
        return bool(jobs) and jobs[0]["metadata"]["uid"] != first["metadata"]["uid"]

    await eventually(again, within=15)
    assert (await operator.status(Controller.DEPLOYMENT, "hello-v1"))["builds"][0]["attempt"] == 1


async def test_a_pod_that_may_not_be_made_is_told_with_the_reason(operator: Operator, runtime: str) -> None:
    quota = {"metadata": {"namespace": operator.namespace, "name": "none"}, "spec": {"hard": {"pods": "0"}}}
    await operator.cluster.create(QUOTA, quota)
    await arrange(operator, runtime)
    await build(operator)

    async def refused() -> Json | None:
        status = await build(operator)
        return status if condition(status, "Ready") == ("False", "Forbidden") else None

    status = await eventually(refused, within=20)
    message = next(item["message"] for item in status["conditions"] if item["type"] == "Ready")
    assert "exceeded quota: none" in message
    assert "ResourceQuota" in message


async def test_a_missing_service_account_is_told(operator: Operator, runtime: str) -> None:
    await operator.cluster.delete(SERVICE_ACCOUNTS, Key(operator.namespace, "appfn-build"))
    await arrange(operator, runtime)
    await build(operator)

    async def refused() -> Json | None:
        status = await build(operator)
        return status if condition(status, "Ready") == ("False", "Forbidden") else None

    status = await eventually(refused, within=20)
    message = next(item["message"] for item in status["conditions"] if item["type"] == "Ready")
    assert 'serviceaccount "appfn-build" not found' in message
    assert "manifests/project" in message


async def test_an_image_that_cannot_be_pulled_fails_after_a_minute_and_its_job_goes(
    operator: Operator, runtime: str
) -> None:
    await arrange(operator, runtime)
    await build(operator)
    pull = container("build", waiting={"reason": "ImagePullBackOff", "message": "manifest unknown"})
    await operator.pod_status(await pod_of(operator), {"phase": "Pending", "containerStatuses": [pull]})

    waiting = await build(operator)
    operator.clock.ahead = timedelta(seconds=62)
    failed = await build(operator)

    assert condition(waiting, "Reconciling") == ("True", "ImagePullFailed")
    assert condition(failed, "Stalled") == ("True", "ImagePullFailed")
    assert "manifest unknown" in failed["builds"][0]["message"]

    async def gone() -> bool:
        return await operator.jobs() == []

    await eventually(gone, within=15)
    await at_rest(operator)


async def test_a_deployment_before_its_function_waits_and_is_woken(operator: Operator, runtime: str) -> None:
    source = {"inline": {"files": {"index.js": "1"}}}
    await operator.create(DEPLOYMENT, "hello-v1", {"functionRef": {"name": "hello"}, "source": source})

    waiting = await build(operator)
    await at_rest(operator)
    await operator.create(FUNCTION, "hello", {"runtime": runtime})
    await operator.run(Controller.FUNCTION, "hello")
    woken = list(operator.marks.made)
    await build(operator)

    assert condition(waiting, "Reconciling") == ("True", "FunctionNotFound")
    assert woken == [(Controller.DEPLOYMENT, Key(operator.namespace, "hello-v1"))]
    assert len(await operator.jobs()) == 1


async def test_the_function_owns_its_deployments(operator: Operator, runtime: str) -> None:
    await arrange(operator, runtime)
    await build(operator)
    function = await operator.get(FUNCTION, "hello")
    owners = (await operator.get(DEPLOYMENT, "hello-v1"))["metadata"]["ownerReferences"]

    await operator.cluster.delete(FUNCTION, Key(operator.namespace, "hello"))

    async def gone() -> bool:
        deployments = await operator.cluster.list(DEPLOYMENT, namespace=operator.namespace)
        return not deployments and not await operator.jobs()

    assert [owner["uid"] for owner in owners] == [function["metadata"]["uid"]]
    await eventually(gone, within=60)


async def test_a_config_map_is_the_source_as_it_was_first_seen(operator: Operator, runtime: str) -> None:
    await arrange(operator, runtime, source={"configMapRef": {"name": "code"}})
    waiting = await build(operator)
    body = {"metadata": {"namespace": operator.namespace, "name": "code"}, "data": {"index.js": "1"}}
    await operator.cluster.create(CONFIG_MAP, body)

    processing = await build(operator)
    await operator.patch(CONFIG_MAP, "code", {"data": {"index.js": "2"}})
    await build(operator)

    assert condition(waiting, "Ready") == ("False", "SourceUnavailable")
    assert processing["sourceDigest"] in operator.shim.artifacts
    assert (await operator.status(Controller.DEPLOYMENT, "hello-v1"))["sourceDigest"] == processing["sourceDigest"]


async def test_a_shim_that_is_away_delays_the_build_and_is_told(operator: Operator, runtime: str) -> None:
    await arrange(operator, runtime)
    operator.shim.broken = 503

    held = await build(operator)
    operator.shim.broken = 0
    started = await build(operator)

    assert condition(held, "Ready") == ("False", "ShimUnavailable")
    assert started["builds"][0]["job"] == JOB_NAME
    assert len(await operator.jobs()) == 1


async def test_a_cluster_without_the_architecture_is_told(operator: Operator, runtime: str, node: str) -> None:
    await operator.cluster.delete(NODE, Key("", node))
    await arrange(operator, runtime)

    status = await build(operator)

    assert condition(status, "Ready") == ("False", "NoNodeForArchitecture")
    assert await operator.jobs() == []


async def test_a_runtime_gets_its_status_once(operator: Operator, runtime: str) -> None:
    since = operator.audit.position()
    for _ in range(3):
        await operator.run(Controller.RUNTIME, runtime)

    assert operator.writes(since) == [f"patch runtimes/status {runtime}"]
    assert condition((await operator.get(RUNTIME, runtime))["status"], "Ready") == ("True", "Enabled")
