"""The client against a real API server."""

import asyncio
import secrets
from pathlib import Path

import pytest

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import CONFIG_MAP, FUNCTION, NAMESPACE, POD, SECRET, Key
from appfn.errors import ConfigError, ConflictError, ForbiddenError, RejectedError, TransientError
from appfn.kube.client import KubeCluster, connect
from appfn.kube.protocols import TokenIdentity
from localcluster.controlplane import ControlPlane
from support.cluster import SERVICE_ACCOUNT, AuditLog, kubeconfig_with_server, kubeconfig_with_token, service_account
from support.cluster import token_of as issue_token

MANAGER = "test"


def config_map(namespace: str, name: str, **data: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name},
        "data": data,
    }


def function(namespace: str, name: str, **spec: object) -> Json:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "Function",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"runtime": "python-3.13", **spec},
    }


async def test_reading_what_is_not_there_is_none(cluster: KubeCluster, namespace: str) -> None:
    assert await cluster.get(CONFIG_MAP, Key(namespace, "missing")) is None


async def test_a_proxy_of_the_environment_is_not_the_way_to_the_api_server(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with connect(control_plane.kubeconfig) as cluster:
        assert await cluster.get(NAMESPACE, Key("", "default")) is not None


async def test_an_object_created_is_read_and_listed_with_its_kind(cluster: KubeCluster, namespace: str) -> None:
    await cluster.create(CONFIG_MAP, config_map(namespace, "a", colour="red"))

    found = await cluster.get(CONFIG_MAP, Key(namespace, "a"))
    listed = await cluster.list(CONFIG_MAP, namespace=namespace, fields="metadata.name=a")

    assert found is not None
    assert found["data"] == {"colour": "red"}
    assert [(item["kind"], item["apiVersion"], item["data"]) for item in listed] == [
        ("ConfigMap", "v1", {"colour": "red"})
    ]


async def test_creating_a_name_twice_conflicts(cluster: KubeCluster, namespace: str) -> None:
    await cluster.create(CONFIG_MAP, config_map(namespace, "a"))
    with pytest.raises(ConflictError, match='configmaps "a" already exists'):
        await cluster.create(CONFIG_MAP, config_map(namespace, "a"))


async def test_creating_in_a_namespace_that_is_gone_conflicts(cluster: KubeCluster) -> None:
    with pytest.raises(ConflictError, match='namespaces "nowhere" not found'):
        await cluster.create(CONFIG_MAP, config_map("nowhere", "a"))


async def test_applying_creates_then_owns_only_its_fields(cluster: KubeCluster, namespace: str) -> None:
    await cluster.apply(CONFIG_MAP, config_map(namespace, "a", ours="1", also="2"), manager=MANAGER)
    await cluster.merge_patch(CONFIG_MAP, Key(namespace, "a"), {"data": {"theirs": "3"}}, manager="somebody")

    applied = await cluster.apply(CONFIG_MAP, config_map(namespace, "a", ours="4"), manager=MANAGER)

    assert applied["data"] == {"ours": "4", "theirs": "3"}
    managers = {(entry["manager"], entry["operation"]) for entry in applied["metadata"]["managedFields"]}
    assert managers == {(MANAGER, "Apply"), ("somebody", "Update")}


async def test_applying_takes_fields_over_from_others(cluster: KubeCluster, namespace: str) -> None:
    await cluster.apply(CONFIG_MAP, config_map(namespace, "a", field="theirs"), manager="somebody")
    applied = await cluster.apply(CONFIG_MAP, config_map(namespace, "a", field="ours"), manager=MANAGER)
    assert applied["data"] == {"field": "ours"}


async def test_applying_the_same_again_changes_nothing(cluster: KubeCluster, namespace: str) -> None:
    first = await cluster.apply(CONFIG_MAP, config_map(namespace, "a", x="1"), manager=MANAGER)
    second = await cluster.apply(CONFIG_MAP, config_map(namespace, "a", x="1"), manager=MANAGER)
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


async def test_applying_a_status_leaves_spec_and_metadata_alone(cluster: KubeCluster, namespace: str) -> None:
    made = await cluster.create(FUNCTION, function(namespace, "fn", timeout=20))
    manifest = made | {"spec": {"runtime": "other"}, "status": {"observedGeneration": 1, "activeDeployment": "fn-v1"}}

    written = await cluster.apply_status(FUNCTION, manifest, manager=MANAGER)

    assert written["spec"]["runtime"] == "python-3.13"
    assert written["metadata"]["generation"] == 1
    assert written["status"]["activeDeployment"] == "fn-v1"


async def test_a_status_is_not_written_to_a_namesake(cluster: KubeCluster, namespace: str) -> None:
    old = await cluster.create(FUNCTION, function(namespace, "fn"))
    await cluster.delete(FUNCTION, Key(namespace, "fn"))
    await cluster.create(FUNCTION, function(namespace, "fn"))

    with pytest.raises(ConflictError):
        await cluster.apply_status(FUNCTION, old | {"status": {"observedGeneration": 1}}, manager=MANAGER)


async def test_a_status_of_an_object_that_is_gone_conflicts(cluster: KubeCluster, namespace: str) -> None:
    manifest = function(namespace, "gone") | {"status": {"observedGeneration": 1}}
    with pytest.raises(ConflictError, match="not found"):
        await cluster.apply_status(FUNCTION, manifest, manager=MANAGER)


async def test_what_the_schema_refuses_is_rejected_with_its_path(cluster: KubeCluster, namespace: str) -> None:
    with pytest.raises(RejectedError, match=r"spec\.timeout"):
        await cluster.create(FUNCTION, function(namespace, "fn", timeout=100_000))


async def test_a_merge_patch_changes_an_object_or_says_that_it_is_gone(cluster: KubeCluster, namespace: str) -> None:
    await cluster.create(CONFIG_MAP, config_map(namespace, "a", x="1"))
    patch: Json = {"data": {"x": None, "y": "2"}}

    patched = await cluster.merge_patch(CONFIG_MAP, Key(namespace, "a"), patch, manager=MANAGER)

    assert patched is not None
    assert patched["data"] == {"y": "2"}
    assert await cluster.merge_patch(CONFIG_MAP, Key(namespace, "b"), patch, manager=MANAGER) is None


async def test_a_merge_patch_of_an_older_version_conflicts(cluster: KubeCluster, namespace: str) -> None:
    made = await cluster.create(CONFIG_MAP, config_map(namespace, "a"))
    key = Key(namespace, "a")
    await cluster.merge_patch(CONFIG_MAP, key, {"data": {"x": "1"}}, manager=MANAGER)
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"x": "2"}}
    with pytest.raises(ConflictError):
        await cluster.merge_patch(CONFIG_MAP, key, stale, manager=MANAGER)


async def test_deleting_tells_whether_there_was_something(cluster: KubeCluster, namespace: str) -> None:
    await cluster.create(CONFIG_MAP, config_map(namespace, "a"))
    assert await cluster.delete(CONFIG_MAP, Key(namespace, "a")) is True
    assert await cluster.delete(CONFIG_MAP, Key(namespace, "a")) is False


async def test_deleting_by_uid_spares_a_namesake(cluster: KubeCluster, namespace: str) -> None:
    made = await cluster.create(CONFIG_MAP, config_map(namespace, "a"))
    key = Key(namespace, "a")
    assert await cluster.delete(CONFIG_MAP, key, uid="00000000-0000-0000-0000-000000000000") is False
    assert await cluster.get(CONFIG_MAP, key) is not None
    assert await cluster.delete(CONFIG_MAP, key, uid=made["metadata"]["uid"]) is True


async def test_a_long_list_comes_whole_in_pages(control_plane: ControlPlane, namespace: str, audit: AuditLog) -> None:
    async with connect(control_plane.kubeconfig, page_size=3) as cluster:
        wanted = {f"map-{number}" for number in range(10)}
        await asyncio.gather(*(cluster.create(CONFIG_MAP, config_map(namespace, name)) for name in wanted))

        listed = await cluster.list(CONFIG_MAP, namespace=namespace)

    found = [item["metadata"]["name"] for item in listed]
    assert wanted <= set(found)
    assert len(found) == len(set(found))


async def test_a_list_since_a_version_shows_what_was_written_by_then(cluster: KubeCluster, namespace: str) -> None:
    for number in range(20):
        name = f"n{number}"
        made = await cluster.create(FUNCTION, function(namespace, name))
        listed = await cluster.list(FUNCTION, namespace=namespace, since=made["metadata"]["resourceVersion"])
        assert name in {item["metadata"]["name"] for item in listed}


async def test_selectors_are_applied_by_the_server(cluster: KubeCluster, namespace: str) -> None:
    for name, colour in (("a", "red"), ("b", "blue"), ("c", "green")):
        manifest = config_map(namespace, name)
        manifest["metadata"]["labels"] = {"example.org/colour": colour}
        await cluster.create(CONFIG_MAP, manifest)

    async def names_of(labels: str = "", fields: str = "") -> list[str]:
        found = await cluster.list(CONFIG_MAP, namespace=namespace, labels=labels, fields=fields)
        return [item["metadata"]["name"] for item in found]

    assert await names_of(labels="example.org/colour in (red, blue)") == ["a", "b"]
    assert await names_of(labels="example.org/colour,example.org/colour!=red") == ["b", "c"]
    assert await names_of(fields="metadata.name=c") == ["c"]


async def test_cluster_scoped_objects_have_no_namespace(cluster: KubeCluster, namespace: str) -> None:
    found = await cluster.get(NAMESPACE, Key("", namespace))
    assert found is not None
    assert found["metadata"]["labels"][names.LABEL_PROJECT] == namespace


async def test_a_kind_that_is_not_served_yet_is_a_matter_of_time(cluster: KubeCluster) -> None:
    unknown = type(FUNCTION)(group=names.GROUP, version="v9", plural="functions", name="Function")
    with pytest.raises(TransientError, match=r"functions\.appfn\.dev"):
        await cluster.list(unknown)


async def test_what_rbac_refuses_is_forbidden_in_the_servers_words(
    cluster: KubeCluster, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    token = await service_account(cluster, Key(namespace, "nobody"), rules=[])
    async with connect(kubeconfig_with_token(control_plane.kubeconfig, tmp_path / "config", token)) as nobody:
        with pytest.raises(ForbiddenError, match=f'nobody" cannot list resource "secrets".*"{namespace}"'):
            await nobody.list(SECRET, namespace=namespace)


async def test_a_bad_token_is_a_matter_of_time_as_tokens_are_renewed(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    async with connect(kubeconfig_with_token(control_plane.kubeconfig, tmp_path / "config", "wrong")) as nobody:
        with pytest.raises(TransientError, match="401"):
            await nobody.list(SECRET)


async def test_a_server_that_is_down_is_a_matter_of_time(control_plane: ControlPlane, tmp_path: Path) -> None:
    kubeconfig = kubeconfig_with_server(control_plane.kubeconfig, tmp_path / "config", "http://127.0.0.1:1")
    async with connect(kubeconfig) as cluster:
        with pytest.raises(TransientError, match="API server"):
            await cluster.get(CONFIG_MAP, Key("default", "a"))


async def test_a_kubeconfig_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-such-file"):
        async with connect(tmp_path / "no-such-file"):
            pass


async def test_outside_a_pod_there_is_no_service_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match="ServiceAccount"):
        async with connect(None):
            pass


async def test_the_log_of_a_pod_that_is_gone_is_empty(cluster: KubeCluster, namespace: str) -> None:
    log = await cluster.pod_log(Key(namespace, "gone"), container="main", tail_lines=5, limit_bytes=1000)
    assert log == ""


async def test_the_log_of_a_container_that_has_not_started_is_empty(cluster: KubeCluster, namespace: str) -> None:
    pod = {"metadata": {"namespace": namespace, "name": "p"}, "spec": {"containers": [{"name": "main", "image": "x"}]}}
    await cluster.create(POD, pod)
    log = await cluster.pod_log(Key(namespace, "p"), container="main", tail_lines=5, limit_bytes=1000)
    assert log == ""


async def test_a_token_is_whose_it_says_only_for_its_audience(cluster: KubeCluster, namespace: str) -> None:
    key = Key(namespace, "caller")
    await cluster.create(SERVICE_ACCOUNT, {"metadata": {"namespace": namespace, "name": "caller"}})
    token = await issue_token(cluster, key, audience=names.AUDIENCE)

    identity = await cluster.review_token(token, audience=names.AUDIENCE)

    assert identity is not None
    assert identity.username == f"system:serviceaccount:{namespace}:caller"
    assert f"system:serviceaccounts:{namespace}" in identity.groups
    assert identity.pod == ""
    assert await cluster.review_token(token, audience="another") is None
    assert await cluster.review_token("x" + token, audience=names.AUDIENCE) is None


async def test_rbac_is_asked_about_others(cluster: KubeCluster, namespace: str) -> None:
    rules = [{"apiGroups": [names.GROUP], "resources": ["executions"], "verbs": ["create"]}]
    await service_account(cluster, Key(namespace, "runner"), rules=rules)
    runner = TokenIdentity(username=f"system:serviceaccount:{namespace}:runner", groups=(), uid="", pod="")
    executions = type(FUNCTION)(group=names.GROUP, version=names.VERSION, plural="executions", name="Execution")

    assert await cluster.review_access(runner, verb="create", kind=executions, namespace=namespace) is True
    assert await cluster.review_access(runner, verb="delete", kind=executions, namespace=namespace) is False
    assert await cluster.review_access(runner, verb="create", kind=FUNCTION, namespace=namespace) is False


async def test_a_name_cannot_lead_out_of_its_path(cluster: KubeCluster, namespace: str) -> None:
    assert await cluster.get(CONFIG_MAP, Key(namespace, "../secrets/x")) is None
    assert await cluster.get(CONFIG_MAP, Key(f"{namespace}/../default", secrets.token_hex(4))) is None
