"""appfn on a cluster: its images, its manifests, its processes ready."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcluster import binaries
from localcluster.archive import full_reference
from localcluster.environment import build_environment
from localcluster.errors import ClusterError
from localcluster.providers import Cluster
from localcluster.steps import step

ROOT = Path(__file__).parents[1]
SYSTEM = "appfn-system"
VERSION = "0.1.0"
KINDS = ("functions", "deployments", "executions", "runtimes")
WORKLOADS = ("statefulset/appfn-shim", "deployment/appfn-operator")


@dataclass(frozen=True, slots=True)
class Image:
    """An image of this repository, which is the context of all of them."""

    tag: str
    dockerfile: Path


IMAGES = (
    Image(f"appfn/appfn:{VERSION}", ROOT / "Dockerfile"),
    Image("appfn/runtime-node:20.0", ROOT / "runtimes" / "node" / "Dockerfile"),
    Image("appfn/runtime-python:3.13", ROOT / "runtimes" / "python" / "Dockerfile"),
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
        builder.build(image.tag, image.dockerfile, ROOT, force=False)
    references = {image.tag: cluster.load(image.tag) for image in IMAGES}
    kubectl = Kubectl(binaries.kubectl(), cluster.kubeconfig)
    with step("custom resources, operator, shim"):
        _apply(kubectl, references, image_id=builder.image_id(full_reference(IMAGES[0].tag)))
    return kubectl


def _apply(kubectl: Kubectl, references: Mapping[str, str], *, image_id: str) -> None:
    kubectl("apply", "--server-side", "-k", str(ROOT / "crds"))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{kind}.appfn.dev" for kind in KINDS))
    manifests = kubectl("kustomize", str(ROOT / "manifests" / "local"))
    for tag, reference in references.items():
        manifests = re.sub(rf"(?:docker\.io/)?{re.escape(tag)}\b", reference, manifests)
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifests)
    # The tag stays the same while the code changes: what makes the pods new is the image's id on their template.
    template = {"spec": {"template": {"metadata": {"annotations": {"appfn.dev/image-id": image_id}}}}}
    for workload in WORKLOADS:
        kubectl("-n", SYSTEM, "patch", workload, "--type=merge", "-p", json.dumps(template))
    for workload in WORKLOADS:
        kubectl(
            "-n", SYSTEM, "rollout", "status", workload, "--timeout=120s",
            remedy=f"look with kubectl -n {SYSTEM} describe pods",
        )  # fmt: skip


def build_config_maps(namespace: str) -> list[dict[str, object]]:
    """Return the ConfigMaps that lead builds in a project to this machine's package mirrors; none where it has none."""
    environment = build_environment()
    found = {"appfn-build-env": environment.variables}
    if environment.authorities is not None:
        found["appfn-build-ca"] = {"ca-certificates.crt": environment.authorities}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}
        for name, data in found.items()
        if data
    ]
