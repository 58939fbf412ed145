"""What functions do, and what their callers see of it."""

import json
from collections.abc import Callable

import pytest

from support.appwrite import Appwrite
from support.e2e import finished, make_key
from support.kubectl import Json, Kubectl
from support.polling import wait_for
from support.shim import ShimDoor

BEHAVIOURS = """
import json
import os
import sys
import time


def main(req, res):
    do = json.loads(req.payload or "{}")
    if "print" in do:
        print(do["print"])
        print(do["print"].upper(), file=sys.stderr)
    if do.get("throw"):
        raise RuntimeError(do["throw"])
    if do.get("hang"):
        time.sleep(60)
    if do.get("exit"):
        os._exit(3)
    if "bytes" in do:
        return res.send("x" * do["bytes"])
    if do.get("variables"):
        return res.json(dict(req.variables))
    return res.send(do.get("say", "ok"), do.get("status", 200))
"""


@pytest.fixture(scope="module")
def behaviours(project: Kubectl, deploy: Callable[..., Json]) -> str:
    project.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "credentials"}, "stringData": {"token": "s3cr3t"}}
    )
    variables = [
        {"name": "GREETING", "value": "hello"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "credentials", "key": "token"}}},
    ]
    deploy("behaviours", {"main.py": BEHAVIOURS}, timeout=2, variables=variables, displayName="Behaviours")
    return "behaviours"


def ask(api: Appwrite, function: str, **do: object) -> Json:
    answer = api.execute(function, data=json.dumps(do))
    assert answer.status == 201, answer
    return answer.body


def test_output_of_a_function_is_kept_with_its_execution(api: Appwrite, behaviours: str) -> None:
    done = ask(api, behaviours, print="hear me", say="said")

    assert done["status"] == "completed"
    assert done["response"] == "said"
    assert done["stdout"].strip() == "hear me"
    assert done["stderr"].strip() == "HEAR ME"


def test_a_function_that_throws_fails_with_its_trace(api: Appwrite, behaviours: str) -> None:
    done = ask(api, behaviours, throw="on purpose")

    assert done["status"] == "failed"
    assert done["statusCode"] == 500
    assert done["response"] == ""
    assert "on purpose" in done["stderr"]


def test_a_function_that_hangs_is_killed_at_its_timeout(api: Appwrite, behaviours: str, project: Kubectl) -> None:
    assert ask(api, behaviours)["status"] == "completed"
    before = {pod["metadata"]["name"] for pod in runtime_pods(project, behaviours)}

    done = ask(api, behaviours, hang=True)

    assert done["status"] == "failed"
    assert done["statusCode"] == 500
    assert done["stderr"].endswith("Operation timed out")
    wait_for(
        lambda: before != {pod["metadata"]["name"] for pod in runtime_pods(project, behaviours)},
        within=30,
    )
    assert ask(api, behaviours)["status"] == "completed"


def test_a_response_over_one_megabyte_fails_by_name(api: Appwrite, behaviours: str) -> None:
    done = ask(api, behaviours, bytes=2_000_000)

    assert done["status"] == "failed"
    assert done["response"] == ""
    assert "1000000" in done["stderr"].replace(",", "").replace(" ", "").replace("_", "")


def test_a_response_of_just_one_megabyte_is_kept(api: Appwrite, behaviours: str) -> None:
    done = ask(api, behaviours, bytes=1_000_000)

    assert done["status"] == "completed"
    assert len(done["response"]) == 1_000_000


def test_a_function_that_exits_fails_and_the_next_call_works(api: Appwrite, behaviours: str) -> None:
    assert ask(api, behaviours, exit=True)["status"] == "failed"
    assert ask(api, behaviours)["status"] == "completed"


def test_a_status_of_its_own_reaches_the_caller(api: Appwrite, behaviours: str) -> None:
    done = ask(api, behaviours, say="no", status=404)

    assert (done["status"], done["statusCode"], done["response"]) == ("completed", 404, "no")


def test_variables_come_from_the_spec_from_secrets_and_from_appfn(
    api: Appwrite, behaviours: str, project: Kubectl
) -> None:
    seen = json.loads(ask(api, behaviours, variables=True)["response"])

    assert seen["GREETING"] == "hello"
    assert seen["TOKEN"] == "s3cr3t"
    injected = {name: value for name, value in seen.items() if name.startswith("APPWRITE_FUNCTION_")}
    assert injected.pop("APPWRITE_FUNCTION_DATA") == '{"variables": true}'
    assert injected == {
        "APPWRITE_FUNCTION_ID": "behaviours",
        "APPWRITE_FUNCTION_NAME": "Behaviours",
        "APPWRITE_FUNCTION_DEPLOYMENT": "behaviours-v1",
        "APPWRITE_FUNCTION_TRIGGER": "http",
        "APPWRITE_FUNCTION_RUNTIME_NAME": "Python",
        "APPWRITE_FUNCTION_RUNTIME_VERSION": "3.13",
        "APPWRITE_FUNCTION_EVENT": "",
        "APPWRITE_FUNCTION_EVENT_DATA": "",
        "APPWRITE_FUNCTION_PROJECT_ID": project.namespace,
        "APPWRITE_FUNCTION_USER_ID": "",
        "APPWRITE_FUNCTION_JWT": "",
    }


def test_a_workload_calls_with_its_service_account(behaviours: str, project: Kubectl, door: ShimDoor) -> None:
    project("create", "serviceaccount", "caller")
    token = project("create", "token", "caller", "--audience", "appfn").strip()
    stranger = Appwrite(base=door.url, project=project.namespace, key="")
    refused = stranger.execute(behaviours, Authorization=f"Bearer {token}")
    assert refused.status == 401, refused

    project("create", "role", "caller", "--verb=create", "--resource=executions.appfn.dev")
    project("create", "rolebinding", "caller", "--role=caller", f"--serviceaccount={project.namespace}:caller")

    def probe() -> bool:
        return stranger.execute(behaviours, Authorization=f"Bearer {token}").status == 201

    assert wait_for(probe, within=60)


def test_a_key_without_the_scope_is_refused_as_appwrite_does(behaviours: str, project: Kubectl, door: ShimDoor) -> None:
    reader = Appwrite(base=door.url, project=project.namespace, key=make_key(project, "executions.read"))

    refused = reader.execute(behaviours)

    assert refused.status == 401
    assert refused.body["type"] == "general_unauthorized_scope"
    assert "missing scope (execution.write)" in refused.body["message"].replace("executions", "execution")


def test_recent_calls_are_shown_as_resources(api: Appwrite, behaviours: str, project: Kubectl) -> None:
    done = ask(api, behaviours, say="show me")

    def probe() -> Json | None:
        shown = project.list("exec", "-l", "appfn.dev/mirrored")
        # An Execution is created first and given its status then: for a moment there is none.
        return next((item for item in shown if item.get("status", {}).get("executionId") == done["$id"]), None)

    mirrored = wait_for(probe, within=60)
    assert mirrored["status"]["response"] == "show me"


def test_an_asynchronous_call_with_the_same_key_is_the_same_execution(api: Appwrite, behaviours: str) -> None:
    first = api.execute(behaviours, asynchronous=True, Idempotency_Key="once")
    again = api.execute(behaviours, asynchronous=True, Idempotency_Key="once")
    other = api.execute(behaviours, data="{}", asynchronous=True, Idempotency_Key="once")

    assert first.status == again.status == 202
    assert first.body["$id"] == again.body["$id"]
    assert other.status == 422
    assert finished(api, behaviours, first.body["$id"])["status"] == "completed"


def runtime_pods(project: Kubectl, function: str) -> list[Json]:
    pods = project.list("pods", "-l", f"appfn.dev/component=runtime,appfn.dev/function={function}")
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
