"""A schedule is a CronJob whose every tick is one execution."""

import json
from collections.abc import Callable

import pytest

from support.appwrite import Appwrite
from support.kubectl import Json, Kubectl, KubectlError, condition
from support.polling import wait_for

CODE = "def main(req, res):\n    return res.json(dict(req.variables))\n"


@pytest.fixture(scope="module")
def ticking(deploy: Callable[..., Json]) -> str:
    deploy("ticking", {"main.py": CODE}, schedule="* * * * *", timeZone="Europe/Berlin")
    return "ticking"


def scheduled(api: Appwrite, name: str) -> list[Json]:
    answer = api.call("GET", f"/v1/functions/{name}/executions", X_Appwrite_Response_Format="1.0.0")
    assert answer.status == 200, answer
    return [item for item in answer.body["executions"] if item["trigger"] == "schedule"]


def test_a_tick_runs_the_function_once(ticking: str, api: Appwrite, project: Kubectl) -> None:
    def ran() -> Json | None:
        return next((item for item in scheduled(api, ticking) if item["status"] == "completed"), None)

    done = wait_for(ran, within=100)

    assert json.loads(done["response"])["APPWRITE_FUNCTION_TRIGGER"] == "schedule"
    ticks = [job["metadata"]["name"] for job in project.list("jobs", "-l", f"appfn.dev/function={ticking}")]
    runs = [name for name in ticks if "schedule" in name]
    assert len(runs) == len(set(runs))


def test_next_and_previous_tick_are_shown(ticking: str, project: Kubectl) -> None:
    def accounted() -> Json | None:
        status: Json = project.get("fn", ticking)["status"]
        return status if "schedulePrevious" in status else None

    status = wait_for(accounted, within=180)

    assert status["scheduleNext"] > status["schedulePrevious"]
    assert status.get("missedTicks", 0) == 0


def test_changing_and_removing_the_schedule_follows_in_the_cron_job(ticking: str, project: Kubectl) -> None:
    project("patch", "fn", ticking, "--type=merge", "-p", '{"spec":{"schedule":"0 5 * * *"}}')

    def changed() -> bool:
        return [job["spec"]["schedule"] for job in cron_jobs(project, ticking)] == ["0 5 * * *"]

    assert wait_for(changed, within=20)

    project("patch", "fn", ticking, "--type=merge", "-p", '{"spec":{"schedule":""}}')
    assert wait_for(lambda: not cron_jobs(project, ticking), within=20)


def test_a_schedule_that_is_no_cron_expression_is_named(project: Kubectl) -> None:
    body = {"runtime": "python-3.13", "schedule": "61 * * * *"}
    manifest = {
        "apiVersion": "appfn.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": "badly-timed"},
        "spec": body,
    }
    try:
        project.apply(manifest)
    except KubectlError as error:
        assert "spec.schedule" in str(error)  # noqa: PT017 - either the schema or the operator refuses
        return
    refused = project.wait_condition("fn", "badly-timed", "Scheduled=False", within=20)
    assert "spec.schedule" in condition(refused, "Scheduled")["message"]


def cron_jobs(project: Kubectl, name: str) -> list[Json]:
    return project.list("cronjobs", "-l", f"appfn.dev/function={name}")
