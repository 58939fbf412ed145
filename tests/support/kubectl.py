"""kubectl as a user runs it: the e2e tests see what a person sees."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.polling import wait_for

Json = dict[str, Any]


class KubectlError(Exception):
    """kubectl ended with an error; the text is what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """One cluster, as its administrator."""

    program: str
    kubeconfig: Path
    namespace: str = "default"

    def within(self, namespace: str) -> "Kubectl":
        """Return the same for another namespace."""
        return Kubectl(program=self.program, kubeconfig=self.kubeconfig, namespace=namespace)

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Run kubectl and return what it prints; KubectlError with its message if it fails."""
        done = subprocess.run(
            [self.program, "--namespace", self.namespace, *arguments],
            input=stdin,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise KubectlError(done.stderr.strip())
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Return the environment that leads kubectl to the cluster."""
        return os.environ | {"KUBECONFIG": str(self.kubeconfig)}

    def apply(self, *manifests: Json) -> None:
        """Apply manifests together."""
        if not manifests:
            return
        self("apply", "--server-side", "-f", "-", stdin="\n---\n".join(map(json.dumps, manifests)))

    def get(self, kind: str, name: str) -> Json:
        """Return an object."""
        found: Json = json.loads(self("get", kind, name, "-o", "json"))
        return found

    def list(self, kind: str, *selectors: str) -> list[Json]:
        """Return the objects of a kind."""
        found: list[Json] = json.loads(self("get", kind, "-o", "json", *selectors))["items"]
        return found

    def wait_condition(self, kind: str, name: str, condition: str, *, within: float = 60.0) -> Json:
        """Return the object when it has a condition (`Ready=True`, or `Ready=False:Reason`)."""
        type_, _, wanted = condition.partition("=")
        status, _, reason = wanted.partition(":")

        def probe() -> Json | None:
            found = self.get(kind, name)
            match = next((c for c in conditions(found) if c["type"] == type_), None)
            assert match is not None, f"{kind}/{name} has no condition {type_}: {conditions(found)}"
            assert match["status"] == status, match
            assert not reason or match["reason"] == reason, match
            return found

        return wait_for(probe, within=within)

    @contextmanager
    def port_forward(self, target: str, port: int) -> Iterator[int]:
        """Yield a local port that leads to `target` (such as `svc/appfn-shim`)."""
        process = subprocess.Popen(
            [self.program, "--namespace", self.namespace, "port-forward", target, f":{port}"],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "->" in line, f"port-forward said {line!r}"
            yield int(line.split("->")[0].rsplit(":", 1)[1])
        finally:
            process.terminate()
            process.wait(timeout=10)
            if process.stdout is not None:
                process.stdout.close()


def conditions(body: Json) -> Sequence[Json]:
    """Return the conditions of an object."""
    found: Sequence[Json] = body.get("status", {}).get("conditions", [])
    return found


def condition(body: Json, type_: str) -> Json:
    """Return one condition of an object."""
    return next(item for item in conditions(body) if item["type"] == type_)
