"""Functions, Executions and histories on a real API server."""

import asyncio
import os
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import CRON_JOB, DEPLOYMENT, EXECUTION, FUNCTION, Key
from appfn.reconcile.registry import Controller
from localcluster import binaries
from localcluster.controlplane import ControlPlane
from support.cluster import ROOT
from support.polling import eventually
from support.reconciling import CrashError, Operator, condition

DIGEST = "sha256:" + "a" * 64
PAGE = ROOT / "docs/executions.md"
READY: Json = {
    "phase": "ready",
    "conditions": [
        {"type": "Ready", "status": "True", "reason": "BuildReady", "lastTransitionTime": "2026-03-01T12:00:00Z"}
    ],
}


async def function(operator: Operator, runtime: str, **spec: object) -> Json:
    await operator.create(FUNCTION, "hello", {"runtime": runtime, **spec})
    return await look(operator)


async def look(operator: Operator) -> Json:
    await operator.run(Controller.FUNCTION, "hello")
    return await operator.status(Controller.FUNCTION, "hello")


async def deploy(operator: Operator, name: str = "hello-v1") -> None:
    """Make a Deployment that is ready."""
    spec = {"functionRef": {"name": "hello"}, "source": {"artifact": {"digest": DIGEST}}}
    made = await operator.create(DEPLOYMENT, name, spec)
    await operator.cluster.apply_status(DEPLOYMENT, {**made, "status": READY}, manager="tests")


async def at_rest(operator: Operator, controller: Controller = Controller.FUNCTION, name: str = "hello") -> None:
    since = operator.audit.position()
    for _ in range(2):
        await operator.run(controller, name)
    assert operator.writes(since) == []


async def test_a_function_gets_ready_with_its_first_deployment(operator: Operator, runtime: str) -> None:
    waiting = await function(operator, runtime)
    await deploy(operator)

    ready = await look(operator)

    assert condition(waiting, "Ready") == ("False", "NoDeployment")
    assert condition(ready, "Ready") == ("True", "Ready")
    assert ready["activeDeployment"] == "hello-v1"
    await at_rest(operator)


async def test_a_schedule_is_made_changed_and_removed(operator: Operator, runtime: str) -> None:
    status = await function(operator, runtime, schedule="*/5 * * * *", timeZone="Europe/Berlin")
    made = await operator.get(CRON_JOB, "hello-schedule")
    await at_rest(operator)
    await operator.patch(FUNCTION, "hello", {"spec": {"schedule": "0 9 * * 1"}})
    await look(operator)
    changed = await operator.get(CRON_JOB, "hello-schedule")
    await at_rest(operator)
    await operator.patch(FUNCTION, "hello", {"spec": {"schedule": ""}})
    removed = await look(operator)

    async def gone() -> bool:
        return await operator.cluster.get(CRON_JOB, Key(operator.namespace, "hello-schedule")) is None

    await eventually(gone, within=10)
    assert condition(status, "Scheduled") == ("True", "Scheduled")
    assert made["spec"]["timeZone"] == "Europe/Berlin"
    assert (changed["spec"]["schedule"], changed["metadata"]["uid"]) == ("0 9 * * 1", made["metadata"]["uid"])
    assert condition(removed, "Scheduled") is None
    await at_rest(operator)


async def test_drift_of_the_cron_job_is_repaired(operator: Operator, runtime: str) -> None:
    await function(operator, runtime, schedule="*/5 * * * *")
    await operator.patch(CRON_JOB, "hello-schedule", {"spec": {"suspend": True}})

    await look(operator)

    assert (await operator.get(CRON_JOB, "hello-schedule"))["spec"]["suspend"] is False
    await at_rest(operator)


async def test_a_wrong_schedule_is_told_and_makes_nothing(operator: Operator, runtime: str) -> None:
    status = await function(operator, runtime, schedule="0 0 30 2 *")

    assert condition(status, "Scheduled") == ("False", "InvalidSchedule")
    assert condition(status, "Stalled") == ("True", "InvalidSchedule")
    assert await operator.cluster.list(CRON_JOB, namespace=operator.namespace) == []


async def test_a_cron_job_of_somebody_else_is_not_taken(operator: Operator, runtime: str) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    spec = {"schedule": "* * * * *", "suspend": True, "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    await operator.create(CRON_JOB, "hello-schedule", spec)

    status = await function(operator, runtime, schedule="*/5 * * * *")

    assert condition(status, "Scheduled") == ("False", "NotOwned")
    assert (await operator.get(CRON_JOB, "hello-schedule"))["spec"]["schedule"] == "* * * * *"


async def test_ticks_that_ran_and_ticks_that_were_missed_are_counted(operator: Operator, runtime: str) -> None:
    first = await function(operator, runtime, schedule="* * * * *")
    due = datetime.fromisoformat(first["scheduleNext"])
    ran = due.astimezone(UTC).isoformat()
    operator.shim.ticks = [{"scheduledAt": ran, "createdAt": (due + timedelta(seconds=90)).isoformat()}]
    operator.clock.ahead = timedelta(minutes=15)

    status = await look(operator)

    assert status["lateTicks"] == 1
    assert status["missedTicks"] >= 3
    assert status["schedulePrevious"] > first["scheduleNext"]


async def test_counts_come_from_the_shim_and_stay_while_it_is_away(operator: Operator, runtime: str) -> None:
    operator.shim.counts = {"total": 3, "completed": 2, "failed": 1}
    counted = await function(operator, runtime)
    operator.shim.broken = 503

    assert counted["executions"] == {"total": 3, "completed": 2, "failed": 1}
    await at_rest(operator)


async def callable_function(operator: Operator, runtime: str) -> None:
    await function(operator, runtime)
    await deploy(operator)
    await look(operator)


async def execute(operator: Operator) -> Json:
    await operator.run(Controller.EXECUTION, "run")
    return await operator.status(Controller.EXECUTION, "run")


async def test_an_execution_is_submitted_once_and_its_result_mirrored(operator: Operator, runtime: str) -> None:
    await callable_function(operator, runtime)
    made = await operator.create(EXECUTION, "run", {"functionRef": {"name": "hello"}, "data": "x"})
    uid = made["metadata"]["uid"]

    waiting = await execute(operator)
    await at_rest(operator, Controller.EXECUTION, "run")
    operator.shim.executions[uid] |= {"status": "completed", "statusCode": 200, "response": "hi", "duration": 0.5}
    done = await execute(operator)
    operator.shim.executions.clear()
    await at_rest(operator, Controller.EXECUTION, "run")

    assert [body["uid"] for body in operator.shim.submissions] == [uid]
    assert (waiting["executionId"], condition(waiting, "Succeeded")) == (uid, ("Unknown", "Waiting"))
    assert condition(done, "Succeeded") == ("True", "Completed")
    assert (done["response"], done["duration"]) == ("hi", "0.500")
    owners = (await operator.get(EXECUTION, "run"))["metadata"]["ownerReferences"]
    assert [owner["kind"] for owner in owners] == ["Function"]


async def test_an_execution_applied_before_its_function_runs_when_there_is_one(
    operator: Operator, runtime: str
) -> None:
    await operator.create(EXECUTION, "run", {"functionRef": {"name": "hello"}})

    first = await execute(operator)
    await at_rest(operator, Controller.EXECUTION, "run")
    await callable_function(operator, runtime)
    woken = (Controller.EXECUTION, Key(operator.namespace, "run")) in operator.marks.made
    second = await execute(operator)

    assert condition(first, "Succeeded") == ("Unknown", "FunctionNotFound")
    assert woken
    assert condition(second, "Succeeded") == ("Unknown", "Waiting")


async def test_an_execution_that_was_accepted_before_a_crash_is_the_same_one_afterwards(
    operator: Operator, runtime: str
) -> None:
    await callable_function(operator, runtime)
    made = await operator.create(EXECUTION, "run", {"functionRef": {"name": "hello"}})
    uid = made["metadata"]["uid"]
    operator.shim.executions[uid] = {"id": uid, "origin": "resource", "status": "completed", "statusCode": 200}

    assert condition(await execute(operator), "Succeeded") == ("True", "Completed")


async def test_a_full_queue_is_told_and_tried_again_when_the_shim_says(operator: Operator, runtime: str) -> None:
    await callable_function(operator, runtime)
    await operator.create(EXECUTION, "run", {"functionRef": {"name": "hello"}})
    operator.shim.broken, operator.shim.retry_after = 429, "7"

    assert await operator.run(Controller.EXECUTION, "run") == 7
    status = await operator.status(Controller.EXECUTION, "run")

    assert condition(status, "Succeeded") == ("Unknown", "ShimUnavailable")


async def test_an_execution_is_deleted_after_its_time_to_live(operator: Operator, runtime: str) -> None:
    await callable_function(operator, runtime)
    spec = {"functionRef": {"name": "hello"}, "ttlSecondsAfterFinished": 60}
    uid = (await operator.create(EXECUTION, "run", spec))["metadata"]["uid"]
    operator.shim.executions[uid] = {"id": uid, "origin": "resource", "status": "completed", "statusCode": 200}

    await operator.run(Controller.EXECUTION, "run")
    seconds = await operator.run(Controller.EXECUTION, "run")
    operator.clock.ahead = timedelta(seconds=61)
    await operator.run(Controller.EXECUTION, "run")

    assert seconds is not None
    assert 30 < seconds <= 60
    assert await operator.cluster.get(EXECUTION, Key(operator.namespace, "run")) is None


def call(number: int, status: str = "completed") -> Json:
    return {
        "id": f"call{number}",
        "origin": "api",
        "status": status,
        "statusCode": 200,
        "createdAt": "2026-03-01T12:00:00Z",
    }


async def mirrors(operator: Operator) -> dict[str, Json]:
    found = await operator.cluster.list(EXECUTION, namespace=operator.namespace, labels="appfn.dev/mirrored")
    return {item["spec"]["id"]: item for item in found}


async def test_the_newest_calls_are_shown_as_executions_and_older_ones_go(operator: Operator, runtime: str) -> None:
    await callable_function(operator, runtime)
    await operator.create(EXECUTION, "mine", {"functionRef": {"name": "hello"}})
    operator.shim.recent = [call(number) for number in (3, 2, 1)]
    await operator.run(Controller.HISTORY, "hello")
    first = set(await mirrors(operator))
    await at_rest(operator, Controller.HISTORY)

    operator.shim.recent = [call(5, "failed"), call(4), call(3), call(2)]
    await operator.run(Controller.HISTORY, "hello")

    assert first == {"call1", "call2", "call3"}
    assert set(await mirrors(operator)) == {"call2", "call3", "call4", "call5"}
    await operator.get(EXECUTION, "mine")


async def test_an_edited_function_has_its_history_looked_at_once(operator: Operator, runtime: str) -> None:
    operator.shim.counts = {"total": 3, "completed": 3, "failed": 0}
    await callable_function(operator, runtime)
    operator.marks.made.clear()
    await look(operator)
    at_rest = list(operator.marks.made)
    await operator.patch(FUNCTION, "hello", {"spec": {"successfulExecutionsHistoryLimit": 0}})

    await look(operator)

    history = (Controller.HISTORY, Key(operator.namespace, "hello"))
    assert history not in at_rest
    assert operator.marks.made.count(history) == 1


async def test_a_mirror_shows_the_result_and_is_never_submitted(operator: Operator, runtime: str) -> None:
    await callable_function(operator, runtime)
    operator.shim.recent = [call(1)]
    operator.shim.executions["call1"] = call(1) | {"response": "hi"}
    await operator.run(Controller.HISTORY, "hello")
    name = (await mirrors(operator))["call1"]["metadata"]["name"]
    marked = [key.name for controller, key in operator.marks.made if controller is Controller.EXECUTION]

    await operator.run(Controller.EXECUTION, name)

    assert marked == [name]
    assert operator.shim.submissions == []
    shown = (await mirrors(operator))["call1"]["status"]
    assert (shown["response"], condition(shown, "Succeeded")) == ("hi", ("True", "Completed"))
    await at_rest(operator, Controller.EXECUTION, name)
    await at_rest(operator, Controller.HISTORY)


async def ended(operator: Operator) -> str:
    """Make an Execution that has ended; return its id."""
    uid = str(
        (await operator.create(EXECUTION, "run", {"functionRef": {"name": "hello"}, "data": "x"}))["metadata"]["uid"]
    )
    operator.shim.executions[uid] = {"id": uid, "origin": "resource", "status": "completed", "statusCode": 200}
    await execute(operator)
    return uid


async def others(operator: Operator) -> list[Json]:
    found = await operator.cluster.list(EXECUTION, namespace=operator.namespace, labels="!appfn.dev/mirrored")
    return [item for item in found if item["metadata"]["name"] != "run"]


async def ask_again(operator: Operator, name: str, value: str) -> None:
    await operator.patch(EXECUTION, name, {"metadata": {"annotations": {names.ANNOTATION_REPLAY: value}}})
    await operator.run(Controller.EXECUTION, name)


async def test_an_annotation_runs_an_execution_again_once_for_each_value(operator: Operator, runtime: str) -> None:
    await callable_function(operator, runtime)
    uid = await ended(operator)

    await ask_again(operator, "run", "1")
    await at_rest(operator, Controller.EXECUTION, "run")
    (made,) = await others(operator)
    await operator.run(Controller.EXECUTION, made["metadata"]["name"])

    assert made["metadata"]["annotations"] == {names.ANNOTATION_REPLAY_OF: uid}
    again = operator.shim.submissions[-1]
    assert (again["uid"], again["replayOf"]) == (made["metadata"]["uid"], uid)
    assert "data" not in again
    status = await operator.status(Controller.EXECUTION, made["metadata"]["name"])
    assert (status["executionId"], condition(status, "Succeeded")) == (made["metadata"]["uid"], ("Unknown", "Waiting"))

    await ask_again(operator, "run", "2")
    assert len(await others(operator)) == 2
    await operator.cluster.delete(EXECUTION, Key(operator.namespace, made["metadata"]["name"]))
    await operator.run(Controller.EXECUTION, "run")
    assert len(await others(operator)) == 1


async def test_the_command_of_the_page_runs_an_execution_again(
    operator: Operator, runtime: str, control_plane: ControlPlane, tmp_path: Path
) -> None:
    await callable_function(operator, runtime)
    await ended(operator)
    (command,) = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    program = tmp_path / "kubectl"
    program.symlink_to(binaries.kubectl())
    environment = {
        "HOME": str(tmp_path),  # where it keeps its cache: without a home, in the working directory
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "KUBECONFIG": str(control_plane.kubeconfig),
    }
    pasted = command.replace("NAME", f"--namespace {operator.namespace} run")
    done = await asyncio.create_subprocess_exec("sh", "-ec", pasted, env=environment)

    assert await done.wait() == 0
    await operator.run(Controller.EXECUTION, "run")
    assert len(await others(operator)) == 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_while_an_execution_is_run_again_runs_it_no_second_time(
    operator: Operator, runtime: str, *, after: bool
) -> None:
    await callable_function(operator, runtime)
    await ended(operator)
    await operator.patch(EXECUTION, "run", {"metadata": {"annotations": {names.ANNOTATION_REPLAY: "1"}}})

    for write in (1, 2):
        operator.crash.at, operator.crash.after, operator.crash.seen = write, after, 0
        with suppress(CrashError):
            await operator.run(Controller.EXECUTION, "run")
    operator.crash.at = 0
    await operator.run(Controller.EXECUTION, "run")

    assert len(await others(operator)) == 1
    assert (await operator.status(Controller.EXECUTION, "run"))["replayToken"] == "1"


async def test_a_mirror_is_run_again_when_its_history_is_looked_at(operator: Operator, runtime: str) -> None:
    await callable_function(operator, runtime)
    operator.shim.recent = [call(1)]
    operator.shim.executions["call1"] = call(1)
    await operator.run(Controller.HISTORY, "hello")
    name = (await mirrors(operator))["call1"]["metadata"]["name"]
    await operator.run(Controller.EXECUTION, name)
    await operator.patch(EXECUTION, name, {"metadata": {"annotations": {names.ANNOTATION_REPLAY: "1"}}})
    operator.marks.made.clear()

    await operator.run(Controller.HISTORY, "hello")

    assert (Controller.EXECUTION, Key(operator.namespace, name)) in operator.marks.made
    await operator.run(Controller.EXECUTION, name)
    (made,) = await others(operator)
    assert made["metadata"]["annotations"] == {names.ANNOTATION_REPLAY_OF: "call1"}
    assert names.LABEL_MIRRORED not in made["metadata"].get("labels", {})
    await at_rest(operator, Controller.EXECUTION, name)
