"""Pods of our own beside appfn's, as baselines, and what functions of benchmarks are made of."""

import contextlib
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.harness import Context
from bench.load import OK, Call, Line
from support.e2e import deployment, function
from support.kubectl import Json, Kubectl
from support.polling import wait_for

NODE = "node-20.0"
PYTHON = "python-3.13"
ENTRYPOINTS = {NODE: "index.js", PYTHON: "main.py"}
CODE = {
    NODE: "module.exports = async (req, res) => res.send('ok');\n",
    PYTHON: "def main(req, res):\n    return res.send('ok')\n",
}
SLEEPING = """module.exports = async (req, res) => {{
  await new Promise((go) => setTimeout(go, {milliseconds}));
  res.send('ok');
}};
"""
"""Node code that takes its time without using the CPU."""
RUNTIME_PORT = 3000
_START = (
    'mkdir /appfn/code && printf %s "$CODE" >"/appfn/code/$ENTRYPOINT" && mkfifo /appfn/start '
    '&& (printf %s "$START" >/appfn/start &) && exec /usr/local/src/start.sh'
)
_SECURITY: Json = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def image(context: Context, runtime: str) -> str:
    """Return the image of a Runtime on this machine."""
    images = context.admin.get("runtimes.appfn.dev", runtime)["spec"]["images"]
    architecture = context.admin.list("nodes")[0]["status"]["nodeInfo"]["architecture"]
    return next(str(item["image"]) for item in images if item["architecture"] == architecture)


def bare_pod(name: str, image_name: str, command: Sequence[str], environment: dict[str, str], **spec: Any) -> Json:
    """Return the manifest of a pod with nothing but a container."""
    container = {
        "name": "bare",
        "image": image_name,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "securityContext": _SECURITY,
        **spec.pop("container", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "enableServiceLinks": False,
            "containers": [container],
            **spec,
        },
    }


@contextmanager
def direct_pod(context: Context, project: Kubectl, code: str) -> Iterator[Call]:
    """Yield a call to a pod of the Node image that was loaded by hand: nothing of appfn in the way."""
    key, name = secrets.token_hex(16), f"direct-{secrets.token_hex(3)}"
    start = {"entrypoint": ENTRYPOINTS[NODE], "key": key, "env": {}, "code": "/appfn/code"}
    shared = {"name": "appfn", "emptyDir": {}}
    project.apply(
        bare_pod(
            name,
            image(context, NODE),
            ["sh", "-c", _START],
            {"CODE": code, "ENTRYPOINT": ENTRYPOINTS[NODE], "START": json.dumps(start)},
            container={"volumeMounts": [{"name": "appfn", "mountPath": "/appfn"}]},
            volumes=[shared],
        )
    )
    try:
        address = wait_for(lambda: project.get("pod", name)["status"].get("podIP", ""), within=60)
        # What the shim sends for a call without data.
        body = json.dumps({"variables": {}, "payload": "", "headers": {}}, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "x-internal-challenge": key}
        call = Call(address=(address, RUNTIME_PORT), path="/", headers=headers, body=body)
        wait_for(lambda: answers(call), within=60)
        yield call
    finally:
        project("delete", "pod", name, "--wait=false")


def answers(call: Call, status: int = OK) -> bool:
    """Tell whether a call is answered well."""
    with contextlib.suppress(OSError), Line(call.address) as line:
        return line.post(call.bytes()).status == status
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A function to be made."""

    name: str
    runtime: str = NODE
    code: str = ""
    spec: dict[str, object] | None = None


def deploy(project: Kubectl, *wanted: Wanted, within: float = 180) -> None:
    """Make functions and return when all are ready; the first alone, so that the others find its build."""
    for batch in (wanted[:1], wanted[1:]):
        manifests: list[Json] = []
        for item in batch:
            manifests.append(function(item.name, runtime=item.runtime, **(item.spec or {})))
            code = item.code or CODE[item.runtime]
            manifests.append(deployment(item.name, {"inline": {"files": {ENTRYPOINTS[item.runtime]: code}}}))
        project.apply(*manifests)
        if batch:
            project(
                "wait",
                "fn",
                *(item.name for item in batch),
                "--for=condition=Ready",
                f"--timeout={within:g}s",
                timeout=within + 10,
            )


@dataclass(frozen=True, slots=True)
class Process:
    """Memory of the shim's processes, in MiB, as its container sees them."""

    now: float
    peak: float


_MEMORY = """
import pathlib
totals = {"VmRSS": 0, "VmHWM": 0}
for status in pathlib.Path("/proc").glob("[0-9]*/status"):
    try:
        for line in status.read_text().splitlines():
            name, _, value = line.partition(":")
            if name in totals:
                totals[name] += int(value.split()[0])
    except OSError:
        pass
print(totals["VmRSS"], totals["VmHWM"])
"""


def shim_memory(system: Kubectl) -> Process:
    """Return what the shim's container uses, the asking process (some MiB) in it."""
    now, peak = system("exec", "appfn-shim-0", "-c", "shim", "--", "python", "-c", _MEMORY).split()
    return Process(now=int(now) / 1024, peak=int(peak) / 1024)
