"""How long a build without dependencies takes: from the apply of a Deployment to its Ready.

PYTHONPATH=tests APPFN_E2E_KUBECONFIG=… APPFN_E2E_KUBECTL=… python bench/build_no_deps.py

Every Deployment has source of its own, so that none is found built already. Times are those at which a watch tells;
the API's own time stamps are whole seconds.
"""

import argparse
import http.client
import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.e2e import deployment, function, new_project
from support.kubectl import Json, Kubectl

DEPLOYMENTS = 12
"""Of each runtime: few, so that all benchmarks together take twenty minutes."""
GOAL_SECONDS = 3.0
AGENT_IMAGE = "appfn/appfn:0.1.0"
_WITHIN = 60.0
_LONGEST_PAUSE = 1.5
"""Pauses are random: fixed ones lock onto the kubelet's ticks."""
_APPFN = "/apis/appfn.dev/v1alpha1"
_BATCH = "/apis/batch/v1"
_CORE = "/api/v1"
_WATCHED = {"Deployment": _APPFN, "Function": _APPFN, "Job": _BATCH, "Pod": _CORE}
_PYTHON = "def main(req, res):\n    return res.send('ok')  # {salt}\n"
_NODE = "module.exports = async (req, res) => res.send('ok'); // {salt}\n"
RUNTIMES = {"python": ("python-3.13", "main.py", _PYTHON), "node": ("node-20.0", "index.js", _NODE)}
STAGES = ("job", "pod", "scheduled", "reported", "ready", "active")
"""What is seen of a build, in order: its Job made, its pod made, bound, the agent's report on it, the Deployment Ready,
the Function's `activeDeployment`."""
KUBELET = ("running", "ended")
"""What the kubelet tells, once a second, beside that."""
REPORT = "appfn.dev/build-report"


@dataclass(slots=True)
class Seen:
    """When something was first true of an object, by (kind, name, what); monotonic seconds."""

    times: dict[tuple[str, str, str], float] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def note(self, kind: str, name: str, facts: Sequence[str]) -> None:
        """Take note of what is true now."""
        now = time.monotonic()
        with self.changed:
            for fact in facts:
                self.times.setdefault((kind, name, fact), now)
            self.changed.notify_all()

    def wait(self, kind: str, name: str, fact: str) -> float:
        """Return when it was first true; TimeoutError if it does not come true."""
        with self.changed:
            if not self.changed.wait_for(lambda: (kind, name, fact) in self.times, timeout=_WITHIN):
                known = sorted(key for key in self.times if key[1].startswith(name))
                raise TimeoutError(f"{kind} {name} is not {fact} within {_WITHIN:g} s; seen: {known}")
            return self.times[kind, name, fact]


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """One namespace of the API server, by way of `kubectl proxy`."""

    port: int
    namespace: str

    def create(self, body: Json) -> None:
        """Create an object."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        path = self._path(_WATCHED[body["kind"]], body["kind"])
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status >= http.HTTPStatus.MULTIPLE_CHOICES:
            raise RuntimeError(f"{path}: {text.decode()}")

    def watch(self, kind: str, seen: Seen) -> None:
        """Note what becomes true of all objects of a kind, for good, in a thread."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", self._path(_WATCHED[kind], kind) + "?watch=1")
        answer = connection.getresponse()

        def follow() -> None:
            while line := answer.readline():
                body = json.loads(line)["object"]
                if "metadata" in body:
                    seen.note(kind, _build_of(body), _FACTS[kind](body))

        threading.Thread(target=follow, daemon=True).start()

    def _path(self, group: str, kind: str) -> str:
        return f"{group}/namespaces/{self.namespace}/{kind.lower()}s"


def _build_of(body: Json) -> str:
    """Return the name under which an object's times are kept: the Deployment's or Function's, or that of a bare Job."""
    metadata = body["metadata"]
    labels = metadata.get("labels") or {}
    return str(labels.get("appfn.dev/deployment") or labels.get("batch.kubernetes.io/job-name") or metadata["name"])


def _of_deployment(body: Json) -> list[str]:
    conditions = body.get("status", {}).get("conditions", [])
    return [f"{entry['type']}={entry['status']}" for entry in conditions]


def _of_function(body: Json) -> list[str]:
    return [f"active={body.get('status', {}).get('activeDeployment', '')}"]


def _of_job(body: Json) -> list[str]:
    conditions = body.get("status", {}).get("conditions") or []
    return ["made", *(entry["type"] for entry in conditions if entry["status"] == "True")]


def _of_pod(body: Json) -> list[str]:
    status = body.get("status", {})
    facts = ["made"] + (["scheduled"] if body["spec"].get("nodeName") else [])
    states = [entry.get("state", {}) for entry in status.get("containerStatuses") or []]
    if any({"running", "terminated"} & set(state) for state in states):
        facts.append("running")
    if states and all("terminated" in state for state in states):
        facts += ["ended", "reported"]
    if REPORT in (body["metadata"].get("annotations") or {}):
        facts.append("reported")
    return facts


_FACTS: Mapping[str, Callable[[Json], list[str]]] = {
    "Deployment": _of_deployment,
    "Function": _of_function,
    "Job": _of_job,
    "Pod": _of_pod,
}


def run(*, deployments: int = DEPLOYMENTS) -> list[dict[str, Any]]:
    """Measure so many builds of each runtime, and as many bare Jobs; return one row a figure.

    `spread` holds the quartiles; `baseline` is the same percentile of a bare Job from its creation to Complete.
    """
    admin = Kubectl(program=os.environ["APPFN_E2E_KUBECTL"], kubeconfig=Path(os.environ["APPFN_E2E_KUBECONFIG"]))
    with new_project(admin) as project, _proxied(project) as api:
        seen = Seen()
        for kind in _WATCHED:
            api.watch(kind, seen)
        for language, (runtime, _, _) in RUNTIMES.items():
            api.create(function(language, runtime=runtime))
        bare: list[float] = []
        builds: dict[str, list[Mapping[str, float]]] = {language: [] for language in RUNTIMES}
        for number in range(deployments):
            for language in RUNTIMES:
                _pause()
                builds[language].append(_build(api, seen, language, number))
            _pause()
            bare.append(_bare_job(api, seen, number))
    return [row for language in RUNTIMES for row in _rows(language, builds[language], bare)]


def _rows(language: str, builds: Sequence[Mapping[str, float]], bare: Sequence[float]) -> Iterator[dict[str, Any]]:
    ready = [times["ready"] for times in builds]
    for percent in (50, 95):
        yield _row(f"build_no_deps {language} p{percent}", ready, percent, bare)
    before = "apply"
    for stage in STAGES:
        took = [times[stage] - times.get(before, 0.0) for times in builds]
        yield _row(f"build_no_deps {language} {before} → {stage}, p50", took, 50)
        before = stage
    for stage in KUBELET:
        took = [times[stage] for times in builds]
        yield _row(f"build_no_deps {language} apply → {stage} in the pod's status, p50", took, 50)


def _row(name: str, samples: Sequence[float], percent: int, baseline: Sequence[float] = ()) -> dict[str, Any]:
    value = percentile(samples, percent)
    compared = percentile(baseline, percent) if baseline else None
    return {
        "name": name,
        "unit": "s",
        "value": round(value, 3),
        "baseline": None if compared is None else round(compared, 3),
        "ratio": None if compared is None else round(value / compared, 2),
        "n": len(samples),
        "spread": [round(percentile(samples, quartile), 3) for quartile in (25, 75)],
    }


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of the samples do not exceed (nearest rank)."""
    return sorted(samples)[max(0, math.ceil(percent / 100 * len(samples)) - 1)]


def _build(api: Api, seen: Seen, language: str, number: int) -> dict[str, float]:
    """Apply one Deployment; return the seconds after which each stage was seen."""
    _, file, code = RUNTIMES[language]
    name = f"{language}-{number}"
    source = {"inline": {"files": {file: code.format(salt=random.random())}}}  # noqa: S311 - only to be unlike the others
    begun = time.monotonic()
    api.create(deployment(language, source, name=name))
    found = {
        "ready": seen.wait("Deployment", name, "Ready=True"),
        "active": seen.wait("Function", language, f"active={name}"),
        "job": seen.wait("Job", name, "made"),
        "pod": seen.wait("Pod", name, "made"),
        "scheduled": seen.wait("Pod", name, "scheduled"),
        "reported": seen.wait("Pod", name, "reported"),
        "running": seen.wait("Pod", name, "running"),
        "ended": seen.wait("Pod", name, "ended"),
    }
    return {stage: at - begun for stage, at in found.items()}


def _bare_job(api: Api, seen: Seen, number: int) -> float:
    """Return how long a Job takes that does nothing, in one container of the agent's image."""
    name = f"bare-{number}"
    container = {
        "name": "true",
        "image": AGENT_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["true"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    pod = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
    spec = {"backoffLimit": 0, "template": {"spec": pod}}
    begun = time.monotonic()
    api.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})
    return seen.wait("Job", name, "Complete") - begun


def _pause() -> None:
    time.sleep(random.uniform(0.2, _LONGEST_PAUSE))  # noqa: S311 - no secret


@contextmanager
def _proxied(project: Kubectl) -> Iterator[Api]:
    command = [project.program, "proxy", "--port=0"]
    process = subprocess.Popen(command, env=project.environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # Starting to serve on 127.0.0.1:PORT
        yield Api(port=int(line.rsplit(":", 1)[1]), namespace=project.namespace)
    finally:
        process.terminate()
        process.wait(timeout=10)


def main(arguments: Sequence[str]) -> int:
    """Print the table; 1 where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--deployments", type=int, default=DEPLOYMENTS, help="of each runtime")
    rows = run(deployments=parser.parse_args(arguments).deployments)
    print(f"{'':68} {'value':>8} {'baseline':>8} {'ratio':>6} {'n':>3}  quartiles")
    for row in rows:
        baseline, ratio = ("" if row[key] is None else row[key] for key in ("baseline", "ratio"))
        print(f"{row['name']:68} {row['value']:>8} {baseline:>8} {ratio:>6} {row['n']:>3}  {row['spread']}")
    return int(any(row["value"] > GOAL_SECONDS for row in rows if row["name"].endswith(("node p95", "python p95"))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
