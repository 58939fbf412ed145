"""The Job of a build and the CronJob of a schedule: what users' specs become, and what they can't."""

import json
import re
from typing import Any

import pytest

from appfn.api.base import Json
from appfn.api.deployment import Deployment
from appfn.api.function import Function
from appfn.api.runtime import Architecture, Runtime, SecurityProfile
from appfn.core import build_key
from appfn.core.manifests.build_job import BuildRequest, build_job, salt_of
from appfn.core.manifests.cron_job import cron_job, keeps_time
from appfn.core.manifests.drift import contains
from appfn.core.manifests.pod import container_security, literal
from appfn.core.schedule import parse_schedule
from support.objects import SETTINGS, deployment, function, runtime

AMD64 = Architecture.AMD64


def made(item: Deployment | None = None, of: Function | None = None, using: Runtime | None = None) -> Json:
    source = {"artifact": {"digest": "sha256:1"}}
    request = BuildRequest(
        deployment=item or deployment(),
        function=of or function(),
        runtime=using or runtime(),
        architecture=AMD64,
        image="runtime-node:20.0",
        attempt=1,
        source=source,
    )
    return build_job(request, SETTINGS)


def pod_of(job: Json) -> Json:
    spec: Json = job["spec"]["template"]["spec"]
    return spec


def steps(job: Json) -> dict[str, Json]:
    spec = pod_of(job)
    return {item["name"]: item for item in spec["containers"]}


def environment(container: Json) -> dict[str, Any]:
    """Return the environment as the container sees it: `$$` is `$`."""
    return {
        entry["name"]: entry["value"].replace("$$", "$") if "value" in entry else entry["valueFrom"]
        for entry in container["env"]
    }


def test_a_build_runs_agent_and_command_at_once_and_once_on_a_node_of_its_architecture() -> None:
    job = made()

    assert list(steps(job)) == ["agent", "build"]
    assert "initContainers" not in pod_of(job)
    assert job["metadata"]["name"] == "hello-v1-build-amd64-1"
    assert job["metadata"]["ownerReferences"][0] | {"controller": True} == job["metadata"]["ownerReferences"][0]
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] == 960
    assert pod_of(job)["restartPolicy"] == "Never"
    assert pod_of(job)["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    assert "ttlSecondsAfterFinished" not in job["spec"]


def test_labels_lead_from_the_pod_to_function_and_deployment() -> None:
    job = made()

    assert job["metadata"]["labels"] == job["spec"]["template"]["metadata"]["labels"]
    assert job["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "appfn",
        "appfn.dev/component": "build",
        "appfn.dev/function": "hello",
        "appfn.dev/deployment": "hello-v1",
        "appfn.dev/architecture": "amd64",
    }


def test_only_the_agents_container_can_read_the_token() -> None:
    git = deployment(source={"git": {"url": "https://x", "secretRef": {"name": "key"}}})
    mounts = {name: {mount["name"] for mount in step["volumeMounts"]} for name, step in steps(made(git)).items()}

    assert pod_of(made(git))["automountServiceAccountToken"] is False
    assert {name for name, found in mounts.items() if "token" in found} == {"agent"}
    assert {name for name, found in mounts.items() if "git" in found} == {"agent"}


def test_the_containers_of_a_build_see_no_processes_of_each_other() -> None:
    assert not {"shareProcessNamespace", "hostPID", "hostIPC"} & pod_of(made()).keys()


def test_every_container_is_restricted() -> None:
    for step in steps(made()).values():
        security = step["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert step["resources"]["limits"].keys() >= {"cpu", "memory"}


def test_a_baseline_runtime_lowers_its_own_container_alone() -> None:
    found = steps(made(using=runtime(securityProfile="baseline", loadMode="Exec")))

    assert found["build"]["securityContext"] == container_security(SecurityProfile.BASELINE)
    assert "runAsNonRoot" not in found["build"]["securityContext"]
    assert found["agent"]["securityContext"] == container_security()


def test_an_exec_build_sees_its_code_where_the_image_looks_for_it() -> None:
    build = steps(made(using=runtime(loadMode="Exec")))["build"]
    paths = {(mount["mountPath"], mount.get("subPath")) for mount in build["volumeMounts"]}

    assert {("/appfn", None), ("/tmp", "tmp"), ("/usr/code", "code")} <= paths
    assert environment(build)["APPFN_BUILD_FOLDER"] == "."


def test_an_import_build_runs_in_the_code_folder_which_the_agent_puts_there_meanwhile() -> None:
    build = steps(made())["build"]

    assert environment(build)["APPFN_BUILD_FOLDER"] == "/appfn/code"
    assert "workingDir" not in build


def test_the_function_cannot_choose_architecture_identity_or_our_variables() -> None:
    hostile = function(
        nodeSelector={"kubernetes.io/arch": "arm64", "disk": "ssd"},
        variables=[
            {"name": "APPFN_BUILD_COMMAND", "value": "x"},
            {"name": "APPFN_BUILD_FOLDER", "value": "/"},
            {"name": "INTERNAL_RUNTIME_ENTRYPOINT", "value": "x"},
        ],
    )

    job = made(of=hostile)

    assert pod_of(job)["nodeSelector"] == {"kubernetes.io/arch": "amd64", "disk": "ssd"}
    assert pod_of(job)["serviceAccountName"] == "appfn-build"
    entries = [entry["name"] for entry in steps(job)["build"]["env"]]
    assert len(entries) == len(set(entries))
    assert environment(steps(job)["build"])["APPFN_BUILD_COMMAND"] == "build.sh"


def test_variables_reach_the_build_as_they_are_and_the_agent_not_at_all() -> None:
    reference = {"secretKeyRef": {"name": "db", "key": "password", "optional": False}}
    spec = [
        {"name": "PLAIN", "value": "a$(HOME)b$$c$"},
        {"name": "SECRET", "valueFrom": reference},
        {"name": "HOME", "value": "/x"},
    ]

    found = steps(made(of=function(variables=spec)))

    seen = environment(found["build"])
    assert (seen["PLAIN"], seen["SECRET"], seen["HOME"]) == ("a$(HOME)b$$c$", reference, "/x")
    assert not {"PLAIN", "SECRET"} & set(environment(found["agent"]))


@pytest.mark.parametrize("value", ["", "$", "$$", "$(X)", "$$(X)", "a$(X", "$$$"])
def test_a_literal_is_what_kubernetes_expands_back(value: str) -> None:
    assert expand(literal(value)) == value


def expand(text: str) -> str:
    """Expand as Kubernetes does (third_party/forked/golang/expansion), with every variable defined as WRONG."""
    return re.sub(r"\$(\$|\([^)]*\))?", lambda match: {"$": "$", None: "$"}.get(match[1], "WRONG"), text)


def test_the_agent_knows_whether_commands_may_make_the_entrypoint() -> None:
    assert environment(steps(made())["agent"])["APPFN_COMMANDS"] == ""
    assert environment(steps(made(deployment(commands="npx tsc")))["agent"])["APPFN_COMMANDS"] == "npx tsc"


def test_the_salt_is_read_back_from_the_job() -> None:
    item = deployment(commands="echo $(date) $$")

    assert salt_of(made(item)) == build_key.salt(item, function(), runtime(), AMD64)


def ticking(of: Function | None = None) -> Json:
    return cron_job(
        of or function(schedule="*/5 * * * *"), parse_schedule("*/5 * * * *", "Europe/Berlin"), image="i", shim_url="u"
    )


def test_a_cron_job_ticks_in_the_zone_and_catches_up_once() -> None:
    spec = ticking()["spec"]

    assert (spec["schedule"], spec["timeZone"], spec["suspend"]) == (
        "0,5,10,15,20,25,30,35,40,45,50,55 * * * *",
        "Europe/Berlin",
        False,
    )
    assert spec["startingDeadlineSeconds"] == 200
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (1, 1)


def test_a_disabled_function_suspends_its_cron_job() -> None:
    assert ticking(function(schedule="*/5 * * * *", enabled=False))["spec"]["suspend"] is True


def test_a_tick_knows_its_function_and_the_name_of_its_job() -> None:
    pod = ticking()["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    container = pod["containers"][0]

    assert container["command"] == ["python", "-m", "appfn", "trigger"]
    assert environment(container)["APPFN_FUNCTION"] == "hello"
    assert environment(container)["APPFN_JOB_NAME"] == {
        "fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}
    }
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("appfn-trigger", False)
    assert container["securityContext"] == container_security()


def test_a_change_of_the_time_is_told_from_a_change_of_the_pod() -> None:
    existing = ticking()
    other_image = json.loads(json.dumps(existing).replace('"image": "i"', '"image": "j"'))

    assert keeps_time(existing, other_image)
    assert not keeps_time(existing | {"spec": {**existing["spec"], "timeZone": "Etc/UTC"}}, existing)


@pytest.mark.parametrize(
    ("body", "manifest", "same"),
    [
        ({"a": 1, "added": 2}, {"a": 1}, True),
        ({"a": 2}, {"a": 1}, False),
        ({}, {"a": 1}, False),
        ({}, {"a": [], "b": {}, "c": "", "d": None}, True),
        ({"a": [{"x": 1, "y": 2}]}, {"a": [{"x": 1}]}, True),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": "text"}, {"a": {"b": 1}}, False),
        ({"a": False}, {"a": False}, True),
        ({}, {"a": False}, False),
        ({"a": "set"}, {"a": ""}, False),
    ],
)
def test_an_object_is_as_it_should_be_when_it_has_all_that_the_manifest_says(
    body: Json, manifest: Json, *, same: bool
) -> None:
    assert contains(body, manifest) is same
