"""Reports of builds: each agent writes its own on its own pod, known by its token."""

import json

import pytest

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import POD, Key
from appfn.kube.client import KubeCluster
from support.cluster import SERVICE_ACCOUNT, token_of
from support.project import ProjectKit
from support.shim_server import Reply, ShimServer

REPORT = {"artifact": {"digest": "sha256:" + "a" * 64, "size": 3}, "log": None, "sourceDigest": "sha256:" + "b" * 64}


async def tell(
    cluster: KubeCluster,
    shim: ShimServer,
    namespace: str,
    body: Json | None = None,
    *,
    account: str = names.SERVICE_ACCOUNT_BUILD,
    bound: bool = True,
) -> Reply:
    """Make two pods; let the first one send a report."""
    await cluster.create(SERVICE_ACCOUNT, {"metadata": {"name": account, "namespace": namespace}})
    spec = {"serviceAccountName": account, "containers": [{"name": "c", "image": "i"}]}
    pods = [
        await cluster.create(POD, {"metadata": {"name": name, "namespace": namespace}, "spec": spec})
        for name in ("build-1", "build-2")
    ]
    token = await token_of(cluster, Key(namespace, account), audience=names.AUDIENCE, pod=pods[0] if bound else None)
    body = REPORT if body is None else body
    return await shim.call("POST", "/internal/v1/build-reports", body, Authorization=f"Bearer {token}")


async def written(cluster: KubeCluster, namespace: str) -> dict[str, str]:
    """Return the reports there are, by pod."""
    found = {}
    for pod in await cluster.list(POD, namespace=namespace):
        text = (pod["metadata"].get("annotations") or {}).get(names.ANNOTATION_BUILD_REPORT)
        if text is not None:
            found[pod["metadata"]["name"]] = text
    return found


async def test_a_build_reports_on_its_own_pod(cluster: KubeCluster, shim: ShimServer, project: ProjectKit) -> None:
    reply = await tell(cluster, shim, project.namespace)

    assert reply.status == 200
    [(name, text)] = (await written(cluster, project.namespace)).items()
    assert (name, json.loads(text)) == ("build-1", REPORT)


@pytest.mark.parametrize(
    "how",
    [{"account": names.SERVICE_ACCOUNT_RUNTIME}, {"account": "stranger"}, {"bound": False}],
    ids=["a runtime pod", "another account", "bound to no pod"],
)
async def test_nobody_else_reports(
    cluster: KubeCluster, shim: ShimServer, project: ProjectKit, how: dict[str, object]
) -> None:
    reply = await tell(cluster, shim, project.namespace, **how)  # type: ignore[arg-type] # each its own

    assert reply.error == (403, "internal_forbidden")
    assert await written(cluster, project.namespace) == {}


async def test_a_report_longer_than_a_termination_message_is_refused(
    cluster: KubeCluster, shim: ShimServer, project: ProjectKit
) -> None:
    reply = await tell(cluster, shim, project.namespace, {"message": "x" * 5000})

    assert reply.status == 400
    assert await written(cluster, project.namespace) == {}
