"""A whole Kubernetes on this machine: the control plane, one node, DNS and storage."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localcluster import (
    archive,
    binaries,
    components,
    containers,
    host,
    machine,
    paths,
    processes,
    residue,
)
from localcluster.errors import ClusterError
from localcluster.images import Buildah, Builder
from localcluster.paths import Layout
from localcluster.processes import Launcher
from localcluster.record import Record
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


@dataclass(frozen=True, slots=True)
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

    def audit_log(self) -> Path | None:
        """One JSON object a line, every write among them."""
        return self.layout.audit_log

    def builder(self) -> Builder:
        """What builds images for it."""
        host.require_root()
        host.ensure_packages(PACKAGES)
        return Buildah()

    def exists(self) -> bool:
        """Whether it was made, perhaps in part only, and not removed since."""
        return self.layout.state.exists()

    def up(self) -> None:
        """Make it, or put right whatever of it is amiss. Raises ClusterError."""
        host.require_root()
        if not self.exists():
            host.require_disk(self.layout.state)
            host.require_disk(paths.cache())
        host.ensure_packages(PACKAGES)
        for program in (binaries.KUBE, binaries.COREDNS, binaries.PAUSE):
            binaries.ensure(program)
        binaries.kubectl()
        with self._alone():
            self._start()

    def down(self, *, purge: bool) -> None:
        """Remove all of it from the machine; the caches stay, packages too unless ``purge``."""
        host.require_root()
        if self.exists():
            with self._alone(), step(f"cluster {self.name} removed"):
                self._remove()
        say(f"caches stay in {paths.cache()} (`rm -r` frees the space)")
        if purge:
            host.purge()
        elif host.ours():
            say(f"packages it brought: {' '.join(host.ours())} (`down --purge` removes them)")
        Buildah().release()
        residue.remove_if_empty(paths.SYSTEM_STATE, paths.SYSTEM_RUN)

    def status(self) -> str:
        """A line for each component."""
        running = {name: processes.read(self.layout.pids, name) for name in components.ALL}
        lines = [f"{name}: {f'pid {process.pid}' if process else 'not running'}" for name, process in running.items()]
        return "\n".join([*lines, f"kubeconfig: {self.kubeconfig}"])

    def load(self, tag: str) -> str:
        """Bring the image ``tag`` from the builder's store into the cluster, unless it is there."""
        if not self.exists():
            raise ClusterError(f"there is no cluster {self.name!r}", remedy="make it with `up`")
        reference = archive.full_reference(tag)
        image_id = self.builder().image_id(reference)
        if containers.has_image(self.layout, reference, image_id):
            say(f"{tag}: already in the cluster")
            return reference
        with step(f"{tag} into the cluster"), tempfile.TemporaryDirectory(dir=self.layout.state) as directory:
            saved = Path(directory) / "image.tar"
            self.builder().save(reference, saved)
            containers.load_image(self.layout, archive=saved, tag=reference, image_id=image_id)
        return reference

    def _start(self) -> None:
        record = machine.recorded(self.layout)
        self.layout.make()
        node = machine.describe(self.layout, record)
        launcher = Launcher(pids=self.layout.pids, logs=self.layout.logs, cwd=self.layout.state)
        with step(f"network {record.pod_cidr}, certificates"):
            machine.prepare(node)
            components.configure(node)
        with step("etcd, apiserver, controller-manager, scheduler"):
            components.start_control_plane(node, launcher)
        with step("containerd, kubelet, kube-proxy"):
            components.start_containerd(node, launcher)
            components.start_node(node, launcher)
        with step("DNS, storage"):
            components.apply_addons(node)
            components.recycle_volumes(node)
            components.wait_ready(node, launcher)

    def _remove(self) -> None:
        # Their data goes too, so there is nothing they need time to save.
        processes.end(processes.recorded(self.layout.pids), grace=0.0)
        machine.restore(self.layout, self._record())
        shutil.rmtree(self.layout.run, ignore_errors=True)
        shutil.rmtree(self.layout.state)

    def _record(self) -> Record | None:
        try:
            return Record.read(self.layout.record)
        except ClusterError as damage:
            say(f"{damage.problem}: kernel settings stay as they are")
            return None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep a second `up` or `down` waiting meanwhile."""
        paths.SYSTEM_STATE.mkdir(parents=True, exist_ok=True)
        directory = os.open(paths.SYSTEM_STATE, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)
