"""How runtime pods announce themselves: each for itself alone, or for its deployment's, known by its token."""

from typing import NamedTuple

import pytest

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import DEPLOYMENT, NAMESPACE, POD, Key
from appfn.dispatch.tokens import announce_token, load_token
from appfn.kube.client import KubeCluster
from appfn.shim.services import CATALOG, MASTER_KEY
from support.cluster import SERVICE_ACCOUNT, token_of
from support.fake_invoker import FakeInvoker
from support.polling import eventually
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
    assert invoker.by_own_token


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


class Made(NamedTuple):
    """What the agent of a pod says that was made for a call."""

    namespace: str
    deployment: str
    pod: str
    token: str

    async def announce(self, shim: ShimServer, *, address: object = "10.0.0.7") -> Reply:
        return await shim.call(
            "POST",
            "/internal/v1/pods",
            {"address": address, "booted": False},
            Authorization=f"Bearer {self.token}",
            X_Appfn_Pod=f"{self.namespace}/{self.deployment}/{self.pod}",
        )


async def token_of_deployment(cluster: KubeCluster, shim: ShimServer, key: Key) -> str:
    """Return the token of a Deployment that the shim knows."""
    body = await cluster.get(DEPLOYMENT, key)
    assert body is not None

    async def known() -> bool:
        return shim.app[CATALOG].has_deployment(key, uid=body["metadata"]["uid"])

    await eventually(known)
    return announce_token(
        shim.app[MASTER_KEY], namespace=key.namespace, deployment=key.name, uid=body["metadata"]["uid"]
    )


@pytest.fixture
async def made(cluster: KubeCluster, shim: ShimServer, project: ProjectKit) -> Made:
    """A pod of the project's deployment."""
    token = await token_of_deployment(cluster, shim, Key(project.namespace, "hello-v1"))
    return Made(project.namespace, "hello-v1", names.runtime_pod("hello-v1", "0123456789"), token)


async def test_a_pod_made_for_a_call_announces_itself_by_its_deployments_token(
    shim: ShimServer, invoker: FakeInvoker, made: Made
) -> None:
    reply = await made.announce(shim)

    assert (reply.status, reply.body) == (200, {"loadTokenSha256": "hash"})
    assert invoker.announced == {(made.namespace, made.pod): "10.0.0.7"}
    assert not invoker.by_own_token


async def test_no_token_of_another_deployment_is_taken(
    cluster: KubeCluster, shim: ShimServer, project: ProjectKit, invoker: FakeInvoker, made: Made
) -> None:
    await project.deployment("hello", "hello")
    await project.deployment("hello-v1-x", "hello")
    master, other = shim.app[MASTER_KEY], Made(made.namespace, "hello", "hello-0123456789", "")
    tokens = [await token_of_deployment(cluster, shim, Key(made.namespace, name)) for name in ("hello", "hello-v1-x")]
    tokens += [
        announce_token(master, namespace=made.namespace, deployment=made.deployment, uid=uid)
        for uid in ("", "00000000-0000-0000-0000-000000000000")
    ]
    tokens.append(announce_token(master, namespace="other", deployment=made.deployment, uid="uid"))
    tokens.append(load_token(master, namespace=made.namespace, pod=made.pod))
    tried = [made._replace(token=token) for token in tokens] + [other._replace(token=made.token)]

    assert [(await each.announce(shim)).error for each in tried] == [(401, "internal_unauthenticated")] * len(tried)
    assert invoker.announced == {}


@pytest.mark.parametrize(
    "pod",
    [
        "hello-v1",
        "hello-v1-",
        "hello-v1-012345678",
        "hello-v1-x-0123456789",
        "hello-0123456789",
        "hello-v10123456789",
        "warm-1",
    ],
)
async def test_a_pod_of_another_deployment_is_not_announced_by_this_ones_token(
    project: ProjectKit, shim: ShimServer, invoker: FakeInvoker, made: Made, pod: str
) -> None:
    await project.deployment("hello-v1-x", "hello")

    assert (await made._replace(pod=pod).announce(shim)).error == (403, "internal_forbidden")
    assert invoker.announced == {}


@pytest.mark.parametrize(
    "change",
    [
        {"token": ""},
        {"token": "é" * 32},
        {"token": "0" * 64},
        {"token": "a.b.c"},
        {"token": "x" * 6000},
        {"deployment": "gone-v1", "pod": "gone-v1-0123456789"},
        {"deployment": ""},
        {"namespace": "default"},
        {"namespace": "..", "pod": "../hello-v1-0123456789"},
        {"pod": "hello-v1-0123456789/x"},
        {"pod": "HELLO-v1-0123456789"},
        {"pod": "hello-v1-\N{ARABIC-INDIC DIGIT ZERO}123456789"},
        {"pod": "hello-v1-0123456789" + "0" * 60},
        {"pod": ""},
    ],
    ids=repr,
)
async def test_garbage_is_refused(shim: ShimServer, invoker: FakeInvoker, made: Made, change: dict[str, str]) -> None:
    assert (await made._replace(**change).announce(shim)).error == (401, "internal_unauthenticated")
    assert invoker.announced == {}


@pytest.mark.parametrize(
    "address", ["shim.example.com", "", 7, None, "fe80::1%eth0", "fe80::1%/own?", "fe80::1%/../../../flush?"]
)
async def test_a_deployments_token_announces_addresses_alone(
    shim: ShimServer, invoker: FakeInvoker, made: Made, address: object
) -> None:
    assert (await made.announce(shim, address=address)).error == (400, "general_argument_invalid")
    assert invoker.announced == {}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/internal/v1/build-reports"),
        ("GET", "/internal/v1/artifacts/{namespace}/sha256:00"),
        ("PUT", "/internal/v1/artifacts/{namespace}"),
        ("POST", "/internal/v1/executions"),
    ],
)
async def test_a_deployments_token_is_of_no_other_use(shim: ShimServer, made: Made, method: str, path: str) -> None:
    reply = await shim.call(
        method,
        path.format(namespace=made.namespace),
        {},
        Authorization=f"Bearer {made.token}",
        X_Appfn_Pod=f"{made.namespace}/{made.deployment}/{made.pod}",
    )

    assert reply.status in {401, 403}


async def test_a_serviceaccounts_token_does_not_speak_for_a_pod_that_it_names(
    cluster: KubeCluster, shim: ShimServer, invoker: FakeInvoker, made: Made
) -> None:
    account = names.SERVICE_ACCOUNT_RUNTIME
    pod = await a_pod(cluster, made.namespace, account=account)
    token = await token_of(cluster, Key(made.namespace, account), audience=names.AUDIENCE, pod=pod)

    assert (await made._replace(token=token).announce(shim)).error == (401, "internal_unauthenticated")
    assert invoker.announced == {}
