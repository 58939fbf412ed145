"""Command lines of the control plane's components. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcluster.paths import Layout

ISSUER = "https://kubernetes.default.svc.cluster.local"

# Sockets are named relative to the state directory, in which the processes run:
# a whole path might pass the limit of 107 characters. etcd insists on a port, which becomes
# part of the file name.
_ETCD_CLIENTS = "unix://etcd.sock:0"
_ETCD_PEERS = "unix://etcd-peer.sock:0"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """What the command lines depend on. ``durable`` false trades safety on power loss for speed."""

    layout: Layout
    binaries: Path
    address: str
    port: int
    service_cidr: str
    durable: bool
    with_nodes: bool


def etcd(plane: ControlPlane) -> list[str]:
    """Etcd on unix sockets in a private directory: the file system is its access control."""
    options = {
        "name": "appfn",
        "data-dir": str(plane.layout.state / "etcd"),
        "listen-client-urls": _ETCD_CLIENTS,
        "advertise-client-urls": _ETCD_CLIENTS,
        "listen-peer-urls": _ETCD_PEERS,
        "initial-advertise-peer-urls": _ETCD_PEERS,
        "initial-cluster": f"appfn={_ETCD_PEERS}",
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "10m",
        "log-level": "warn",
    }
    return _command(plane, "etcd", options) + ([] if plane.durable else ["--unsafe-no-fsync"])


def apiserver(plane: ControlPlane) -> list[str]:
    """No anonymous access, RBAC, every write in the audit log."""
    layout, pki = plane.layout, plane.layout.pki
    options = {
        "etcd-servers": _ETCD_CLIENTS,
        "bind-address": plane.address,
        "advertise-address": plane.address,
        "secure-port": str(plane.port),
        "service-cluster-ip-range": plane.service_cidr,
        "tls-cert-file": str(pki / "apiserver.crt"),
        "tls-private-key-file": str(pki / "apiserver.key"),
        "client-ca-file": str(pki / "ca.crt"),
        "anonymous-auth": "false",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "admission-control-config-file": str(layout.config / "admission.json"),
        "service-account-issuer": ISSUER,
        "service-account-key-file": str(pki / "service-accounts.pub"),
        "service-account-signing-key-file": str(pki / "service-accounts.key"),
        "api-audiences": ISSUER,
        "audit-policy-file": str(layout.config / "audit-policy.json"),
        "audit-log-path": str(layout.audit_log),
        "audit-log-maxsize": "200",
        "audit-log-maxbackup": "2",
        "profiling": "false",
    }
    return _command(plane, "kube-apiserver", {**options, **_kubelet_access(plane)})


def controller_manager(plane: ControlPlane) -> list[str]:
    """Each controller acts as its own ServiceAccount; there is nobody to elect against."""
    layout, pki = plane.layout, plane.layout.pki
    options = {
        "kubeconfig": str(layout.config / "controller-manager.kubeconfig"),
        "use-service-account-credentials": "true",
        "service-account-private-key-file": str(pki / "service-accounts.key"),
        "root-ca-file": str(pki / "ca.crt"),
        "leader-elect": "false",
        "secure-port": "0",
        "profiling": "false",
    }
    return _command(plane, "kube-controller-manager", options)


def scheduler(plane: ControlPlane) -> list[str]:
    """The default scheduler, alone."""
    options = {
        "kubeconfig": str(plane.layout.config / "scheduler.kubeconfig"),
        "leader-elect": "false",
        "secure-port": "0",
        "profiling": "false",
    }
    return _command(plane, "kube-scheduler", options)


def _kubelet_access(plane: ControlPlane) -> dict[str, str]:
    if not plane.with_nodes:
        return {}
    pki = plane.layout.pki
    return {
        "kubelet-client-certificate": str(pki / "apiserver-kubelet-client.crt"),
        "kubelet-client-key": str(pki / "apiserver-kubelet-client.key"),
        "kubelet-certificate-authority": str(pki / "ca.crt"),
        # The node's name is in no DNS, yet `kubectl logs` would try it first.
        "kubelet-preferred-address-types": "InternalIP",
    }


def _command(plane: ControlPlane, program: str, options: Mapping[str, str]) -> list[str]:
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [str(plane.binaries / program), *flags]
