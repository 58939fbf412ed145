"""Helm at a real API server: docs/install.md works as pasted, and whatever values add is taken."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import binaries
from localcluster.controlplane import ControlPlane
from support.helm import ROOT, SYSTEM
from support.kubectl import Json, Kubectl

GUIDE = (ROOT / "docs" / "install.md").read_text()
BY_HELM = "app.kubernetes.io/managed-by=Helm,app.kubernetes.io/part-of=appfn"
ELSEWHERE = "functions"
RUNTIMES = 26
PLACED: Json = {
    "podAnnotations": {"example.com/a": "1"},
    "serviceAccountAnnotations": {"example.com/role": "appfn"},
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "system", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "extraEnv": [{"name": "AWS_REGION", "valueFrom": {"configMapKeyRef": {"name": "cloud", "key": "region"}}}],
}
VALUES: Json = {
    "image": {"repository": "registry.example.com/appfn", "tag": "v2", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "config": {"APPFN_ARTIFACTS_URL": "s3://bucket", "APPFN_FLUSH_SECONDS": 0.5, "APPFN_MAX_UPLOADS_BYTES": 1 << 30},
    "operator": PLACED | {"replicas": 2},
    "shim": PLACED
    | {
        "replicas": 2,
        "processes": 2,
        "databaseSecret": {"name": "postgresql"},
        "persistence": {"size": "20Gi", "storageClassName": "fast"},
    },
}
"""Each value of the chart but those that leave something out."""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run a control plane of its own, as what is installed and removed here is the whole cluster's."""
    with ControlPlane.start(tmp_path_factory.mktemp("helm")) as started:
        yield started


@pytest.fixture
def kubectl(plane: ControlPlane) -> Iterator[Kubectl]:
    """Return kubectl; the release of the test goes with it."""
    program = Kubectl(program=str(binaries.kubectl()), kubeconfig=plane.kubeconfig, namespace=SYSTEM)
    yield program
    for namespace in (SYSTEM, ELSEWHERE):
        paste(f"helm uninstall appfn --namespace {namespace} --ignore-not-found", program)


def commands(heading: str) -> str:
    """Return what a reader pastes from one section of the guide."""
    section = GUIDE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL))


def paste(script: str, kubectl: Kubectl) -> str:
    """Run it in one shell at the top of the repository; return what it prints, warnings too."""
    path = os.pathsep.join([str(binaries.helm().parent), str(binaries.kubectl().parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=ROOT,
        env=kubectl.environment() | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def shim_environment(kubectl: Kubectl) -> dict[str, str]:
    (container,) = kubectl.get("statefulset", "appfn-shim")["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


def test_the_commands_for_helm_install_and_change_a_release_without_a_warning(kubectl: Kubectl) -> None:
    said = paste(commands("With Helm"), kubectl)

    assert "warning" not in said.lower()
    assert shim_environment(kubectl)["APPFN_RETENTION_DAYS"] == "30"
    assert shim_environment(kubectl)["APPFN_IMAGE"] == "registry.example.com/appfn:0.1.0"
    assert len(kubectl.list("runtimes")) == RUNTIMES


def test_a_release_that_is_uninstalled_leaves_definitions_functions_and_keys(kubectl: Kubectl) -> None:
    paste("helm install appfn charts/appfn --namespace appfn-system --create-namespace", kubectl)
    function = {"apiVersion": "appfn.dev/v1alpha1", "kind": "Function", "metadata": {"name": "kept"}}
    kubectl.within("default").apply(function | {"spec": {"runtime": "node-20.0"}})
    kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "appfn-keys"}})

    paste("helm uninstall appfn --namespace appfn-system", kubectl)

    assert kubectl.within("default").get("functions", "kept")
    assert kubectl.get("secret", "appfn-keys")
    assert kubectl.list("runtimes") == []


def test_what_was_installed_by_kustomize_becomes_a_release_that_can_be_changed(kubectl: Kubectl) -> None:
    paste(commands("With kustomize"), kubectl)
    paste("helm upgrade appfn charts/appfn --namespace appfn-system --set shim.processes=2 --force-conflicts", kubectl)

    assert len(kubectl.list("runtimes", "-l", BY_HELM)) == RUNTIMES
    assert shim_environment(kubectl)["APPFN_PROCESSES"] == "2"


def test_the_notes_make_a_project_that_trusts_the_namespace_of_the_release(kubectl: Kubectl) -> None:
    said = paste(f"helm install appfn charts/appfn --namespace {ELSEWHERE} --create-namespace", kubectl)

    paste(said.split("what manifests/project holds:\n", 1)[1].split("An upgrade", 1)[0], kubectl)

    project = kubectl.within("demo")
    subjects = [subject for item in project.list("rolebindings") for subject in item["subjects"]]
    assert {subject["namespace"] for subject in subjects} == {ELSEWHERE}
    assert SYSTEM not in json.dumps(project.list("networkpolicies"))


def test_the_guide_makes_a_project(kubectl: Kubectl) -> None:
    paste(commands("Projects"), kubectl)

    assert len(kubectl.within("shop").list("rolebindings")) == 2


def test_what_all_values_together_come_to_is_taken_without_a_warning(kubectl: Kubectl, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps(VALUES))
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "full", "labels": labels}})
    paste("kubectl apply --server-side -k crds; kubectl wait --for=condition=Established crd --all", kubectl)

    said = paste(
        f"helm template appfn charts/appfn --namespace full --values {file} "
        "| kubectl apply --server-side --dry-run=server -f -",
        kubectl,
    )

    assert "statefulset.apps/appfn-shim serverside-applied (server dry run)" in said
    assert "warning" not in said.lower()
