"""The shim with the rights that its manifests give it, and no more."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from appfn import names
from appfn.api.base import Json
from appfn.api.deployment import Deployment
from appfn.api.kinds import DEPLOYMENT, NAMESPACE, RUNTIME, SECRET, Key, Kind
from appfn.api.runtime import Runtime
from appfn.core.manifests.made_pod import announce_secret
from appfn.core.manifests.runtime_pod import RuntimePodTemplate
from appfn.errors import ForbiddenError
from appfn.kube.client import KubeCluster, connect
from localcluster.controlplane import ControlPlane
from support.cluster import ROOT, kubeconfig_with_token, token_of
from support.fake_invoker import FakeInvoker
from support.polling import eventually
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import Reply, running_shim, shim_config
from support.uploading import Uploader, tarball

SYSTEM = "appfn-system"
MANIFESTS = ROOT / "manifests"


async def apply(cluster: KubeCluster, path: Path, *, namespace: str) -> None:
    """Apply the documents of a file; those without a namespace go to this one, as kustomize would put them."""
    for document in documents(path):
        kind = kind_of(document)
        if kind.namespaced:
            document["metadata"].setdefault("namespace", namespace)
        await cluster.apply(kind, document, manager="tests")


def documents(path: Path) -> list[Json]:
    return list(yaml.safe_load_all(path.read_text()))


def kind_of(document: Json) -> Kind:
    group, _, version = document["apiVersion"].rpartition("/")
    name = document["kind"]
    plural = f"{name.lower()}s"
    return Kind(group=group, version=version, plural=plural, name=name, namespaced=not name.startswith("Cluster"))


@pytest.fixture
async def confined(cluster: KubeCluster, control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[KubeCluster]:
    """Connect as the shim's ServiceAccount."""
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    await cluster.apply(NAMESPACE, manifest, manager="tests")
    await apply(cluster, MANIFESTS / "base" / "shim-rbac.yaml", namespace=SYSTEM)
    token = await token_of(cluster, Key(SYSTEM, "appfn-shim"))
    async with connect(kubeconfig_with_token(control_plane.kubeconfig, tmp_path / "kubeconfig", token)) as client:
        yield client


async def test_its_own_rights_are_enough_in_a_project(
    cluster: KubeCluster, confined: KubeCluster, project: ProjectKit, tmp_path: Path
) -> None:
    await apply(cluster, MANIFESTS / "project" / "rbac.yaml", namespace=project.namespace)
    await project.secret("credentials", {"token": b"s3cr3t"})
    await project.config_map("settings", {"mode": "fast"})
    references = [
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "credentials", "key": "token"}}},
        {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "mode"}}},
    ]
    await project.ready("configured", variables=references)
    invoker = FakeInvoker()
    async with running_shim(confined, shim_config(tmp_path, SYSTEM), invoker) as shim:
        client = Client(shim, project.namespace, await project.key("executions.write", "executions.read"))

        reply = await client.execute("configured")
        workload = await client.call(
            "GET", "/v1/functions/hello/executions", Authorization="Bearer a.b.c", X_Appwrite_Key=""
        )

    assert reply.body["status"] == "completed", reply
    (invocation,) = invoker.invocations
    assert (invocation.variables["TOKEN"], invocation.variables["MODE"]) == ("s3cr3t", "fast")
    assert workload.error == (401, "user_jwt_invalid")
    assert len(invoker.key) == 32


async def test_its_own_rights_are_enough_for_what_the_api_writes(
    cluster: KubeCluster, confined: KubeCluster, project: ProjectKit, tmp_path: Path
) -> None:
    await apply(cluster, MANIFESTS / "project" / "rbac.yaml", namespace=project.namespace)
    async with running_shim(confined, shim_config(tmp_path, SYSTEM), FakeInvoker()) as shim:
        client = Client(shim, project.namespace, await project.key("functions.write", "functions.read"))
        body = {"functionId": "cats", "name": "Cats", "runtime": project.runtime, "execute": []}
        variable = {"key": "TOKEN", "value": "s3cr3t"}

        statuses = [
            (await client.call("POST", "/v1/functions", body)).status,
            (await client.call("PUT", "/v1/functions/cats", body | {"name": "More cats"})).status,
            (await client.call("POST", "/v1/functions/cats/variables", variable)).status,
            (await client.call("POST", "/v1/functions/cats/variables", variable | {"key": "OTHER"})).status,
            (await client.call("DELETE", "/v1/functions/cats")).status,
        ]

    assert statuses == [201, 200, 201, 201, 204]


async def test_its_own_rights_are_enough_for_deployments_by_the_api(
    cluster: KubeCluster, confined: KubeCluster, project: ProjectKit, tmp_path: Path
) -> None:
    await apply(cluster, MANIFESTS / "project" / "rbac.yaml", namespace=project.namespace)
    key = await project.key("functions.read", "functions.write")
    async with running_shim(confined, shim_config(tmp_path, SYSTEM), FakeInvoker()) as shim:
        client = Client(shim, project.namespace, key, response_format="1.9.5")

        async def uploaded() -> Reply | None:  # the API server's own view of RBAC lags a little
            reply = await Uploader(client).whole(tarball(10))
            return reply if reply.status == 202 else None

        path = f"/v1/functions/hello/deployments/{(await eventually(uploaded)).body['$id']}"
        canceled = await client.call("PATCH", f"{path}/status")
        deleted = await client.call("DELETE", path)

    assert (canceled.status, canceled.body["status"], deleted.status) == (200, "canceled", 204)


async def test_its_own_rights_are_enough_for_the_secret_by_which_pods_announce_themselves(
    cluster: KubeCluster, confined: KubeCluster, project: ProjectKit
) -> None:
    await apply(cluster, MANIFESTS / "project" / "rbac.yaml", namespace=project.namespace)
    deployment = Deployment.parse(await found(cluster, DEPLOYMENT, Key(project.namespace, "hello-v1"))).metadata
    runtime = Runtime.parse(await found(cluster, RUNTIME, Key("", project.runtime)))
    template = RuntimePodTemplate.of_pool(project.namespace, runtime)

    async def applied(token: str) -> Json | None:
        try:
            secret = announce_secret(template, deployment, token=token)
            return await confined.apply(SECRET, secret, manager=names.FIELD_MANAGER_SHIM)
        except ForbiddenError:  # the API server has not noticed our RoleBinding yet
            return None

    first = await eventually(lambda: applied("one"))
    again, changed = await applied("one"), await applied("two")

    assert again is not None
    assert changed is not None
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert changed["data"] != first["data"]


async def found(cluster: KubeCluster, kind: Kind, key: Key) -> Json:
    body = await cluster.get(kind, key)
    assert body is not None
    return body


async def test_a_labelled_namespace_without_the_projects_manifests_is_told_what_lacks(
    confined: KubeCluster, project: ProjectKit, tmp_path: Path
) -> None:
    async with running_shim(confined, shim_config(tmp_path, SYSTEM), FakeInvoker()) as shim:
        reply = await Client(shim, project.namespace, await project.key("executions.write")).execute()

    assert reply.error == (503, "general_service_disabled")
    assert "manifests/project" in reply.body["message"]


async def test_secrets_can_be_read_by_name_in_projects_and_never_listed(
    cluster: KubeCluster, confined: KubeCluster, project: ProjectKit
) -> None:
    await project.secret("credentials", {"token": b"x"})
    key = Key(project.namespace, "credentials")
    with pytest.raises(ForbiddenError):
        await confined.get(SECRET, key)

    await apply(cluster, MANIFESTS / "project" / "rbac.yaml", namespace=project.namespace)

    async def readable() -> bool:  # the API server's own view of RBAC lags a little
        try:
            return await confined.get(SECRET, key) is not None
        except ForbiddenError:
            return False

    await eventually(readable)
    with pytest.raises(ForbiddenError):
        await confined.list(SECRET, namespace=project.namespace)
    with pytest.raises(ForbiddenError):
        await confined.get(SECRET, Key(SYSTEM, "other"))
