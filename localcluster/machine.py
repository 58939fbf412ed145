"""The host of a whole cluster: what is chosen for it, prepared on it and restored after it."""

import dataclasses
from pathlib import Path

from localcluster import addons, binaries, commands, containers, network, ports, processes, residue
from localcluster.errors import ClusterError
from localcluster.nodeconfigs import Node
from localcluster.paths import Layout
from localcluster.ports import Network
from localcluster.record import Record, boot_id


def describe(layout: Layout, record: Record) -> Node:
    """The node that ``record`` stands for."""
    return Node(
        layout=layout,
        name=record.node,
        pods=Network(record.pod_cidr),
        services=Network(record.service_cidr),
        ports=record.ports,
        bridge_is_filtered=network.bridge_is_filtered(),
        overlays_work=containers.overlays_work(layout.state),
    )


def recorded(layout: Layout) -> Record:
    """The cluster's record, made or brought up to this boot.

    Raises ClusterError beside another cluster whose kube-proxy would undo the rules of ours.
    """
    record = Record.read(layout.record)
    if record is not None and record.boot == boot_id():
        return record
    _require_alone(layout)
    record = _chosen(layout) if record is None else _after_reboot(record)
    layout.make()
    record.write(layout.record)
    return record


def _chosen(layout: Layout) -> Record:
    pods, services = ports.choose_networks(network.taken())
    return Record(
        node=layout.name,
        pod_cidr=str(pods),
        service_cidr=str(services),
        ports=ports.free_ports("apiserver", "kubelet", "proxy-health", "proxy-metrics"),
        boot=boot_id(),
        sysctls=network.read_sysctls(),
        absent_before=residue.absent(),
    )


def _after_reboot(record: Record) -> Record:
    return dataclasses.replace(
        record,
        ports=ports.kept_if_free(record.ports),
        boot=boot_id(),
        sysctls=network.read_sysctls(),
        # What was made for us before the reboot is still ours.
        absent_before=sorted({*record.absent_before, *residue.absent()}),
    )


def prepare(node: Node) -> None:
    """Make what the cluster needs of the kernel: settings, bridge, rules, control groups."""
    network.write_sysctls(network.WANTED_SYSCTLS)
    if not network.bridge_exists():
        _end_pods(node.layout)
    network.make_bridge(node.pods)
    network.add_rules(node.pods)
    containers.make_cgroup(node.layout)
    for number in range(addons.VOLUMES):
        addons.volume_directory(node, number).mkdir(parents=True, exist_ok=True)


def _end_pods(layout: Layout) -> None:
    """End pods that may still run without a bridge: nothing would connect them again; new ones replace them."""
    kubelet = processes.read(layout.pids, "kubelet")
    processes.end([kubelet] if kubelet is not None else [])
    containers.kill_all(layout)


def resolv_conf() -> str:
    """The resolv.conf of pods that look up names outside the cluster."""
    systemd = Path("/run/systemd/resolve/resolv.conf")
    return network.pod_resolv_conf(
        Path("/etc/resolv.conf").read_text(), systemd.read_text() if systemd.exists() else None
    )


def restore(layout: Layout, record: Record | None) -> None:
    """Take everything of ours out of the kernel and put back the settings of before.

    Without a record, or after a reboot, there are no settings to put back.
    """
    containers.kill_all(layout)
    containers.unmount_below(layout.state, layout.run)
    if not _others(layout):
        _restore_network()
    if record is not None and record.boot == boot_id():
        network.write_sysctls(record.sysctls)
    residue.remove(layout, record.absent_before if record is not None else ())


def _restore_network() -> None:
    commands.attempt([binaries.ensure(binaries.KUBE) / "kube-proxy", "--cleanup"])
    network.remove_rules()
    network.remove_leftover_chains()
    network.remove_bridge()


def _require_alone(layout: Layout) -> None:
    """Raise ClusterError if the host's one bridge and one set of Service rules are in use."""
    for other in _others(layout):
        raise ClusterError(
            f"the cluster {other!r} is on this machine", remedy=f"use it, or remove it: --name {other} down"
        )
    network.require_no_other_proxy()


def _others(layout: Layout) -> list[str]:
    """Names of further clusters of ours that have their state on this machine."""
    records = layout.state.parent.glob("*/cluster.json")
    return sorted(record.parent.name for record in records if record != layout.record)
