"""Manifests and small steps that the e2e tests share."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from support.appwrite import Appwrite
from support.kubectl import Json, Kubectl
from support.polling import wait_for

ROOT = Path(__file__).parents[2]


@contextmanager
def new_project(admin: Kubectl) -> Iterator[Kubectl]:
    """Yield a project of its own, made with the manifests users have; it is deleted in the end."""
    name = f"e2e-{secrets.token_hex(3)}"
    labels = {"appfn.dev/project": name, "pod-security.kubernetes.io/enforce": "restricted"}
    admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    inside = admin.within(name)
    inside("apply", "--server-side", "-k", str(ROOT / "manifests" / "project"))
    try:
        yield inside
    finally:
        admin("delete", "namespace", name, "--wait=false")


def make_key(project: Kubectl, *scopes: str) -> str:
    """Make an API key as the README says, and return it."""
    arguments = [argument for scope in scopes for argument in ("--scope", scope)]
    made = subprocess.run(
        [sys.executable, "-m", "appfn", "key", "--namespace", project.namespace, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT / "operator")},
        capture_output=True,
        text=True,
        check=True,
    )
    project.apply(yaml.safe_load(made.stdout))
    return next(word for word in made.stderr.split() if word.startswith("appfn_"))


def function(name: str, *, runtime: str = "python-3.13", **spec: object) -> Json:
    """Return the manifest of a Function."""
    body = {"runtime": runtime, **spec}
    return {"apiVersion": "appfn.dev/v1alpha1", "kind": "Function", "metadata": {"name": name}, "spec": body}


def deployment(function_name: str, source: Json, *, name: str = "", **spec: object) -> Json:
    """Return the manifest of a Deployment."""
    return {
        "apiVersion": "appfn.dev/v1alpha1",
        "kind": "Deployment",
        "metadata": {"name": name or f"{function_name}-v1"},
        "spec": {"functionRef": {"name": function_name}, "source": source, **spec},
    }


def finished(api: Appwrite, name: str, execution: str, *, within: float = 60) -> Json:
    """Return an execution when it is terminal."""

    def probe() -> Json | None:
        answer = api.execution(name, execution)
        assert answer.status == 200, answer
        return answer.body if answer.body["status"] in {"completed", "failed"} else None

    return wait_for(probe, within=within)
