"""The Deployment of a pool, and the patch that claims one of its pods."""

from typing import Any

import pytest

from appfn.api.base import Json, ObjectMeta
from appfn.api.function import Function
from appfn.api.runtime import Architecture, LoadMode, Runtime, SecurityProfile
from appfn.core.manifests.pool import PoolSettings, claim_patch, pool_deployment
from appfn.core.manifests.runtime_pod import RuntimePodTemplate, template_digest
from appfn.core.pool import fits_pool

SETTINGS = PoolSettings(
    namespace="shop",
    architecture=Architecture.AMD64,
    size=2,
    agent_image="appfn/appfn:0.1.0",
    announce_url="http://appfn-shim.appfn-system.svc",
)
POOL = "appfn-pool-node-20-0-d02d15e5-amd64"
SELECTED = {
    "appfn.dev/component": "runtime",
    "appfn.dev/runtime": "node-20.0",
    "appfn.dev/architecture": "amd64",
    "appfn.dev/pool": POOL,
}


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
        "pool": 2,
    }
    return Runtime.parse({"metadata": {"name": "node-20.0", "uid": "uid-r"}, "spec": {**fields, **spec}})


def a_function(**spec: Any) -> Function:
    return Function.parse(
        {"metadata": {"name": "greet", "namespace": "shop"}, "spec": {"runtime": "node-20.0", **spec}}
    )


def a_pod_spec(**spec: Any) -> Json:
    found: Json = pool_deployment(a_runtime(**spec), SETTINGS)["spec"]["template"]["spec"]
    return found


def test_a_pool_is_a_deployment_of_generic_pods_that_goes_with_its_runtime() -> None:
    pool = pool_deployment(a_runtime(), SETTINGS)

    template = pool["spec"].pop("template")
    assert pool == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": POOL,
            "namespace": "shop",
            "labels": {
                "app.kubernetes.io/managed-by": "appfn",
                "appfn.dev/component": "pool",
                "appfn.dev/runtime": "node-20.0",
                "appfn.dev/architecture": "amd64",
            },
            "ownerReferences": [
                {
                    "apiVersion": "appfn.dev/v1alpha1",
                    "kind": "Runtime",
                    "name": "node-20.0",
                    "uid": "uid-r",
                    "controller": True,
                }
            ],
        },
        "spec": {
            "replicas": 2,
            "revisionHistoryLimit": 0,
            "progressDeadlineSeconds": 300,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "50%", "maxSurge": "50%"}},
            "selector": {"matchLabels": SELECTED},
        },
    }
    assert template["metadata"] == {
        "labels": {"app.kubernetes.io/managed-by": "appfn", **SELECTED},
        "annotations": {"appfn.dev/template": "accd15b1154e37e6"},
    }
    assert template["spec"]["restartPolicy"] == "Always"
    assert template["spec"]["terminationGracePeriodSeconds"] == 1
    assert template["spec"]["nodeSelector"] == {"kubernetes.io/arch": "amd64"}


def test_the_agent_of_a_pools_pod_learns_from_the_shim_which_load_to_take() -> None:
    [_, agent] = a_pod_spec()["containers"]

    assert agent["image"] == "appfn/appfn:0.1.0"
    assert {item["name"]: item.get("value") for item in agent["env"]} == {
        "APPFN_AGENT_PORT": "3001",
        "APPFN_LOAD_MODE": "Import",
        "APPFN_ANNOUNCE_URL": "http://appfn-shim.appfn-system.svc",
        "APPFN_TOKEN_FILE": "/var/run/secrets/appfn/token",
        "APPFN_POOL": "1",
        "APPFN_POD_IP": None,
    }


@pytest.mark.parametrize("profile", SecurityProfile)
def test_only_the_runtimes_own_container_of_a_pool_is_lowered_to_baseline(profile: SecurityProfile) -> None:
    spec = a_pod_spec(securityProfile=profile)

    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    [runtime, agent] = spec["containers"]
    for container in (agent, runtime) if profile is SecurityProfile.RESTRICTED else (agent,):
        assert container["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_claim_takes_a_pod_out_of_its_pool_unless_somebody_was_faster() -> None:
    pod = {"metadata": {"name": "p", "namespace": "shop", "uid": "uid-p", "resourceVersion": "41"}}

    patch = claim_patch(
        pod=pod,
        function="greet",
        deployment=ObjectMeta(name="greet-1", namespace="shop", uid="uid-1"),
        shim="appfn-shim-0",
    )

    assert patch == {
        "metadata": {
            "resourceVersion": "41",
            "labels": {
                "appfn.dev/pool": None,
                "pod-template-hash": None,
                "appfn.dev/function": "greet",
                "appfn.dev/deployment": "greet-1",
                "appfn.dev/shim": "appfn-shim-0",
            },
            "ownerReferences": [
                {
                    "apiVersion": "appfn.dev/v1alpha1",
                    "kind": "Deployment",
                    "name": "greet-1",
                    "uid": "uid-1",
                    "controller": True,
                }
            ],
        }
    }


def test_a_claimed_pod_has_the_labels_of_one_made_for_the_function() -> None:
    pod = {"metadata": {"name": "p", "namespace": "shop", "resourceVersion": "41"}}
    patch = claim_patch(pod=pod, function="greet", deployment=ObjectMeta(name="greet-1"), shim="appfn-shim-0")

    before = {"app.kubernetes.io/managed-by": "appfn", **SELECTED, "pod-template-hash": "x"}
    after = {name: value for name, value in (before | patch["metadata"]["labels"]).items() if value is not None}

    assert after == {
        "app.kubernetes.io/managed-by": "appfn",
        "appfn.dev/component": "runtime",
        "appfn.dev/runtime": "node-20.0",
        "appfn.dev/architecture": "amd64",
        "appfn.dev/function": "greet",
        "appfn.dev/deployment": "greet-1",
        "appfn.dev/shim": "appfn-shim-0",
    }


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({}, True),
        ({"timeout": 900, "variables": [{"name": "A", "value": "b"}], "scaling": {"minReplicas": 3}}, True),
        ({"nodeSelector": {}, "tolerations": []}, True),
        ({"resources": {"limits": {"memory": "1Gi"}}}, False),
        ({"nodeSelector": {"disk": "fast"}}, False),
        ({"tolerations": [{"operator": "Exists"}]}, False),
        ({"runtimeClassName": "gvisor"}, False),
    ],
)
def test_a_function_that_asks_for_a_pod_of_another_kind_fits_no_pool(spec: Json, fits: bool) -> None:  # noqa: FBT001 - a table's column
    assert fits_pool(a_function(**spec)) is fits


def test_a_function_that_fits_has_the_template_of_its_runtimes_pool() -> None:
    function = RuntimePodTemplate.of(a_function(timeout=900), a_runtime())

    annotations = pool_deployment(a_runtime(), SETTINGS)["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"appfn.dev/template": template_digest(function, Architecture.AMD64)}


@pytest.mark.parametrize(
    ("change", "equal"),
    [
        ({"pool": 9, "enabled": True, "concurrency": 4}, True),
        ({"images": [{"architecture": "amd64", "image": "appfn/runtime-node:20.1"}]}, False),
        ({"startCommand": "/other.sh"}, False),
        ({"loadMode": LoadMode.EXEC}, False),
        ({"securityProfile": SecurityProfile.BASELINE}, False),
        ({"resources": {}}, False),
    ],
)
def test_only_what_a_function_would_notice_makes_a_pools_pod_another(change: Json, equal: bool) -> None:  # noqa: FBT001 - a table's column
    digests = {
        template_digest(RuntimePodTemplate.of_pool("shop", runtime), Architecture.AMD64)
        for runtime in (a_runtime(), a_runtime(**change))
    }

    assert (len(digests) == 1) is equal
