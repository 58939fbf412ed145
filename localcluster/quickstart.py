"""What ``make up`` does: a cluster, appfn on it, the sample functions, an answer."""

import json
import time
from pathlib import Path

from localcluster.errors import ClusterError
from localcluster.install import ROOT, SYSTEM, Kubectl, build_config_maps, install
from localcluster.providers import Cluster
from localcluster.steps import step

PROJECT = "demo"
SAMPLES = ("hello-node", "hello-python")
_READY_WITHIN = 300.0
_ANSWER_WITHIN = 90.0


def quickstart(cluster: Cluster) -> None:
    """Make everything and show it."""
    begun = time.monotonic()
    cluster.up()
    kubectl = install(cluster)
    with step(f"sample functions in namespace {PROJECT}"):
        _samples(kubectl)
    answers = {name: _ask(kubectl, name) for name in SAMPLES}
    _show(answers, kubectl, time.monotonic() - begun)


def _samples(kubectl: Kubectl) -> None:
    samples = ROOT / "manifests" / "samples"
    kubectl("apply", "--server-side", "-f", str(samples / "namespace.yaml"))
    for manifest in build_config_maps(PROJECT):
        kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(manifest))
    kubectl("apply", "--server-side", "-k", str(samples))
    for name in SAMPLES:
        kubectl(
            "-n", PROJECT, "wait", f"function/{name}", "--for=condition=Ready", f"--timeout={_READY_WITHIN:.0f}s",
            remedy=f"look with kubectl -n {PROJECT} describe fn,fdep",
        )  # fmt: skip


def _ask(kubectl: Kubectl, function: str) -> str:
    """Run a function by an Execution resource and return its response."""
    manifest = {
        "apiVersion": "appfn.dev/v1alpha1",
        "kind": "Execution",
        "metadata": {"generateName": f"{function}-", "namespace": PROJECT},
        "spec": {"functionRef": {"name": function}, "data": "from make up", "ttlSecondsAfterFinished": 3600},
    }
    with step(f"a call of {function}"):
        name = kubectl("create", "-f", "-", "-o", "name", stdin=json.dumps(manifest)).strip()
        kubectl(
            "-n", PROJECT, "wait", name, "--for=condition=Succeeded", f"--timeout={_ANSWER_WITHIN:.0f}s",
            remedy=f"look with kubectl -n {PROJECT} describe {name}",
        )  # fmt: skip
    response = kubectl("-n", PROJECT, "get", name, "-o", "jsonpath={.status.response}")
    if not response:
        raise ClusterError(f"{name} has no response", remedy=f"look with kubectl -n {PROJECT} describe {name}")
    return response


def _show(answers: dict[str, str], kubectl: Kubectl, seconds: float) -> None:
    for function, answer in answers.items():
        print(f"\n{function} answered\n  {answer}")
    print(
        f"""
Ready after {seconds:.0f} s. Try next:

  export KUBECONFIG={kubectl.kubeconfig} PATH={Path(kubectl.program).parent}:$PATH
  kubectl -n {PROJECT} get fn,fdep,exec
  kubectl -n {PROJECT} create -f manifests/samples/execution.yaml
  kubectl -n {PROJECT} describe fn hello-node
  kubectl -n {SYSTEM} get pods

The README's "First function by hand" goes on from here; `make down` removes all of it."""
    )
