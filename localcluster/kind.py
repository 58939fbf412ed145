"""A cluster in Docker containers, by kind, where a Docker daemon answers."""

from dataclasses import dataclass
from pathlib import Path

from localcluster import commands, golang_toolchain, paths
from localcluster.images import Builder, Docker
from localcluster.steps import step

VERSION = "v0.30.0"

_WAIT = "180s"


def docker_answers() -> bool:
    """Whether there is a Docker daemon we may use."""
    return commands.find("docker") is not None and commands.attempt(["docker", "info"]).returncode == 0


@dataclass(frozen=True, slots=True)
class KindCluster:
    """The kind cluster ``name``."""

    name: str

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; the user's own is left alone."""
        return paths.user_state(self.name) / "kubeconfig"

    def exists(self) -> bool:
        """Whether kind knows it."""
        return self.name in commands.run([_kind(), "get", "clusters"]).split()

    def audit_log(self) -> Path | None:
        """None: kind clusters keep no audit log."""
        return None

    def builder(self) -> Builder:
        """What builds images for it."""
        return Docker()

    def up(self) -> None:
        """Make it unless it is there."""
        kind = _kind()
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        if self.exists():
            commands.run([kind, "export", "kubeconfig", "--name", self.name, "--kubeconfig", self.kubeconfig])
            return
        with step(f"kind cluster {self.name}"):
            options = [f"--name={self.name}", f"--kubeconfig={self.kubeconfig}", f"--wait={_WAIT}"]
            commands.run([kind, "create", "cluster", *options], remedy="see `docker ps` and `docker info`")

    def down(self, *, purge: bool) -> None:
        """Remove it. Kind needed no packages: ``purge`` finds nothing more."""
        del purge
        with step(f"kind cluster {self.name} removed"):
            commands.run([_kind(), "delete", "cluster", "--name", self.name, "--kubeconfig", self.kubeconfig])
        self.kubeconfig.unlink(missing_ok=True)

    def status(self) -> str:
        """A line for each node."""
        nodes = commands.run([_kind(), "get", "nodes", "--name", self.name]).split()
        return "\n".join([*nodes, f"kubeconfig: {self.kubeconfig}"])

    def load(self, tag: str) -> str:
        """Copy the image ``tag`` from Docker to the nodes; kind passes over what they have."""
        with step(f"{tag} into the cluster"):
            commands.run([_kind(), "load", "docker-image", tag, "--name", self.name])
        return tag


def _kind() -> str:
    installed = commands.find("kind") or str(paths.cache() / "bin" / f"kind-{VERSION}" / "kind")
    if not Path(installed).exists():
        with step(f"kind {VERSION} built from source"):
            go = golang_toolchain.ensure()
            env = {**golang_toolchain.environment(), "GOBIN": str(Path(installed).parent)}
            commands.run([go, "install", f"sigs.k8s.io/kind@{VERSION}"], env=env, remedy="install kind yourself")
    return installed
