"""Killed at any write, before it is sent or after it was answered, the operator comes to the same end."""

import pytest

from appfn.api.kinds import CRON_JOB, DEPLOYMENT, EXECUTION, FUNCTION, JOB, Key
from appfn.reconcile.registry import Controller
from support.polling import eventually
from support.reconciling import CrashError, Operator, condition

DIGEST = "sha256:" + "a" * 64


async def converge(operator: Operator, controller: Controller, name: str) -> int:
    """Reconcile after a crash until nothing is written any more; return the writes of the run that was killed."""
    with pytest.raises(CrashError):
        await operator.run(controller, name)
    died_at = operator.crash.seen
    operator.crash.at = 0
    for _ in range(3):
        await operator.run(controller, name)
    since = operator.audit.position()
    await operator.run(controller, name)
    assert operator.writes(since) == []
    return died_at


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3, 4], ids=["owner", "source", "job", "status"])
async def test_a_build_starts_once(operator: Operator, runtime: str, at: int, *, after: bool) -> None:
    source = {"inline": {"files": {"index.js": "1"}}}
    await operator.create(FUNCTION, "hello", {"runtime": runtime})
    await operator.create(DEPLOYMENT, "hello-v1", {"functionRef": {"name": "hello"}, "source": source})
    operator.crash.at, operator.crash.after = at, after

    assert await converge(operator, Controller.DEPLOYMENT, "hello-v1") == at

    made = operator.audit.writes(user=operator.user, resource="jobs")
    assert [write.code for write in made if write.verb == "create"] == [201]
    assert (await operator.get(JOB, "hello-v1-build-amd64-1"))["metadata"]["name"]
    assert (await operator.status(Controller.DEPLOYMENT, "hello-v1"))["builds"][0]["attempt"] == 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2], ids=["job", "status"])
async def test_a_retry_is_one_attempt(operator: Operator, runtime: str, at: int, *, after: bool) -> None:
    await operator.create(FUNCTION, "hello", {"runtime": runtime})
    source = {"artifact": {"digest": DIGEST}}
    made = await operator.create(DEPLOYMENT, "hello-v1", {"functionRef": {"name": "hello"}, "source": source})
    await operator.run(Controller.DEPLOYMENT, "hello-v1")
    build = {"architecture": "amd64", "phase": "failed", "attempt": 1, "startTime": "2026-03-01T12:00:00Z"}
    made["metadata"].pop("resourceVersion")
    await operator.cluster.apply_status(
        DEPLOYMENT, {**made, "status": {"phase": "failed", "builds": [build]}}, manager="appfn-deployment"
    )
    await operator.patch(DEPLOYMENT, "hello-v1", {"metadata": {"annotations": {"appfn.dev/retry": "1"}}})
    operator.crash.seen, operator.crash.at, operator.crash.after = 0, at, after

    await converge(operator, Controller.DEPLOYMENT, "hello-v1")

    names = sorted(job["metadata"]["name"] for job in await operator.jobs())
    assert names == ["hello-v1-build-amd64-1", "hello-v1-build-amd64-2"]
    assert (await operator.status(Controller.DEPLOYMENT, "hello-v1"))["builds"][0]["attempt"] == 2


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2], ids=["cron-job", "status"])
async def test_a_schedule_is_set_up_and_owes_nothing(operator: Operator, runtime: str, at: int, *, after: bool) -> None:
    await operator.create(FUNCTION, "hello", {"runtime": runtime, "schedule": "*/5 * * * *"})
    operator.crash.at, operator.crash.after = at, after

    await converge(operator, Controller.FUNCTION, "hello")

    status = await operator.status(Controller.FUNCTION, "hello")
    assert (condition(status, "Scheduled"), status["missedTicks"]) == (("True", "Scheduled"), 0)
    assert await operator.cluster.get(CRON_JOB, Key(operator.namespace, "hello-schedule")) is not None


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3], ids=["owner", "submit", "status"])
async def test_an_execution_is_one_execution(operator: Operator, runtime: str, at: int, *, after: bool) -> None:
    made = await operator.create(FUNCTION, "hello", {"runtime": runtime})
    made["metadata"].pop("resourceVersion")
    await operator.cluster.apply_status(FUNCTION, {**made, "status": {"activeDeployment": "v1"}}, manager="tests")
    uid = (await operator.create(EXECUTION, "run", {"functionRef": {"name": "hello"}}))["metadata"]["uid"]
    operator.crash.at, operator.crash.after = at, after

    await converge(operator, Controller.EXECUTION, "run")

    assert {body["uid"] for body in operator.shim.submissions} == {uid}
    assert list(operator.shim.executions) == [uid]

    async def submitted() -> bool:
        return bool((await operator.status(Controller.EXECUTION, "run"))["executionId"] == uid)

    assert await eventually(submitted)
