"""A real kube-apiserver with etcd and controllers, one per test process, without nodes."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from appfn import names
from appfn.api.kinds import NAMESPACE, Key
from appfn.kube.client import KubeCluster, connect
from localcluster.controlplane import ControlPlane
from support.cluster import AuditLog, install_definitions


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run a control plane with appfn's resource definitions."""
    with ControlPlane.start(tmp_path_factory.mktemp("control-plane"), controllers=True) as plane:
        asyncio.run(_install(plane.kubeconfig))
        yield plane


async def _install(kubeconfig: Path) -> None:
    async with connect(kubeconfig) as cluster:
        await install_definitions(cluster)


@pytest.fixture
async def cluster(control_plane: ControlPlane) -> AsyncIterator[KubeCluster]:
    """Connect as the administrator."""
    async with connect(control_plane.kubeconfig) as client:
        yield client


@pytest.fixture
async def namespace(cluster: KubeCluster) -> AsyncIterator[str]:
    """Make a project's namespace for one test."""
    name = f"test-{secrets.token_hex(4)}"
    await cluster.create(NAMESPACE, {"metadata": {"name": name, "labels": {names.LABEL_PROJECT: name}}})
    yield name
    await cluster.delete(NAMESPACE, Key("", name))


@pytest.fixture
def audit(control_plane: ControlPlane) -> AuditLog:
    """Return the API server's audit log."""
    return AuditLog(control_plane.audit_log)
