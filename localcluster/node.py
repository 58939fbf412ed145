"""A whole Kubernetes on this machine: the control plane, one node, DNS and storage."""

import dataclasses
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
    host,
    network,
    nodeconfigs,
    paths,
    pki,
    ports,
    processes,
    residue,
)
from localcluster.api import Api
from localcluster.errors import ClusterError
from localcluster.images import Builder, Buildah
from localcluster.nodeconfigs import Node
from localcluster.paths import Layout
from localcluster.ports import Network
from localcluster.processes import Launcher
from localcluster.record import Record, boot_id
from localcluster.steps import say, step

PACKAGES = (
    "buildah",
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "debian-archive-keyring",
    "debootstrap",
    "iproute2",
    "iptables",
    "openssl",
    "runc",
)

_COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "containerd", "kubelet")
_ALL_COMPONENTS = (*_COMPONENTS, "kube-proxy")
_READY_WITHIN = 120.0


@dataclasses.dataclass(frozen=True, slots=True)
class NodeCluster:
    """The cluster ``name`` of this machine, whether or not it runs."""

    name: str

    @property
    def layout(self) -> Layout:
        """Where it is kept."""
        return paths.system_layout(self.name)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.layout.kubeconfig

    def audit_log(self) -> Path:
        """One JSON object a line, every write among them."""
        return self.layout.audit_log

    def builder(self) -> Builder:
        """What builds images for it."""
        host.require_root()
        host.ensure_packages(PACKAGES)
        return Buildah()

    def exists(self) -> bool:
        """Whether it was made and not removed since."""
        return self.layout.record.exists()

    def up(self) -> None:
        """Make it, or put right whatever of it is amiss. Raises ClusterError."""
        host.require_root()
        host.require_disk(self.layout.state)
        host.require_disk(paths.cache())
        host.ensure_packages(PACKAGES)
        for program in (binaries.KUBE, binaries.COREDNS, binaries.PAUSE):
            binaries.ensure(program)
        binaries.kubectl()
        self._start()

    def down(self, *, purge: bool) -> None:
        """Remove all of it from the machine; the caches stay, packages too unless ``purge``."""
        host.require_root()
        if self.exists():
            self._remove()
        say(f"caches stay in {paths.cache()}: remove them with rm -r if you want the space")
        if purge:
            host.purge()
        elif host.ours():
            say(f"packages it brought: {' '.join(host.ours())} (`down --purge` removes them)")
        Buildah().release()
        residue.remove_if_empty(paths.SYSTEM_STATE, paths.SYSTEM_RUN)

    def status(self) -> str:
        """A line for each component, and one for the node."""
        running = {name: processes.read(self.layout.pids, name) for name in _ALL_COMPONENTS}
        lines = [f"{name}: {f'pid {process.pid}' if process else 'not running'}" for name, process in running.items()]
        return "\n".join([*lines, f"kubeconfig: {self.kubeconfig}"])

    def load(self, tag: str) -> None:
        """Bring the image ``tag`` from the builder's store into the cluster, unless it is there."""
        node = _node(self.layout, self._record())
        reference = archive.full_reference(tag)
        image_id = self.builder().image_id(reference)
        if containers.has_image(node, reference, image_id):
            say(f"{tag}: already in the cluster")
            return
        with step(f"{tag} into the cluster"), tempfile.TemporaryDirectory(dir=self.layout.state) as directory:
            saved = Path(directory) / "image.tar"
            self.builder().save(reference, saved)
            containers.load_image(node, archive=saved, tag=reference, image_id=image_id)

    def _record(self) -> Record:
        record = Record.read(self.layout.record)
        if record is None:
            raise ClusterError(f"there is no cluster {self.name!r}", remedy="make it with `up`")
        return record

    def _start(self) -> None:
        self.layout.make()
        record = _recorded(self.layout)
        node = _node(self.layout, record)
        launcher = Launcher(pids=self.layout.pids, logs=self.layout.logs, cwd=self.layout.state)
        with step(f"network {record.pod_cidr}, certificates"):
            _prepare_host(node)
            _write_configuration(node)
        plane = _plane(node)
        with step("etcd, apiserver, controller-manager, scheduler"):
            controlplane.serve(plane, launcher)
            launcher.ensure("kube-controller-manager", flags.controller_manager(plane))
            launcher.ensure("kube-scheduler", flags.scheduler(plane))
        with step("containerd, kubelet, kube-proxy"):
            _start_containerd(node, launcher)
            _start_node(node, launcher)
        with step("DNS, storage"):
            _apply_addons(node)
            _recycle_volumes(node)
            _wait_ready(node, launcher)

    def _remove(self) -> None:
        record = self._record()
        node = _node(self.layout, record)
        with step(f"cluster {self.name} removed"):
            # Their data goes too, so there is nothing they need time to save.
            processes.end(processes.recorded(self.layout.pids), grace=0.0)
            containers.kill_all(node)
            containers.unmount_below(self.layout.state, self.layout.run)
            if record.boot == boot_id():
                _restore_host(node, record)
            residue.remove(self.layout, record.absent_before)
            shutil.rmtree(self.layout.run, ignore_errors=True)
            shutil.rmtree(self.layout.state)


def _node(layout: Layout, record: Record) -> Node:
    return Node(
        layout=layout,
        name=record.node,
        pods=Network(record.pod_cidr),
        services=Network(record.service_cidr),
        ports=record.ports,
        bridge_is_filtered=network.bridge_is_filtered(),
    )


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


def _recorded(layout: Layout) -> Record:
    """The cluster's record, made or brought up to this boot. Refuses beside another kube-proxy."""
    record = Record.read(layout.record)
    if record is not None and record.boot == boot_id():
        return record
    network.require_no_other_proxy()
    if record is None:
        pods, services = ports.choose_networks(network.taken())
        record = Record(
            node=layout.name,
            pod_cidr=str(pods),
            service_cidr=str(services),
            ports=ports.free_ports("apiserver", "kubelet", "proxy-health", "proxy-metrics"),
            boot=boot_id(),
        )
    absent = sorted({*record.absent_before, *residue.absent()})
    record = dataclasses.replace(record, boot=boot_id(), sysctls=network.read_sysctls(), absent_before=absent)
    record.write(layout.record)
    return record


def _prepare_host(node: Node) -> None:
    network.write_sysctls(network.WANTED_SYSCTLS)
    network.make_bridge(node.pods)
    network.add_rules(node.pods)
    containers.make_cgroup(node)
    for number in range(addons.VOLUMES):
        addons.volume_directory(node, number).mkdir(parents=True, exist_ok=True)


def _restore_host(node: Node, record: Record) -> None:
    kube_proxy = binaries.ensure(binaries.KUBE) / "kube-proxy"
    commands.attempt([kube_proxy, "--cleanup"])
    network.remove_rules(node.pods)
    network.remove_leftover_chains()
    network.remove_bridge()
    network.write_sysctls(record.sysctls)


def _write_configuration(node: Node) -> None:
    config = node.layout.config
    (config / "cni").mkdir(exist_ok=True)
    systemd = Path("/run/systemd/resolve/resolv.conf")
    (config / "resolv.conf").write_text(
        network.pod_resolv_conf(
            Path("/etc/resolv.conf").read_text(), systemd.read_text() if systemd.exists() else None
        )
    )
    (config / "containerd.toml").write_text(nodeconfigs.containerd(node))
    controlplane.write(config / "cni" / "appfn.conflist", nodeconfigs.cni(node))
    controlplane.write(config / "kubelet.json", nodeconfigs.kubelet(node))
    controlplane.write(config / "kube-proxy.json", nodeconfigs.kube_proxy(node))
    plane = _plane(node)
    controlplane.prepare(plane, [node.address, str(node.services[1])])
    clients = [pki.node(node.name), pki.PROXY]
    pki.ensure(node.layout.pki, [*clients, pki.kubelet_server(node.name, node.address)])
    for client in clients:
        controlplane.write_kubeconfig(config / f"{client.file}.kubeconfig", plane, client)


def _start_containerd(node: Node, launcher: Launcher) -> None:
    config = node.layout.config / "containerd.toml"
    launcher.ensure("containerd", [commands.find("containerd") or "containerd", "--config", config], reads=[config])
    if not processes.wait_until(lambda: containers.answers(node), within=30.0):
        raise launcher.failure("containerd")
    _ensure_system_image(node, binaries.PAUSE, nodeconfigs.PAUSE_IMAGE)
    _ensure_system_image(node, binaries.COREDNS, addons.COREDNS_IMAGE)


def _ensure_system_image(node: Node, program: binaries.Program, tag: str) -> None:
    image = archive.Image(tag=tag, config=archive.entrypoint([f"/{program.module}"], "65532:65532"))
    with tempfile.TemporaryDirectory(dir=node.layout.state) as directory:
        layer, saved = Path(directory) / "layer.tar", Path(directory) / "image.tar"
        archive.file_layer(binaries.ensure(program) / program.module, layer)
        image_id = archive.write(image, layer, saved)
        if not containers.has_image(node, tag, image_id):
            containers.load_image(node, archive=saved, tag=tag, image_id=image_id)


def _start_node(node: Node, launcher: Launcher) -> None:
    directory = binaries.ensure(binaries.KUBE)
    config = node.layout.config
    options = [
        f"--config={config / 'kubelet.json'}",
        f"--kubeconfig={config / 'kubelet.kubeconfig'}",
        f"--root-dir={node.layout.state / 'kubelet'}",
        f"--cert-dir={node.layout.pki}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
    ]
    launcher.ensure("kubelet", [directory / "kubelet", *options], reads=[config / "kubelet.json"])
    proxy = [directory / "kube-proxy", f"--config={config / 'kube-proxy.json'}"]
    launcher.ensure("kube-proxy", proxy, reads=[config / "kube-proxy.json"])


def _kubectl(node: Node, *arguments: str, stdin: str | None = None) -> str:
    access = ["--kubeconfig", node.layout.kubeconfig, "--cache-dir", node.layout.run / "kubectl"]
    return commands.run([binaries.kubectl(), *access, *arguments], stdin=stdin)


def _apply_addons(node: Node) -> None:
    documents = {"apiVersion": "v1", "kind": "List", "items": addons.manifests(node)}
    options = ["--server-side", "--force-conflicts", "--field-manager=localcluster", "--filename=-"]
    _kubectl(node, "apply", *options, stdin=json.dumps(documents))


def _recycle_volumes(node: Node) -> None:
    """Empty volumes whose claim is gone and offer them again."""
    listed = _api(node).get("/api/v1/persistentvolumes") or {"items": []}
    released = {item["metadata"]["name"] for item in listed["items"] if item["status"].get("phase") == "Released"}
    for number in range(addons.VOLUMES):
        if addons.volume_name(number) in released:
            shutil.rmtree(addons.volume_directory(node, number))
            addons.volume_directory(node, number).mkdir()
            _kubectl(node, "delete", "persistentvolume", addons.volume_name(number))
    if released:
        _apply_addons(node)


def _wait_ready(node: Node, launcher: Launcher) -> None:
    def settled() -> bool:
        return _dead(node) is not None or _is_ready(node)

    processes.wait_until(settled, within=_READY_WITHIN, every=0.1)
    culprit = _dead(node)
    if culprit is not None:
        raise launcher.failure(culprit)
    if not _is_ready(node):
        raise ClusterError(f"node or DNS not ready after {_READY_WITHIN:.0f} s", remedy=f"read {node.layout.logs}")


def _is_ready(node: Node) -> bool:
    """Whether the node says so and its DNS answers: then pods run and Services are reached.

    The status of CoreDNS's Deployment alone might be from before a crash.
    """
    machine = _api(node).get(f"/api/v1/nodes/{node.name}")
    return has_condition(machine, "Ready") and dns.resolves(node.dns, "kubernetes.default.svc.cluster.local")


def has_condition(resource: dict[str, Any] | None, kind: str) -> bool:
    """Whether the status of ``resource`` has a true condition ``kind``."""
    conditions = (resource or {}).get("status", {}).get("conditions", [])
    return any(condition["type"] == kind and condition["status"] == "True" for condition in conditions)


def _dead(node: Node) -> str | None:
    return next((name for name in _ALL_COMPONENTS if processes.read(node.layout.pids, name) is None), None)


def _api(node: Node) -> Api:
    return Api(address=node.address, port=node.ports["apiserver"], pki=node.layout.pki)
