"""kopf with the rights that manifests/ gives the operator for looking."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appfn.api.kinds import Key
from appfn.kube.client import KubeCluster, connect
from localcluster.controlplane import ControlPlane
from support.cluster import kubeconfig_with_token, service_account
from support.watcher import RULES, Watcher, watching_as


@pytest.fixture
async def watcher(
    cluster: KubeCluster, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> AsyncIterator[Watcher]:
    """Run kopf with the rights of the operator."""
    token = await service_account(cluster, Key(namespace, "operator"), rules=RULES)
    kubeconfig = kubeconfig_with_token(control_plane.kubeconfig, tmp_path / "operator", token)
    user = f"system:serviceaccount:{namespace}:operator"
    async with connect(kubeconfig) as client, watching_as(client, user) as watcher:
        yield watcher
