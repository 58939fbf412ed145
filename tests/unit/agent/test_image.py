"""The agent as runtimes' images bring it: a part of the package, without what others install."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def let_in(image: str) -> list[str]:
    """Return the paths that an image's build can see."""
    lines = (ROOT / "runtimes" / image / "Dockerfile.dockerignore").read_text().splitlines()
    return [line[1:] for line in lines if line.startswith("!")]


@pytest.mark.parametrize("image", ["node", "python"])
def test_the_agent_in_a_runtimes_image_has_all_that_it_imports(image: str, tmp_path: Path) -> None:
    for name in (path for path in let_in(image) if path.startswith("operator/")):
        copy, source = tmp_path / Path(name).relative_to("operator"), ROOT / name
        copy.parent.mkdir(exist_ok=True)
        shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)

    command = [sys.executable, "-P", "-S", "-m", "appfn", "agent"]
    asked = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    imports = [*command[:3], "-c", "import appfn.agent.server"]
    subprocess.run(imports, env={"PYTHONPATH": str(tmp_path)}, check=True)

    assert (asked.returncode, asked.stderr) == (2, "usage: python -m appfn agent serve|build\n")


@pytest.mark.parametrize("image", ["node", "python"])
def test_all_that_a_runtimes_image_copies_is_let_in(image: str) -> None:
    dockerfile = (ROOT / "runtimes" / image / "Dockerfile").read_text()
    copied = [part for line in dockerfile.splitlines() if line.startswith("COPY ") for part in line.split()[1:-1]]

    assert copied
    assert [path for path in copied if not any(Path(path).is_relative_to(entry) for entry in let_in(image))] == []
    assert [path for path in copied if not (ROOT / path).exists()] == []
