"""The pods appfn itself runs as: restricted, bounded, probed."""

from typing import Any

import pytest

Json = dict[str, Any]

RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


@pytest.fixture(scope="session", params=["appfn-operator", "appfn-shim"])
def pod(request: pytest.FixtureRequest, everything: list[Json]) -> Json:
    workload = next(
        item for item in everything if item["metadata"]["name"] == request.param and "template" in item.get("spec", {})
    )
    spec: Json = workload["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="session")
def container(pod: Json) -> Json:
    (only,) = pod["containers"]
    found: Json = only
    return found


def test_a_pod_is_of_the_restricted_profile(pod: Json, container: Json) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
    assert {kind for volume in pod["volumes"] for kind in volume.keys() - {"name"}} <= RESTRICTED_VOLUMES


def test_a_pod_can_write_to_its_volumes_only(pod: Json, container: Json) -> None:
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert all(volume["emptyDir"].get("sizeLimit") for volume in pod["volumes"] if "emptyDir" in volume)


def test_a_pod_runs_as_the_user_of_the_image(pod: Json) -> None:
    context = pod["securityContext"]

    assert {context["runAsUser"], context["runAsGroup"], context["fsGroup"]} == {65532}


def test_a_pod_has_limits(container: Json) -> None:
    wanted = {"cpu", "memory", "ephemeral-storage"}

    assert container["resources"]["requests"].keys() == wanted
    assert container["resources"]["limits"].keys() == wanted


def test_a_pod_is_probed(container: Json) -> None:
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_the_image_and_what_is_put_into_the_pods_of_projects_are_the_same(container: Json) -> None:
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}

    assert environment["APPFN_IMAGE"] == container["image"]


def test_a_shim_has_time_to_drain(everything: list[Json]) -> None:
    shim = next(item for item in everything if item["kind"] == "StatefulSet")

    pod = shim["spec"]["template"]["spec"]
    sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= sleep + 30 + 10  # the drain, and writing the last records


def test_the_operators_token_for_the_shim_is_of_no_use_at_the_api_server(everything: list[Json]) -> None:
    operator = next(item for item in everything if item["kind"] == "Deployment" and item["apiVersion"] == "apps/v1")
    volume = next(item for item in operator["spec"]["template"]["spec"]["volumes"] if item["name"] == "token")
    (source,) = volume["projected"]["sources"]

    assert source["serviceAccountToken"]["audience"] == "appfn"


def test_namespaces_enforce_the_restricted_profile(everything: list[Json]) -> None:
    namespaces = [item["metadata"]["labels"] for item in everything if item["kind"] == "Namespace"]

    assert len(namespaces) == 2
    assert all(labels["pod-security.kubernetes.io/enforce"] == "restricted" for labels in namespaces)


def test_no_service_account_mounts_its_token_unasked(everything: list[Json]) -> None:
    accounts = [item for item in everything if item["kind"] == "ServiceAccount"]

    assert {item["metadata"]["name"] for item in accounts} == {
        "appfn-operator",
        "appfn-shim",
        "appfn-build",
        "appfn-trigger",
        "appfn-runtime",
    }
    assert all(item["automountServiceAccountToken"] is False for item in accounts)
