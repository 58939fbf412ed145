"""Which cluster to use: the one named, else kind where Docker answers, else our own."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from localcluster import commands, kind
from localcluster.errors import ClusterError
from localcluster.images import Buildah, Builder, Docker
from localcluster.kind import KindCluster
from localcluster.node import NodeCluster
from localcluster.steps import say, step

VARIABLE = "APPFN_KUBECONFIG"
REGISTRY_VARIABLE = "APPFN_REGISTRY"


class Cluster(Protocol):
    """A Kubernetes cluster, however it is made. Every method raises ClusterError."""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""

    def up(self) -> None:
        """Make it, or put right whatever of it is amiss."""

    def down(self, *, purge: bool) -> None:
        """Remove it, with ``purge`` also what was installed for it."""

    def status(self) -> str:
        """What runs, for people."""

    def exists(self) -> bool:
        """Whether it was made, and not removed since."""

    def audit_log(self) -> Path | None:
        """Where the apiserver logs every write; None where that can't be read."""

    def builder(self) -> Builder:
        """What builds images for it."""

    def load(self, tag: str) -> str:
        """Bring a built image into it; return the name its pods know it by."""


def choose(name: str) -> Cluster:
    """The cluster to use. One of our own that exists stays the choice when Docker appears."""
    named = os.environ.get(VARIABLE)
    if named:
        return GivenCluster(Path(named).expanduser())
    own = NodeCluster(name)
    if own.exists() or not kind.docker_answers():
        return own
    return KindCluster(name)


@dataclass(frozen=True, slots=True)
class GivenCluster:
    """A cluster someone else made and will remove."""

    kubeconfig: Path

    def up(self) -> None:
        """Only check that it answers."""
        kubectl = commands.find("kubectl")
        if not self.kubeconfig.is_file():
            raise ClusterError(f"{VARIABLE} names {self.kubeconfig}, which is no file", remedy="correct or unset it")
        if kubectl is not None:
            remedy = f"check the cluster of {VARIABLE}"
            commands.run([kubectl, "--kubeconfig", self.kubeconfig, "get", "--raw=/readyz"], remedy=remedy)
        say(f"using the cluster of {self.kubeconfig}")

    def down(self, *, purge: bool) -> None:
        """Leave it as it is."""
        del purge
        say(f"the cluster of {self.kubeconfig} is not ours: it stays")

    def status(self) -> str:
        """Where it is named."""
        return f"kubeconfig: {self.kubeconfig} (from {VARIABLE})"

    def exists(self) -> bool:
        """Always."""
        return True

    def audit_log(self) -> Path | None:
        """None: its log is not ours to read."""
        return None

    def builder(self) -> Builder:
        """Docker where it answers, else buildah."""
        return Docker() if kind.docker_answers() else Buildah()

    def load(self, tag: str) -> str:
        """Push it to the registry which the cluster pulls from."""
        registry = os.environ.get(REGISTRY_VARIABLE)
        if not registry:
            raise ClusterError(
                f"{tag} must get into the cluster of {VARIABLE}",
                remedy=f"name a registry which you may push to and it pulls from in {REGISTRY_VARIABLE}",
            )
        reference = f"{registry.rstrip('/')}/{tag}"
        with step(f"{reference} pushed"):
            self.builder().push(tag, reference)
        return reference
