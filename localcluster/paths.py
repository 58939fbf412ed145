"""Where things of a cluster are kept."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from localcluster.errors import ClusterError

DEFAULT_NAME = "appfn"
SYSTEM_STATE = Path("/var/lib/appfn")
SYSTEM_RUN = Path("/run/appfn")
SOURCES = Path(__file__).parent / "golang"

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Layout:
    """The directories of one cluster: ``state`` outlives a reboot, ``run`` need not."""

    name: str
    state: Path
    run: Path

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.state / "pki"

    @property
    def config(self) -> Path:
        """Rendered configuration of every component."""
        return self.state / "config"

    @property
    def logs(self) -> Path:
        """Standard output and error of every component."""
        return self.state / "logs"

    @property
    def pids(self) -> Path:
        """Identity of every started process."""
        return self.run / "pids"

    @property
    def kubeconfig(self) -> Path:
        """Credentials of the cluster's administrator."""
        return self.state / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """One JSON object a line for each request to the apiserver."""
        return self.state / "audit.log"

    @property
    def record(self) -> Path:
        """What was chosen for this cluster, see :mod:`localcluster.record`."""
        return self.state / "cluster.json"

    @property
    def containerd_socket(self) -> Path:
        """Where the cluster's containerd listens."""
        return self.run / "containerd.sock"

    @property
    def cgroup(self) -> str:
        """Parent of all pods' control groups, apart from any other kubelet's."""
        return f"/appfn-{self.name}"

    def make(self) -> None:
        """Create the directories, readable by their owner alone."""
        for directory in (self.state, self.run, self.pki, self.config, self.logs, self.pids):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)


def checked_name(name: str) -> str:
    """``name`` if it can name a cluster, a node and a directory."""
    if _NAME.fullmatch(name):
        return name
    raise ClusterError(
        f"{name!r} can't name a cluster",
        remedy="use up to 40 lower-case letters, digits and dashes, a letter first",
    )


def system_layout(name: str) -> Layout:
    """Layout of a whole cluster, which root owns."""
    return Layout(checked_name(name), SYSTEM_STATE / name, SYSTEM_RUN / name)


def private_layout(name: str, directory: Path | None = None) -> Layout:
    """Layout of a control plane alone, which any user may own."""
    root = directory or _user_run_root() / checked_name(name)
    return Layout(name, root, root / "run")


def cache() -> Path:
    """What can be made again but takes long: binaries, base images, the build's layers."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "appfn"


def user_state(name: str) -> Path:
    """State of a cluster that someone else runs (kind): its kubeconfig."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "appfn" / checked_name(name)


def _user_run_root() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "appfn" if runtime else Path(f"/tmp/appfn-{os.getuid()}")  # noqa: S108 - 0700, checked by processes.own
