from pathlib import Path

import pytest

from localcluster import flags
from localcluster.nodeconfigs import Node
from localcluster.paths import Layout
from localcluster.ports import Network


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout("test", tmp_path / "state", tmp_path / "run")


@pytest.fixture
def node(layout: Layout) -> Node:
    return Node(
        layout=layout,
        name="test",
        pods=Network("10.207.0.0/22"),
        services=Network("10.207.16.0/20"),
        ports={"apiserver": 6443, "kubelet": 10250, "proxy-health": 10256, "proxy-metrics": 10249},
        bridge_is_filtered=True,
        overlays_work=True,
    )


@pytest.fixture
def plane(layout: Layout) -> flags.ControlPlane:
    return flags.ControlPlane(
        layout=layout,
        binaries=Path("/bin/of/kube"),
        address="10.207.0.1",
        port=6443,
        service_cidr="10.207.16.0/20",
        durable=True,
        with_nodes=True,
    )
