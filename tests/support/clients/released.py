"""The releases of Appwrite's clients that appfn is held to, and how each is installed."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import assert_never

from localcluster import paths

CLIENTS = Path(__file__).parents[2] / "clients"
_RECIPE = 1
"""Raised when the way of installing changes, so that what was installed otherwise is not taken."""


class Kind(Enum):
    """Ways to drive a client."""

    NODE = "node"
    WEB = "web"
    PYTHON = "python"
    CLI = "cli"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One client.

    Attributes:
        kind: how it is driven.
        package: its name at npm or PyPI.
        version: its version there.
        old: whether it speaks the API of Appwrite 1.0 to 1.3, the days of `data`, `response` and `stdout`.
    """

    kind: Kind
    package: str
    version: str
    old: bool

    @property
    def title(self) -> str:
        """What the documentation calls it."""
        names = {Kind.NODE: "node", Kind.WEB: "web", Kind.PYTHON: "Python", Kind.CLI: "CLI"}
        return f"{names[self.kind]} {self.version}"

    @property
    def slug(self) -> str:
        """The id of what it makes."""
        return f"{self.kind.value}-{self.version.replace('.', '-')}"

    @property
    def folder(self) -> Path:
        """Where its lock file is."""
        registry = "pypi-" if self.kind is Kind.PYTHON else ""
        return CLIENTS / f"{registry}{self.package}-{self.version}"


ALL = (
    Release(kind=Kind.NODE, package="node-appwrite", version="8.2.0", old=True),
    Release(kind=Kind.NODE, package="node-appwrite", version="27.1.0", old=False),
    Release(kind=Kind.WEB, package="appwrite", version="10.2.0", old=True),
    Release(kind=Kind.WEB, package="appwrite", version="27.0.0", old=False),
    Release(kind=Kind.PYTHON, package="appwrite", version="1.2.0", old=True),
    Release(kind=Kind.PYTHON, package="appwrite", version="27.0.0", old=False),
    Release(kind=Kind.CLI, package="appwrite-cli", version="1.2.1", old=True),
    Release(kind=Kind.CLI, package="appwrite-cli", version="12.0.1", old=False),
)


class InstallError(Exception):
    """A client could not be installed; the message has what its package manager said."""


def install(release: Release) -> Path:
    """Return the folder of an installed client: from the cache, or installed now as its lock file says."""
    target = paths.cache() / "clients" / f"{release.folder.name}-{_digest(release.folder)}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run of the tests may install it right now
        if not target.exists():
            _install(release, target)
    return target


def _digest(folder: Path) -> str:
    digest = hashlib.sha256(f"{_RECIPE} {sys.version_info[:2]}".encode())
    for file in sorted(folder.iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _install(release: Release, target: Path) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    try:
        shutil.copytree(release.folder, unfinished, dirs_exist_ok=True)
        match release.kind:
            case Kind.NODE | Kind.WEB | Kind.CLI:
                _run(release, ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], unfinished)
            case Kind.PYTHON:
                _install_python(release, unfinished)
            case _:
                assert_never(release.kind)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _install_python(release: Release, folder: Path) -> None:
    """Install into the folder itself, which then may be renamed, as an environment may not."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-build-isolation"]
    build = folder / "build.lock"
    environment = dict(os.environ)
    if build.exists():  # what is published as source alone is built with tools that are locked too
        tools = folder / "tools"
        _run(release, [*pip, "--target", str(tools), "-r", str(build)], folder)
        environment["PYTHONPATH"] = str(tools)
    packages = str(folder / "packages")
    _run(release, [*pip, "--target", packages, "-r", str(folder / "requirements.lock")], folder, environment)


def _run(release: Release, command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-2000:]
        raise InstallError(f"{release.package} {release.version} could not be installed (is there a network?):\n{said}")
