"""Who wins where kubectl, GitOps and the API change the same Function: nobody in silence. docs/adr/0016."""

import json
from typing import Any

import pytest

from appfn.api.base import Json
from appfn.api.kinds import FUNCTION, Key
from appfn.kube.client import KubeCluster
from localcluster import binaries
from localcluster.controlplane import ControlPlane
from support.kubectl import Kubectl, KubectlError
from support.polling import eventually
from support.project import ProjectKit
from support.shim_client import Client

SHIP = ("--server-side",)


@pytest.fixture
def kubectl(control_plane: ControlPlane, project: ProjectKit) -> Kubectl:
    return Kubectl(program=str(binaries.kubectl()), kubeconfig=control_plane.kubeconfig, namespace=project.namespace)


def manifest(project: ProjectKit, **spec: Any) -> str:
    metadata = {"name": "ours", "namespace": project.namespace}
    body = {"runtime": project.runtime, "displayName": "Ours", "execute": ["any"], **spec}
    return json.dumps({"apiVersion": "appfn.dev/v1alpha1", "kind": "Function", "metadata": metadata, "spec": body})


async def seen(admin: Client, function: str = "ours", **fields: object) -> Json:
    """Return the model of a function when it has these fields."""

    async def probe() -> Json | None:
        reply = await admin.call("GET", f"/v1/functions/{function}")
        model: Json = reply.body
        return model if reply.status == 200 and fields.items() <= model.items() else None

    return await eventually(probe)


async def spec(cluster: KubeCluster, project: ProjectKit, name: str = "ours") -> Json:
    found = await cluster.get(FUNCTION, Key(project.namespace, name))
    assert found is not None
    fields: Json = found["spec"]
    return fields


@pytest.mark.parametrize(
    ("way", "manager"),
    [pytest.param((), "kubectl apply", id="client-side"), pytest.param(SHIP, "kubectl", id="server-side")],
)
async def test_what_a_manifest_says_is_not_overruled_and_the_client_is_told(
    admin: Client, cluster: KubeCluster, project: ProjectKit, kubectl: Kubectl, way: tuple[str, ...], manager: str
) -> None:
    kubectl("apply", *way, "-f", "-", stdin=manifest(project, timeout=20))
    await seen(admin, timeout=20)
    body = {"name": "Ours", "execute": ["any"], "timeout": 30}

    reply = await admin.call("PUT", "/v1/functions/ours", body)

    assert reply.error == (409, "general_field_managed")
    assert f"spec.timeout is managed by {manager}." in reply.body["message"]
    remedy = f"kubectl annotate functions.appfn.dev -n {project.namespace} ours appfn.dev/api-writes=force"
    assert remedy in reply.body["message"]
    assert (await spec(cluster, project))["timeout"] == 20
    kubectl(*remedy.split()[1:])
    assert (await admin.call("PUT", "/v1/functions/ours", body)).body["timeout"] == 30
    assert (await spec(cluster, project))["timeout"] == 30


@pytest.mark.parametrize("way", [(), SHIP], ids=["client-side", "server-side"])
async def test_what_a_manifest_does_not_say_is_the_apis(
    admin: Client, project: ProjectKit, kubectl: Kubectl, way: tuple[str, ...]
) -> None:
    kubectl("apply", *way, "-f", "-", stdin=manifest(project))
    await seen(admin)

    reply = await admin.call("PUT", "/v1/functions/ours", {"name": "Ours", "execute": ["any"], "timeout": 30})

    assert reply.status == 200, reply
    kubectl("apply", *way, "-f", "-", stdin=manifest(project))
    assert (await seen(admin))["timeout"] == 30, "applied again, the manifest takes nothing back"


async def test_with_the_values_it_has_a_function_may_be_written_by_all(
    admin: Client, cluster: KubeCluster, project: ProjectKit, kubectl: Kubectl
) -> None:
    kubectl("apply", *SHIP, "-f", "-", stdin=manifest(project, timeout=20))
    await seen(admin, timeout=20)

    reply = await admin.call("PUT", "/v1/functions/ours", {"name": "Ours", "execute": ["any"], "timeout": 20})

    assert reply.status == 200, reply
    kubectl("apply", *SHIP, "-f", "-", stdin=manifest(project, timeout=25))  # no conflict: the API owns nothing of it
    assert (await spec(cluster, project))["timeout"] == 25


async def test_a_function_made_by_the_api_is_in_kubectl_and_stays_the_apis(
    admin: Client, project: ProjectKit, kubectl: Kubectl
) -> None:
    body = {"functionId": "Theirs_1", "name": "Theirs", "runtime": project.runtime, "execute": ["any"]}
    assert (await admin.call("POST", "/v1/functions", body)).status == 201

    (found,) = [item for item in kubectl.list("fn") if item["spec"].get("id") == "Theirs_1"]
    assert (found["spec"]["displayName"], found["spec"]["runtime"]) == ("Theirs", project.runtime)
    for timeout in (20, 30, 40):
        reply = await admin.call("PUT", "/v1/functions/Theirs_1", {"name": "Theirs", "timeout": timeout})
        assert (reply.status, reply.body["timeout"]) == (200, timeout)
    (now,) = kubectl.list("fn", f"--field-selector=metadata.name={found['metadata']['name']}", "--show-managed-fields")
    managers = {entry["manager"] for entry in now["metadata"]["managedFields"]}
    assert managers == {"appfn-api"}


async def test_an_edit_by_hand_is_not_taken_back_in_silence(
    admin: Client, project: ProjectKit, kubectl: Kubectl
) -> None:
    body = {"functionId": "ours", "name": "Ours", "runtime": project.runtime}
    assert (await admin.call("POST", "/v1/functions", body)).status == 201
    kubectl("patch", "fn", "ours", "--type=merge", "-p", '{"spec":{"timeout":60}}')  # as `kubectl edit` does
    await seen(admin, timeout=60)

    reply = await admin.call("PUT", "/v1/functions/ours", {"name": "Mine"})

    assert reply.error == (409, "general_field_managed")
    assert "spec.timeout is managed by kubectl-patch" in reply.body["message"]
    reply = await admin.call("PUT", "/v1/functions/ours", {"name": "Mine", "timeout": 60})
    assert (reply.status, reply.body["name"], reply.body["timeout"]) == (200, "Mine", 60)


async def test_what_the_api_set_kubectl_is_told_of(admin: Client, project: ProjectKit, kubectl: Kubectl) -> None:
    body = {"functionId": "ours", "name": "Theirs", "runtime": project.runtime}
    assert (await admin.call("POST", "/v1/functions", body)).status == 201

    with pytest.raises(KubectlError, match=r'conflict with "appfn-api"'):
        kubectl("apply", *SHIP, "-f", "-", stdin=manifest(project))

    kubectl("apply", *SHIP, "--force-conflicts", "-f", "-", stdin=manifest(project))
    await seen(admin, name="Ours")
    reply = await admin.call("PUT", "/v1/functions/ours", {"name": "Theirs", "execute": ["any"]})
    assert reply.error == (409, "general_field_managed")


async def test_variables_are_shared_item_by_item_with_server_side_apply(
    admin: Client, cluster: KubeCluster, project: ProjectKit, kubectl: Kubectl
) -> None:
    applied = manifest(project, variables=[{"name": "MODE", "value": "fast"}])
    kubectl("apply", *SHIP, "-f", "-", stdin=applied)
    await seen(admin)

    made = await admin.call("POST", "/v1/functions/ours/variables", {"key": "TOKEN", "value": "t0p"})

    assert made.status == 201, made
    kubectl("apply", *SHIP, "-f", "-", stdin=applied)
    assert [item["name"] for item in (await spec(cluster, project))["variables"]] == ["MODE", "TOKEN"]
    models = (await admin.call("GET", "/v1/functions/ours/variables")).body["variables"]
    mode = next(model["$id"] for model in models if model["key"] == "MODE")
    for method, body in (("PUT", {"key": "MODE", "value": "slow"}), ("DELETE", None)):
        reply = await admin.call(method, f"/v1/functions/ours/variables/{mode}", body)
        assert reply.error == (409, "general_field_managed")
        assert "spec.variables[MODE] is managed by kubectl" in reply.body["message"]


async def test_a_list_that_client_side_apply_would_take_back_is_not_added_to(
    admin: Client, project: ProjectKit, kubectl: Kubectl
) -> None:
    kubectl("apply", "-f", "-", stdin=manifest(project, variables=[{"name": "MODE", "value": "fast"}]))
    await seen(admin)

    reply = await admin.call("POST", "/v1/functions/ours/variables", {"key": "TOKEN", "value": "t0p"})

    assert reply.error == (409, "general_field_managed")
    assert "spec.variables is managed by kubectl apply" in reply.body["message"]
