"""Helm as a user runs it, and what charts and kustomizations come to."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from localcluster import binaries

Json = dict[str, Any]
Objects = dict[tuple[str, str, str], Json]
"""Objects by kind, namespace and name."""

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "appfn"
SYSTEM = "appfn-system"


class HelmError(Exception):
    """Helm ended with an error; the text is what it said."""


def helm(*arguments: str) -> str:
    """Run Helm and return what it prints; HelmError with its message if it fails."""
    done = subprocess.run([binaries.helm(), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HelmError(done.stdout + done.stderr)
    return done.stdout


def rendered(*arguments: str, namespace: str = SYSTEM, chart: Path = CHART) -> Objects:
    """Return what a chart installs, definitions of custom resources too."""
    return by_name(helm("template", "appfn", str(chart), "--namespace", namespace, "--include-crds", *arguments))


def kustomized(folder: str) -> Objects:
    """Return what a kustomization of the repository installs."""
    command = [str(binaries.kubectl()), "kustomize", str(ROOT / folder)]
    return by_name(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def by_name(documents: str) -> Objects:
    """Return the objects of a stream of YAML; none may be there twice."""
    found: Objects = {}
    for item in filter(None, yaml.safe_load_all(documents)):
        meta = item["metadata"]
        key = (item["kind"], meta.get("namespace", ""), meta["name"])
        assert key not in found, key
        found[key] = item
    return found
