"""manifests/ at a real API server: all of it is taken, without a warning, and gives the rights it says and no more."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appfn.api.base import Json
from appfn.api.deployment import Deployment
from appfn.api.function import Function
from appfn.api.kinds import (
    CONFIG_MAP,
    CRON_JOB,
    DEPLOYMENT,
    EXECUTION,
    FUNCTION,
    JOB,
    LEASE,
    NODE,
    POD,
    RUNTIME,
    SECRET,
    Key,
    Kind,
)
from appfn.kube.client import connect
from appfn.kube.protocols import TokenIdentity
from localcluster import binaries
from localcluster.controlplane import ControlPlane

ROOT = Path(__file__).parents[3]
SYSTEM = "appfn-system"
PROJECT = "demo"
ELSEWHERE = "default"
"""A namespace that is no project."""
OPERATOR, SHIM = (
    TokenIdentity(
        username=f"system:serviceaccount:{SYSTEM}:appfn-{name}",
        groups=("system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}", "system:authenticated"),
        uid="",
        pod="",
    )
    for name in ("operator", "shim")
)
BUILD = TokenIdentity(
    username=f"system:serviceaccount:{PROJECT}:appfn-build", groups=("system:authenticated",), uid="", pod=""
)
WORKLOAD = Kind(group="apps", version="v1", plural="deployments", name="Deployment")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run a control plane of its own, as the installation holds cluster-scoped objects that other tests would see."""
    with ControlPlane.start(tmp_path_factory.mktemp("manifests")) as plane:
        apply(plane, "crds")
        kubectl(
            plane,
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            "crd",
            "-l",
            "app.kubernetes.io/part-of=appfn",
        )
        yield plane


@pytest.fixture(scope="module")
def warnings(installed: ControlPlane) -> str:
    """Apply everything; return what the API server had to say about it."""
    return apply(installed, "manifests/local") + apply(installed, "manifests/samples")


def kubectl(plane: ControlPlane, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(binaries.kubectl()), "--kubeconfig", str(plane.kubeconfig), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def apply(plane: ControlPlane, folder: str, *arguments: str) -> str:
    """Apply a kustomization as a user would; return what kubectl says besides the names."""
    return kubectl(plane, "apply", "--server-side", "-k", str(ROOT / folder), *arguments).stderr


async def read(plane: ControlPlane, kind: Kind, namespace: str, name: str) -> Json:
    async with connect(plane.kubeconfig) as cluster:
        found = await cluster.get(kind, Key(namespace, name))
    assert found is not None
    return found


def test_everything_is_taken_without_a_warning(warnings: str) -> None:
    assert warnings == ""  # Pod Security would warn of a pod template that is not of the namespace's profile


async def test_the_samples_arrive_as_functions(installed: ControlPlane, warnings: str) -> None:
    for name, runtime in (("hello-node", "node-20.0"), ("hello-python", "python-3.13")):
        function = Function.parse(await read(installed, FUNCTION, PROJECT, name))
        deployment = Deployment.parse(await read(installed, DEPLOYMENT, PROJECT, f"{name}-v1"))

        assert function.spec.runtime == runtime
        assert deployment.spec.function_ref.name == name


async def test_the_overlay_asks_for_little(installed: ControlPlane, warnings: str) -> None:
    operator = await read(installed, WORKLOAD, SYSTEM, "appfn-operator")
    runtime = await read(installed, RUNTIME, "", "node-20.0")

    (container,) = operator["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"]["cpu"] == "10m"
    assert runtime["spec"]["resources"]["requests"]["cpu"] == "10m"


async def test_another_image_reaches_the_pods_of_projects_too(installed: ControlPlane, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    base = (ROOT / "manifests" / "base" / "kustomization.yaml").read_text()
    replacements = base[base.index("replacements:") :]
    link = tmp_path / "appfn"
    link.symlink_to(ROOT)
    (overlay / "kustomization.yaml").write_text(
        "resources: [../appfn/manifests/base]\n"
        "images: [{name: appfn/appfn, newName: registry.example.com/appfn, newTag: '2'}]\n" + replacements
    )

    rendered = kubectl(installed, "kustomize", "--load-restrictor=LoadRestrictionsNone", str(overlay)).stdout

    assert rendered.count("registry.example.com/appfn:2") == 4


def test_an_execution_can_be_created_again_and_again(installed: ControlPlane, warnings: str) -> None:
    sample = str(ROOT / "manifests" / "samples" / "execution.yaml")

    first, second = (kubectl(installed, "create", "-f", sample, "-o", "name").stdout for _ in range(2))

    assert first != second


def test_a_quota_is_taken(installed: ControlPlane, warnings: str) -> None:
    assert apply(installed, "manifests/quota", "--namespace", ELSEWHERE) == ""


@pytest.mark.parametrize(
    ("who", "verb", "kind", "namespace", "name", "allowed"),
    [
        (OPERATOR, "watch", FUNCTION, "", "", True),
        (OPERATOR, "watch", POD, "", "", True),
        (OPERATOR, "list", NODE, "", "", True),
        (OPERATOR, "patch", DEPLOYMENT, PROJECT, "", True),
        (OPERATOR, "patch", DEPLOYMENT, ELSEWHERE, "", False),
        (OPERATOR, "create", EXECUTION, PROJECT, "", True),
        (OPERATOR, "create", EXECUTION, ELSEWHERE, "", False),
        (OPERATOR, "create", JOB, PROJECT, "", True),
        (OPERATOR, "create", JOB, ELSEWHERE, "", False),
        (OPERATOR, "patch", CRON_JOB, PROJECT, "", True),
        (OPERATOR, "delete", CRON_JOB, ELSEWHERE, "", False),
        (OPERATOR, "get", CONFIG_MAP, PROJECT, "any", True),
        (OPERATOR, "list", CONFIG_MAP, PROJECT, "", False),
        (OPERATOR, "get", SECRET, PROJECT, "any", False),
        (OPERATOR, "get", SECRET, SYSTEM, "appfn-keys", False),
        (OPERATOR, "create", POD, PROJECT, "", False),
        (OPERATOR, "delete", FUNCTION, PROJECT, "", False),
        (OPERATOR, "patch", LEASE, SYSTEM, "appfn-operator", True),
        (OPERATOR, "patch", LEASE, SYSTEM, "other", False),
        (OPERATOR, "patch", LEASE, ELSEWHERE, "appfn-operator", False),
        (SHIM, "watch", FUNCTION, "", "", True),
        (SHIM, "watch", POD, "", "", False),
        (SHIM, "watch", POD, PROJECT, "", True),
        (SHIM, "create", POD, PROJECT, "", True),
        (SHIM, "create", POD, ELSEWHERE, "", False),
        (SHIM, "create", POD, SYSTEM, "", False),
        (SHIM, "get", SECRET, PROJECT, "any", True),
        (SHIM, "list", SECRET, PROJECT, "", False),
        (SHIM, "watch", SECRET, PROJECT, "", False),
        (SHIM, "get", SECRET, ELSEWHERE, "any", False),
        (SHIM, "get", SECRET, SYSTEM, "appfn-keys", True),
        (SHIM, "get", SECRET, SYSTEM, "other", False),
        (SHIM, "create", JOB, PROJECT, "", False),
        (BUILD, "get", SECRET, PROJECT, "any", False),
        (BUILD, "get", POD, PROJECT, "", False),
        (BUILD, "list", FUNCTION, PROJECT, "", False),
    ],
)
async def test_who_may_do_what(
    installed: ControlPlane,
    warnings: str,
    who: TokenIdentity,
    verb: str,
    kind: Kind,
    namespace: str,
    name: str,
    *,
    allowed: bool,
) -> None:
    async with connect(installed.kubeconfig) as cluster:
        assert await cluster.review_access(who, verb=verb, kind=kind, namespace=namespace, name=name) is allowed
