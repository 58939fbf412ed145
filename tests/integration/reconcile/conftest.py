"""One project with a Runtime, a node that is only an object, and the operator's controllers with their real rights."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appfn.api.kinds import NODE, RUNTIME, Key
from appfn.config import load
from appfn.kube.client import KubeCluster, connect
from appfn.reconcile import shim_client
from appfn.reconcile.registry import Dependencies, Seen, controllers
from localcluster.controlplane import ControlPlane
from support.cluster import SERVICE_ACCOUNT, AuditLog, kubeconfig_with_token, service_account
from support.fake_shim import TOKEN, FakeShim
from support.reconciling import Clock, Crash, Marks, Operator, operator_rules


@pytest.fixture
async def runtime(cluster: KubeCluster) -> AsyncIterator[str]:
    """Make a Runtime of the test's own, as Runtimes have no namespace."""
    name = f"node-{secrets.token_hex(4)}"
    spec = {
        "language": "node",
        "version": "20.0",
        "displayName": "Node.js",
        "enabled": True,
        "loadMode": "Import",
        "images": [{"architecture": "amd64", "image": "runtime-node:20.0"}],
        "entrypoint": "index.js",
        "buildCommand": "build.sh",
        "startCommand": "start.sh",
    }
    await cluster.create(
        RUNTIME, {"apiVersion": RUNTIME.api_version, "kind": "Runtime", "metadata": {"name": name}, "spec": spec}
    )
    yield name
    await cluster.delete(RUNTIME, Key("", name))


@pytest.fixture
async def node(cluster: KubeCluster) -> AsyncIterator[str]:
    """Make a Node object of amd64; nothing runs on it."""
    name = f"node-{secrets.token_hex(4)}"
    await cluster.create(NODE, {"metadata": {"name": name, "labels": {"kubernetes.io/arch": "amd64"}}})
    yield name
    await cluster.delete(NODE, Key("", name))


@pytest.fixture
async def operator(
    cluster: KubeCluster, control_plane: ControlPlane, namespace: str, audit: AuditLog, node: str, tmp_path: Path
) -> AsyncIterator[Operator]:
    """Connect the controllers to API server and fake shim."""
    for name in ("appfn-build", "appfn-trigger"):
        await cluster.create(SERVICE_ACCOUNT, {"metadata": {"namespace": namespace, "name": name}})
    token = await service_account(cluster, Key(namespace, "operator"), rules=operator_rules())
    kubeconfig = kubeconfig_with_token(control_plane.kubeconfig, tmp_path / "operator", token)
    token_path = tmp_path / "token"
    token_path.write_text(TOKEN)
    shim, clock, marks, crash = FakeShim(), Clock(), Marks(), Crash()
    time = asyncio.get_running_loop().time
    async with (
        connect(kubeconfig) as client,
        shim.serve() as url,
        shim_client.connect(url, token_path=token_path, clock=time) as shim_connection,
    ):
        seen = Seen()
        config = load({"APPFN_IMAGE": "appfn/appfn:1", "APPFN_SHIM_URL": url})
        deps = Dependencies(
            cluster=crash.around(client),
            shim=crash.around(shim_connection),
            config=config,
            now=clock,
            mark=marks,
            seen=seen,
        )
        yield Operator(
            cluster=cluster,
            namespace=namespace,
            handlers=controllers(deps),
            shim=shim,
            clock=clock,
            marks=marks,
            crash=crash,
            seen=seen,
            audit=audit,
            user=f"system:serviceaccount:{namespace}:operator",
        )
