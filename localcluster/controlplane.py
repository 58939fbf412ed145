"""A control plane without nodes: a real apiserver and etcd for tests, up in seconds.

    with ControlPlane.start(directory) as plane:
        client = connect(plane.kubeconfig)

Any user may run it. What it started dies with the thread that started it.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from localcluster import binaries, configs, flags, paths, pki, ports, processes
from localcluster.api import Api
from localcluster.errors import ClusterError
from localcluster.paths import Layout
from localcluster.processes import Launcher

_ADDRESS = "127.0.0.1"
_SERVICE_CIDR = "10.0.0.0/24"
_READY_WITHIN = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """A running control plane. ``kubeconfig`` is the administrator's."""

    layout: Layout
    server: str
    launcher: Launcher

    @property
    def kubeconfig(self) -> Path:
        """Path of the administrator's kubeconfig."""
        return self.layout.kubeconfig

    @property
    def audit_log(self) -> Path:
        """Path of the audit log: one JSON object a line, written before the answer is sent."""
        return self.layout.audit_log

    @classmethod
    @contextmanager
    def start(cls, directory: Path, *, controllers: bool = False) -> Iterator[Self]:
        """Run one with its state under ``directory``; afterwards nothing of it is left.

        ``controllers`` adds the controller manager: garbage collection, Jobs,
        CronJobs, namespace deletion, ServiceAccounts. Raises ClusterError.
        """
        layout = paths.private_layout("controlplane", directory)
        plane = cls._run(layout, controllers=controllers, bound=True)
        try:
            yield plane
        finally:
            plane.stop()

    @classmethod
    def up(cls, layout: Layout, *, controllers: bool) -> Self:
        """Run one that outlives this process; repairs one that has partly died."""
        return cls._run(layout, controllers=controllers, bound=False)

    @classmethod
    def _run(cls, layout: Layout, *, controllers: bool, bound: bool) -> Self:
        layout.make()
        port = _port(layout)
        launcher = Launcher(pids=layout.pids, logs=layout.logs, cwd=layout.state, bound=bound)
        plane = _plane(layout, port)
        prepare(plane, ["10.0.0.1", _ADDRESS])
        try:
            serve(plane, launcher)
            if controllers:
                launcher.ensure("kube-controller-manager", flags.controller_manager(plane))
        except BaseException:
            stop(layout, launcher)
            raise
        return cls(layout=layout, server=server(plane), launcher=launcher)

    def stop(self) -> None:
        """End its processes and remove its directory."""
        stop(self.layout, self.launcher)


def prepare(plane: flags.ControlPlane, addresses: list[str]) -> None:
    """Write certificates, kubeconfigs and configuration for a control plane."""
    layout = plane.layout
    clients = [pki.ADMIN, pki.CONTROLLER_MANAGER, pki.SCHEDULER, pki.KUBELET_CLIENT]
    pki.ensure(layout.pki, [*clients, pki.apiserver(addresses)])
    write(layout.config / "audit-policy.json", configs.audit_policy())
    write(layout.config / "admission.json", configs.admission())
    write_kubeconfig(layout.kubeconfig, plane, pki.ADMIN)
    for client in (pki.CONTROLLER_MANAGER, pki.SCHEDULER):
        write_kubeconfig(layout.config / f"{client.file}.kubeconfig", plane, client)


def serve(plane: flags.ControlPlane, launcher: Launcher) -> None:
    """Start etcd and the apiserver and wait until they are ready."""
    launcher.ensure("etcd", flags.etcd(plane))
    policies = [plane.layout.config / "audit-policy.json", plane.layout.config / "admission.json"]
    launcher.ensure("kube-apiserver", flags.apiserver(plane), reads=policies)
    api = Api(address=plane.address, port=plane.port, pki=plane.layout.pki)

    def settled() -> bool:
        return died(plane.layout) is not None or api.ready()

    processes.wait_until(settled, within=_READY_WITHIN, every=0.05)
    culprit = died(plane.layout)
    if culprit is not None:
        raise launcher.failure(culprit)
    if not api.ready():
        logs = plane.layout.logs
        raise ClusterError(f"no apiserver after {_READY_WITHIN:.0f} s", remedy=f"read {logs}")


def died(layout: Layout) -> str | None:
    """The first of etcd and the apiserver that doesn't run."""
    names = ("etcd", "kube-apiserver")
    return next((name for name in names if processes.read(layout.pids, name) is None), None)


def server(plane: flags.ControlPlane) -> str:
    """URL of its apiserver."""
    return f"https://{plane.address}:{plane.port}"


def write(path: Path, document: configs.Document) -> None:
    """Write a configuration file that only its owner can read.

    One that would not change is left alone: kube-proxy ends itself when its file is written.
    """
    text = configs.render(document)
    if path.exists() and path.read_text() == text:
        return
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)


def write_kubeconfig(path: Path, plane: flags.ControlPlane, client: pki.Leaf) -> None:
    """Write the kubeconfig of ``client``."""
    directory = plane.layout.pki
    credentials = configs.Credentials(
        authority=(directory / "ca.crt").read_text(),
        certificate=(directory / f"{client.file}.crt").read_text(),
        key=(directory / f"{client.file}.key").read_text(),
    )
    write(path, configs.kubeconfig(server(plane), client.user, credentials))


def stop(layout: Layout, launcher: Launcher | None = None) -> None:
    """End every process recorded in ``layout`` and remove its directories."""
    processes.end(processes.recorded(layout.pids), grace=0.0)
    if launcher is not None:
        launcher.reap()
    shutil.rmtree(layout.state, ignore_errors=True)


def _plane(layout: Layout, port: int) -> flags.ControlPlane:
    return flags.ControlPlane(
        layout=layout,
        binaries=binaries.ensure(binaries.KUBE),
        address=_ADDRESS,
        port=port,
        service_cidr=_SERVICE_CIDR,
        durable=False,
        with_nodes=False,
    )


def _port(layout: Layout) -> int:
    """The port it had, if it has one, else a free one."""
    remembered = layout.state / "port"
    if not remembered.exists():
        remembered.write_text(str(ports.free_port(_ADDRESS)))
    return int(remembered.read_text())
