"""Starting the parts of a whole cluster and seeing them ready."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from localcluster import (
    addons,
    archive,
    binaries,
    commands,
    containers,
    controlplane,
    dns,
    flags,
    machine,
    nodeconfigs,
    pki,
    processes,
)
from localcluster.errors import ClusterError
from localcluster.nodeconfigs import Node
from localcluster.processes import Launcher

ALL = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "containerd",
    "kubelet",
    "kube-proxy",
)

_READY_WITHIN = 120.0
_CONTAINERD_WITHIN = 30.0
_NOBODY = "65532:65532"


def configure(node: Node) -> None:
    """Write every certificate and configuration file that is missing or would change."""
    layout, config = node.layout, node.layout.config
    (config / "cni").mkdir(exist_ok=True)
    (config / "resolv.conf").write_text(machine.resolv_conf())
    (config / "containerd.toml").write_text(nodeconfigs.containerd(node))
    controlplane.write(config / "cni" / "appfn.conflist", nodeconfigs.cni(node))
    controlplane.write(config / "kubelet.json", nodeconfigs.kubelet(node))
    controlplane.write(config / "kube-proxy.json", nodeconfigs.kube_proxy(node))
    plane = _plane(node)
    controlplane.prepare(plane, [node.address, str(node.services[1])])
    clients = [pki.node(node.name), pki.PROXY]
    pki.ensure(layout.pki, [*clients, pki.kubelet_server(node.name, node.address)])
    for client in clients:
        controlplane.write_kubeconfig(config / f"{client.file}.kubeconfig", plane, client)


def start_control_plane(node: Node, launcher: Launcher) -> None:
    """Start what runs without a node, and wait for the apiserver."""
    plane, config = _plane(node), node.layout.config
    controlplane.serve(plane, launcher)
    controllers, scheduler = flags.controller_manager(plane), flags.scheduler(plane)
    launcher.ensure("kube-controller-manager", controllers, reads=[config / "controller-manager.kubeconfig"])
    launcher.ensure("kube-scheduler", scheduler, reads=[config / "scheduler.kubeconfig"])


def start_containerd(node: Node, launcher: Launcher) -> None:
    """Start containerd and give it the images that every cluster needs."""
    config = node.layout.config / "containerd.toml"
    program = commands.find("containerd") or "containerd"
    launcher.ensure("containerd", [program, f"--config={config}"], reads=[config])
    if not processes.wait_until(lambda: containers.answers(node.layout), within=_CONTAINERD_WITHIN):
        raise launcher.failure("containerd")
    _ensure_system_image(node, binaries.PAUSE, nodeconfigs.PAUSE_IMAGE)
    _ensure_system_image(node, binaries.COREDNS, addons.COREDNS_IMAGE)


def start_node(node: Node, launcher: Launcher) -> None:
    """Start the kubelet and kube-proxy."""
    directory, config = binaries.ensure(binaries.KUBE), node.layout.config
    options = [
        f"--config={config / 'kubelet.json'}",
        f"--kubeconfig={config / 'kubelet.kubeconfig'}",
        f"--root-dir={node.layout.state / 'kubelet'}",
        f"--cert-dir={node.layout.pki}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
    ]
    reads = [config / "kubelet.json", config / "kubelet.kubeconfig"]
    launcher.ensure("kubelet", [str(directory / "kubelet"), *options], reads=reads)
    proxy = [str(directory / "kube-proxy"), f"--config={config / 'kube-proxy.json'}"]
    launcher.ensure("kube-proxy", proxy, reads=[config / "kube-proxy.json", config / "proxy.kubeconfig"])


def apply_addons(node: Node) -> None:
    """Apply what every cluster has, whatever is there of it."""
    documents = {"apiVersion": "v1", "kind": "List", "items": addons.manifests(node)}
    options = ["--server-side", "--force-conflicts", "--field-manager=localcluster", "--filename=-"]
    _kubectl(node, "apply", *options, stdin=json.dumps(documents))


def recycle_volumes(node: Node) -> None:
    """Empty volumes whose claim is gone and offer them again."""
    listed = node.api.get("/api/v1/persistentvolumes") or {"items": []}
    released = {item["metadata"]["name"] for item in listed["items"] if item["status"].get("phase") == "Released"}
    for number in range(addons.VOLUMES):
        if addons.volume_name(number) in released:
            shutil.rmtree(addons.volume_directory(node, number))
            addons.volume_directory(node, number).mkdir()
            _kubectl(node, "delete", "persistentvolume", addons.volume_name(number))
    if released:
        apply_addons(node)


def wait_ready(node: Node, launcher: Launcher) -> None:
    """Wait until pods run and find each other by name. Raises ClusterError with what went wrong."""

    def settled() -> bool:
        return _dead(node) is not None or _is_ready(node)

    processes.wait_until(settled, within=_READY_WITHIN, every=0.1)
    culprit = _dead(node)
    if culprit is not None:
        raise launcher.failure(culprit)
    if not _is_ready(node):
        raise ClusterError(f"node or DNS not ready after {_READY_WITHIN:.0f} s", remedy=f"read {node.layout.logs}")


def has_condition(resource: dict[str, Any] | None, kind: str) -> bool:
    """Whether the status of ``resource`` has a true condition ``kind``."""
    conditions = (resource or {}).get("status", {}).get("conditions", [])
    return any(condition["type"] == kind and condition["status"] == "True" for condition in conditions)


def _is_ready(node: Node) -> bool:
    """Whether the node says so and its DNS answers.

    The status of CoreDNS's Deployment alone might be from before a crash.
    """
    machine_resource = node.api.get(f"/api/v1/nodes/{node.name}")
    return has_condition(machine_resource, "Ready") and dns.resolves(node.dns, "kubernetes.default.svc.cluster.local")


def _dead(node: Node) -> str | None:
    return next((name for name in ALL if processes.read(node.layout.pids, name) is None), None)


def _plane(node: Node) -> flags.ControlPlane:
    return flags.ControlPlane(
        layout=node.layout,
        binaries=binaries.ensure(binaries.KUBE),
        address=node.address,
        port=node.ports["apiserver"],
        service_cidr=str(node.services),
        durable=True,
        with_nodes=True,
    )


def _ensure_system_image(node: Node, program: binaries.Program, tag: str) -> None:
    image = archive.Image(tag=tag, config=archive.entrypoint([f"/{program.module}"], _NOBODY))
    with tempfile.TemporaryDirectory(dir=node.layout.state) as directory:
        layer, saved = Path(directory) / "layer.tar", Path(directory) / "image.tar"
        archive.file_layer(binaries.ensure(program) / program.module, layer)
        image_id = archive.write(image, layer, saved)
        if not containers.has_image(node.layout, tag, image_id):
            containers.load_image(node.layout, archive=saved, tag=tag, image_id=image_id)


def _kubectl(node: Node, *arguments: str, stdin: str | None = None) -> str:
    access = [f"--kubeconfig={node.layout.kubeconfig}", f"--cache-dir={node.layout.run / 'kubectl'}"]
    return commands.run([binaries.kubectl(), *access, *arguments], stdin=stdin)
