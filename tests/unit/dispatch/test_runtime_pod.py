from typing import Any

import pytest

from appfn import names
from appfn.api.base import Json, ObjectMeta
from appfn.api.function import Function
from appfn.api.runtime import Architecture, LoadMode, Runtime, SecurityProfile
from appfn.core.manifests.made_pod import PodIdentity, runtime_pod
from appfn.core.manifests.runtime_pod import RuntimePodTemplate


def a_function(**spec: Any) -> Function:
    return Function.parse(
        {"metadata": {"name": "greet", "namespace": "shop"}, "spec": {"runtime": "node-20.0", **spec}}
    )


def a_runtime(**spec: Any) -> Runtime:
    fields = {
        "language": "node",
        "version": "20.0",
        "displayName": "Node.js",
        "images": [{"architecture": "amd64", "image": "appfn/runtime-node:20.0"}],
        "buildCommand": "build",
        "startCommand": "/start.sh",
        "loadMode": LoadMode.IMPORT,
        "resources": {"limits": {"memory": "256Mi"}},
    }
    return Runtime.parse({"metadata": {"name": "node-20.0"}, "spec": {**fields, **spec}})


def a_pod(function: Function | None = None, runtime: Runtime | None = None) -> Json:
    identity = PodIdentity(
        name="greet-1-abc",
        deployment=ObjectMeta(name="greet-1", namespace="shop", uid="uid-1"),
        architecture=Architecture.AMD64,
        shim="appfn-shim-0",
        agent_image="appfn/appfn:0.1.0",
        announce_url="http://10.0.0.7:8080",
        load_token_hash="aa",
    )
    return runtime_pod(RuntimePodTemplate.of(function or a_function(), runtime or a_runtime()), identity)


def test_a_pod_is_found_by_what_it_runs_and_goes_with_its_deployment() -> None:
    metadata = a_pod()["metadata"]
    assert metadata["labels"] == {
        names.MANAGED_BY: "appfn",
        names.LABEL_COMPONENT: "runtime",
        names.LABEL_FUNCTION: "greet",
        names.LABEL_DEPLOYMENT: "greet-1",
        names.LABEL_ARCHITECTURE: "amd64",
        names.LABEL_RUNTIME: "node-20.0",
        names.LABEL_SHIM: "appfn-shim-0",
    }
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "appfn.dev/v1alpha1",
            "kind": "Deployment",
            "name": "greet-1",
            "uid": "uid-1",
            "controller": True,
        },
    ]


def test_a_pod_has_no_right_in_the_cluster_and_no_second_life() -> None:
    spec = a_pod()["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["serviceAccountName"] == "appfn-runtime"
    assert spec["restartPolicy"] == "Never"
    assert spec["terminationGracePeriodSeconds"] == 1


def test_the_agent_starts_beside_the_runtime_and_knows_only_a_hash() -> None:
    assert "initContainers" not in a_pod()["spec"]
    [_, agent] = a_pod()["spec"]["containers"]
    assert agent["env"] == [
        {"name": "APPFN_AGENT_PORT", "value": "3001"},
        {"name": "APPFN_LOAD_MODE", "value": "Import"},
        {"name": "APPFN_ANNOUNCE_URL", "value": "http://10.0.0.7:8080"},
        {"name": "APPFN_TOKEN_FILE", "value": "/var/run/secrets/appfn/token"},
        {"name": "APPFN_LOAD_TOKEN_SHA256", "value": "aa"},
        {"name": "APPFN_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]


def test_a_pod_is_ready_while_its_agent_would_take_a_load() -> None:
    [_, agent] = a_pod()["spec"]["containers"]
    assert agent["readinessProbe"] == {
        "httpGet": {"path": "/readyz", "port": 3001},
        "periodSeconds": 1,
        "failureThreshold": 1,
    }


@pytest.mark.parametrize("mode", LoadMode)
def test_the_agent_alone_holds_the_pods_token_which_is_of_no_use_at_the_api_server(mode: LoadMode) -> None:
    spec = a_pod(runtime=a_runtime(loadMode=mode))["spec"]
    [token] = [volume for volume in spec["volumes"] if "emptyDir" not in volume]
    [source] = token["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "appfn"

    def mounted(container: Json) -> bool:
        return any(mount["name"] == token["name"] for mount in container["volumeMounts"])

    assert {container["name"]: mounted(container) for container in spec["containers"]} == {
        "agent": True,
        "runtime": False,
    }


def test_an_importing_runtime_sees_its_code_read_only_and_has_scratch_space() -> None:
    [runtime, _] = a_pod()["spec"]["containers"]
    assert runtime["command"] == ["sh", "-c", "exec /start.sh"]
    assert runtime["securityContext"]["readOnlyRootFilesystem"] is True
    assert runtime["volumeMounts"] == [
        {"name": "shared", "mountPath": "/appfn", "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    assert "env" not in runtime


def test_an_executing_runtime_waits_for_the_signal_and_finds_the_tarball_in_tmp() -> None:
    spec = a_pod(runtime=a_runtime(loadMode=LoadMode.EXEC))["spec"]
    [runtime, _] = spec["containers"]
    assert runtime["command"] == [
        "sh",
        "-c",
        "until [ -p /appfn/start ]; do sleep 0.01; done; . /appfn/start && exec /start.sh",
    ]
    assert runtime["volumeMounts"] == [
        {"name": "shared", "mountPath": "/appfn", "readOnly": True},
        {"name": "shared", "mountPath": "/tmp", "subPath": "tmp"},
    ]
    assert [volume["name"] for volume in spec["volumes"]] == ["shared", "token"]


@pytest.mark.parametrize("profile", SecurityProfile)
def test_only_the_runtimes_own_container_is_lowered_to_baseline(profile: SecurityProfile) -> None:
    spec = a_pod(runtime=a_runtime(securityProfile=profile))["spec"]
    assert spec["containers"][1]["securityContext"]["runAsNonRoot"] is True
    runtime = spec["containers"][0]["securityContext"]
    assert runtime.get("runAsNonRoot", False) is (profile is SecurityProfile.RESTRICTED)


def test_a_functions_wishes_go_before_the_runtimes() -> None:
    function = a_function(
        resources={"limits": {"memory": "1Gi"}},
        nodeSelector={"disk": "fast", "kubernetes.io/arch": "arm64"},
        tolerations=[{"key": "gpu", "operator": "Exists"}],
        runtimeClassName="gvisor",
    )
    spec = a_pod(function)["spec"]
    assert spec["containers"][0]["resources"] == {"requests": {}, "limits": {"memory": "1Gi"}}
    assert spec["nodeSelector"] == {"disk": "fast", "kubernetes.io/arch": "amd64"}
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert spec["runtimeClassName"] == "gvisor"
    assert a_pod()["spec"]["containers"][0]["resources"]["limits"] == {"memory": "256Mi"}
    assert "runtimeClassName" not in a_pod()["spec"]


@pytest.mark.parametrize(
    ("change", "equal"),
    [
        ({"timeout": 900, "schedule": "* * * * *", "scaling": {"minReplicas": 3}}, True),
        ({"variables": [{"name": "A", "value": "b"}]}, True),
        ({"resources": {"limits": {"memory": "1Gi"}}}, False),
        ({"nodeSelector": {"a": "b"}}, False),
        ({"runtimeClassName": "gvisor"}, False),
    ],
)
def test_only_what_shows_in_the_pod_makes_its_template_another(change: dict[str, Any], equal: bool) -> None:  # noqa: FBT001 - a table's column
    same = RuntimePodTemplate.of(a_function(**change), a_runtime()) == RuntimePodTemplate.of(a_function(), a_runtime())
    assert same is equal
