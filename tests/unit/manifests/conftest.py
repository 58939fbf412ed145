"""The YAML files as they lie in the repository; tests/integration/crds has what an API server makes of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Json = dict[str, Any]
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def documents() -> Callable[[str], list[Json]]:
    """Return all objects of a file, or of the files of a folder that are not kustomizations."""

    def load(place: str) -> list[Json]:
        path = ROOT / place
        files = [path] if path.is_file() else sorted(path.rglob("*.yaml"))
        found = [item for file in files for item in yaml.safe_load_all(file.read_text())]
        return [item for item in found if item["kind"] != "Kustomization"]

    return load


@pytest.fixture(scope="session")
def everything(documents: Callable[[str], list[Json]]) -> list[Json]:
    """Return every object of manifests/."""
    return documents("manifests")
