"""How runtime pods announce themselves: each for itself alone, known by its token."""

import pytest

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import NAMESPACE, POD, Key
from appfn.kube.client import KubeCluster
from support.cluster import SERVICE_ACCOUNT, token_of
from support.fake_invoker import FakeInvoker
from support.project import ProjectKit
from support.shim_server import Reply, ShimServer


async def a_pod(cluster: KubeCluster, namespace: str, *, account: str) -> Json:
    await cluster.create(SERVICE_ACCOUNT, {"metadata": {"name": account, "namespace": namespace}})
    spec = {"serviceAccountName": account, "containers": [{"name": "c", "image": "i"}]}
    return await cluster.create(POD, {"metadata": {"name": "warm-1", "namespace": namespace}, "spec": spec})


async def announce(
    cluster: KubeCluster,
    shim: ShimServer,
    namespace: str,
    *,
    account: str = names.SERVICE_ACCOUNT_RUNTIME,
    bound: bool = True,
    audience: str = names.AUDIENCE,
    address: object = "10.0.0.7",
) -> Reply:
    pod = await a_pod(cluster, namespace, account=account)
    token = await token_of(cluster, Key(namespace, account), audience=audience, pod=pod if bound else None)
    body = {"address": address, "booted": True}
    return await shim.call("POST", "/internal/v1/pods", body, Authorization=f"Bearer {token}")


async def test_the_agent_of_a_pod_is_told_the_hash_of_its_load_token(
    cluster: KubeCluster, shim: ShimServer, project: ProjectKit, invoker: FakeInvoker
) -> None:
    reply = await announce(cluster, shim, project.namespace)

    assert (reply.status, reply.body) == (200, {"loadTokenSha256": "hash"})
    assert invoker.announced == {(project.namespace, "warm-1"): "10.0.0.7"}


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"account": "default-2"}, (403, "internal_forbidden")),
        ({"account": names.SERVICE_ACCOUNT_BUILD}, (403, "internal_forbidden")),
        ({"bound": False}, (403, "internal_forbidden")),
        ({"audience": ""}, (401, "internal_unauthenticated")),
        ({"address": "shim.example.com"}, (400, "general_argument_invalid")),
        ({"address": 7}, (400, "general_argument_invalid")),
    ],
    ids=["another account", "a build", "bound to no pod", "for the API server", "a name", "a number"],
)
async def test_nobody_else_announces_a_pod(
    cluster: KubeCluster,
    shim: ShimServer,
    project: ProjectKit,
    invoker: FakeInvoker,
    how: dict[str, str],
    error: tuple[int, str],
) -> None:
    reply = await announce(cluster, shim, project.namespace, **how)  # type: ignore[arg-type] # each its own

    assert reply.error == error
    assert invoker.announced == {}


async def test_a_pod_outside_of_projects_is_not_taken_in(
    cluster: KubeCluster, shim: ShimServer, namespace: str, invoker: FakeInvoker
) -> None:
    other = f"{namespace}-other"
    await cluster.create(NAMESPACE, {"metadata": {"name": other}})
    try:
        reply = await announce(cluster, shim, other)
    finally:
        await cluster.delete(NAMESPACE, Key("", other))

    assert reply.error == (404, "internal_not_found")
    assert invoker.announced == {}
