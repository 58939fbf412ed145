"""appfn on a cluster: its images, its manifests, its processes ready."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from localcluster import binaries
from localcluster.errors import ClusterError
from localcluster.providers import Cluster
from localcluster.steps import step

ROOT = Path(__file__).parents[1]
SYSTEM = "appfn-system"
VERSION = "0.1.0"


@dataclass(frozen=True, slots=True)
class Image:
    """An image of this repository, made from the Dockerfile in ``folder``."""

    tag: str
    folder: Path


IMAGES = (
    Image(f"appfn/appfn:{VERSION}", ROOT),
    Image("appfn/runtime-node:20.0", ROOT / "runtimes" / "node"),
    Image("appfn/runtime-python:3.13", ROOT / "runtimes" / "python"),
)


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl as the cluster's administrator."""

    program: Path
    kubeconfig: Path

    def __call__(self, *arguments: str, stdin: str | None = None, remedy: str = "see its message") -> str:
        """Run it and return what it prints; ClusterError if it fails."""
        done = subprocess.run(
            [self.program, *arguments],
            input=stdin,
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ClusterError(f"kubectl {arguments[0]}: {done.stderr.strip()}", remedy=remedy)
        return done.stdout


def install(cluster: Cluster) -> Kubectl:
    """Bring appfn onto the cluster, or up to date there."""
    builder = cluster.builder()
    for image in IMAGES:
        builder.build(image.tag, image.folder / "Dockerfile", image.folder)
    renewed = [image.tag for image in IMAGES if cluster.load(image.tag)]
    kubectl = Kubectl(binaries.kubectl(), cluster.kubeconfig)
    with step("custom resources, operator, shim"):
        _apply(kubectl, restart=IMAGES[0].tag in renewed)
    return kubectl


def _apply(kubectl: Kubectl, *, restart: bool) -> None:
    existed = bool(kubectl("get", "namespace", SYSTEM, "--ignore-not-found", "-o", "name"))
    kubectl("apply", "--server-side", "-k", str(ROOT / "crds"))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(ROOT / "crds"), "-R")
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "manifests" / "local"))
    workloads = ("statefulset/appfn-shim", "deployment/appfn-operator")
    if existed and restart:
        kubectl("-n", SYSTEM, "rollout", "restart", *workloads)
    for workload in workloads:
        kubectl(
            "-n", SYSTEM, "rollout", "status", workload, "--timeout=120s",
            remedy=f"look with kubectl -n {SYSTEM} describe pods",
        )  # fmt: skip
