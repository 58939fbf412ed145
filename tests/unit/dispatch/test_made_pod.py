"""A pod made for a call: one container without volumes where the image brings the agent, else two."""

import base64
import subprocess
from typing import Any

import pytest

from appfn import names
from appfn.api.base import Json, ObjectMeta
from appfn.api.runtime import Architecture, LoadMode, SecurityProfile
from appfn.core.manifests.made_pod import announce_secret, is_one_container
from appfn.core.manifests.pool import PoolSettings, pool_deployment
from appfn.core.manifests.runtime_pod import RuntimePodTemplate
from unit.dispatch.test_runtime_pod import a_function, a_pod, a_runtime

AGENT = {"agentCommand": "/agent.sh"}


def one_container(**spec: Any) -> Json:
    [container] = a_pod(runtime=a_runtime(**AGENT, **spec))["spec"]["containers"]
    found: Json = container
    return found


@pytest.mark.parametrize(
    ("spec", "containers"),
    [
        ({"loadMode": LoadMode.IMPORT, **AGENT}, ["runtime"]),
        ({"loadMode": LoadMode.IMPORT, **AGENT, "securityProfile": SecurityProfile.BASELINE}, ["runtime"]),
        ({"loadMode": LoadMode.IMPORT}, ["runtime", "agent"]),
        ({"loadMode": LoadMode.IMPORT, "agentCommand": ""}, ["runtime", "agent"]),
        ({"loadMode": LoadMode.EXEC}, ["runtime", "agent"]),
        ({"loadMode": LoadMode.EXEC, **AGENT}, ["runtime", "agent"]),
    ],
)
def test_a_pod_is_one_container_without_volumes_where_the_image_brings_the_agent(
    spec: dict[str, Any], containers: list[str]
) -> None:
    runtime = a_runtime(**spec)
    pod = a_pod(runtime=runtime)["spec"]

    assert [container["name"] for container in pod["containers"]] == containers
    alone = containers == ["runtime"]
    assert ("volumes" not in pod) is alone
    assert all(("volumeMounts" not in container) is alone for container in pod["containers"])
    assert is_one_container(RuntimePodTemplate.of(a_function(), runtime)) is alone


def test_the_one_container_knows_whose_it_is_and_has_its_deployments_token_from_a_secret() -> None:
    container = one_container()

    assert container["image"] == "appfn/runtime-node:20.0"
    assert container["env"] == [
        {"name": "APPFN_AGENT_PORT", "value": "3001"},
        {"name": "APPFN_LOAD_MODE", "value": "Import"},
        {"name": "APPFN_ANNOUNCE_URL", "value": "http://10.0.0.7:8080"},
        {"name": "APPFN_ANNOUNCE_AS", "value": "shop/greet-1/greet-1-abc"},
        {"name": "APPFN_LOAD_TOKEN_SHA256", "value": "aa"},
        {"name": "APPFN_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {
            "name": "APPFN_ANNOUNCE_TOKEN",
            "valueFrom": {"secretKeyRef": {"name": "greet-1-announce-uid-1", "key": "token"}},
        },
    ]


def test_the_one_container_is_ready_while_its_agent_would_take_a_load() -> None:
    container = one_container()

    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": 3001}
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"runtime": 3000, "agent": 3001}


@pytest.mark.parametrize(
    "agent",
    [
        pytest.param("env | sed s/^/agent:/", id="one command"),
        pytest.param("env | sed s/^/agent:/\n", id="a line, as YAML's blocks end in"),
        pytest.param("cd /; env | sed s/^/agent:/ # the agent", id="several, and a comment"),
    ],
)
def test_user_code_inherits_nothing_of_what_the_agent_is_told(agent: str) -> None:
    runtime = a_runtime(agentCommand=agent, startCommand="env")
    [container] = a_pod(runtime=runtime)["spec"]["containers"]
    told = {variable["name"]: "secret" for variable in container["env"]}

    command, given = container["command"], {"PATH": "/usr/bin:/bin", "HOME": "/tmp", **told}
    lines = subprocess.run(command, env=given, capture_output=True, text=True, check=True).stdout.splitlines()

    assert {f"agent:{name}=secret" for name in told} <= set(lines)
    assert "HOME=/tmp" in lines
    assert [line for line in lines if line.startswith("APPFN_")] == []


def test_the_server_is_the_first_process_of_the_one_container() -> None:
    assert one_container()["command"][-1].endswith("; exec /start.sh")


@pytest.mark.parametrize("profile", SecurityProfile)
def test_the_one_container_writes_to_its_root_and_is_restricted_as_ever(profile: SecurityProfile) -> None:
    pod = a_pod(runtime=a_runtime(**AGENT, securityProfile=profile))["spec"]
    security = pod["containers"][0]["securityContext"]

    assert not security.get("readOnlyRootFilesystem")
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"]["drop"] == ["ALL"]
    assert security.get("runAsNonRoot", False) is (profile is SecurityProfile.RESTRICTED)
    assert pod["automountServiceAccountToken"] is False
    assert pod["restartPolicy"] == "Never"


@pytest.mark.parametrize(
    ("resources", "requests", "limits"),
    [
        ({}, "16Mi", "1280Mi"),
        ({"limits": {"memory": "1Gi"}, "requests": {"cpu": "1"}}, "16Mi", "1280Mi"),
        ({"limits": {"ephemeral-storage": "4Gi"}}, None, "4Gi"),
        ({"requests": {"ephemeral-storage": "100Mi"}}, "100Mi", "1280Mi"),
        ({"requests": {"ephemeral-storage": "2Gi"}}, "2Gi", "2Gi"),
        ({"requests": {"ephemeral-storage": "1Gi"}, "limits": {"ephemeral-storage": "4Gi"}}, "1Gi", "4Gi"),
    ],
)
def test_what_the_one_container_writes_is_bounded_unless_its_resources_say_how(
    resources: Json, requests: str | None, limits: str | None
) -> None:
    found = one_container(resources=resources)["resources"]

    assert found["requests"].get("ephemeral-storage") == requests
    assert found["limits"].get("ephemeral-storage") == limits
    for part in ("requests", "limits"):
        assert {name: value for name, value in found[part].items() if name != "ephemeral-storage"} == {
            name: value for name, value in resources.get(part, {}).items() if name != "ephemeral-storage"
        }


@pytest.mark.parametrize("spec", [{}, AGENT])
def test_a_pod_of_a_pool_has_two_containers_and_stands_in_for_one_that_is_made(spec: Json) -> None:
    settings = PoolSettings(
        namespace="shop",
        architecture=Architecture.AMD64,
        size=2,
        agent_image="appfn/appfn:0.1.0",
        announce_url="http://shim",
    )
    pooled = pool_deployment(a_runtime(**spec), settings)["spec"]["template"]

    assert [container["name"] for container in pooled["spec"]["containers"]] == ["runtime", "agent"]
    assert pooled["metadata"]["annotations"] == a_pod(runtime=a_runtime(**spec))["metadata"]["annotations"]
    assert pooled == pool_deployment(a_runtime(), settings)["spec"]["template"]


def test_the_secret_goes_with_its_deployment() -> None:
    template = RuntimePodTemplate.of(a_function(), a_runtime(**AGENT))
    secret = announce_secret(template, ObjectMeta(name="greet-1", namespace="shop", uid="uid-1"), token="t")

    assert secret["metadata"] == {
        "name": "greet-1-announce-uid-1",
        "namespace": "shop",
        "labels": {
            names.MANAGED_BY: "appfn",
            names.LABEL_COMPONENT: "runtime",
            names.LABEL_FUNCTION: "greet",
            names.LABEL_DEPLOYMENT: "greet-1",
        },
        "ownerReferences": [
            {
                "apiVersion": "appfn.dev/v1alpha1",
                "kind": "Deployment",
                "name": "greet-1",
                "uid": "uid-1",
                "controller": True,
            },
        ],
    }
    assert {name: base64.b64decode(value) for name, value in secret["data"].items()} == {"token": b"t"}
