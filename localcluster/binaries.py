"""The programs built from Go modules, cached by what they are built from."""

import fcntl
import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localcluster import commands, golang_toolchain, paths
from localcluster.errors import ClusterError
from localcluster.steps import step

KUBERNETES_VERSION = "v1.34.4"

_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
_HELM_PACKAGES = ("helm.sh/helm/v4/pkg/chart/common", "helm.sh/helm/v4/pkg/chart/v2/lint/rules")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A directory of Go sources, and the names by which its binary is called."""

    module: str
    names: tuple[str, ...]
    linker_flags: tuple[str, ...] = ()

    @property
    def sources(self) -> Path:
        """Where its ``main.go``, ``go.mod`` and ``go.sum`` are."""
        return paths.SOURCES / self.module


def version_flags(version: str) -> tuple[str, ...]:
    """Linker flags without which Kubernetes calls itself v0.0.0-master."""
    major, minor, _ = version.removeprefix("v").split(".")
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return tuple(f"-X {p}.{key}={value}" for p in _VERSION_PACKAGES for key, value in values.items())


def helm_flags(version: str) -> tuple[str, ...]:
    """Linker flags without which Helm checks and renders charts for Kubernetes 1.20."""
    major, minor, _ = version.removeprefix("v").split(".")
    values = {"k8sVersionMajor": major, "k8sVersionMinor": minor}
    return tuple(f"-X {p}.{key}={value}" for p in _HELM_PACKAGES for key, value in values.items())


KUBE = Program(
    module="kube",
    names=(
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
        "kubectl",
        "kubelet",
    ),
    linker_flags=version_flags(KUBERNETES_VERSION),
)
COREDNS = Program(module="coredns", names=("coredns",))
PAUSE = Program(module="pause", names=("pause",))
HELM = Program(module="helm", names=("helm",), linker_flags=helm_flags(KUBERNETES_VERSION))


def ensure(program: Program) -> Path:
    """The directory with ``program`` under each of its names; builds it if it must."""
    go = golang_toolchain.ensure()
    target = paths.cache() / "bin" / f"{program.module}-{_key(program, go)}"
    if not target.is_dir():
        with _only_builder(program):
            if not target.is_dir():
                _build(program, go, target)
    return target


def kubectl() -> Path:
    """Path of a kubectl of the cluster's own version; its name outlives rebuilds."""
    return _stable(ensure(KUBE) / "kubectl")


def helm() -> Path:
    """Path of a Helm; its name outlives rebuilds."""
    return _stable(ensure(HELM) / "helm")


def _stable(wanted: Path) -> Path:
    stable = paths.cache() / "bin" / wanted.name
    if not stable.is_symlink() or stable.readlink() != wanted:
        fresh = stable.with_name(f"{stable.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(wanted)
        fresh.rename(stable)
    return stable


def _key(program: Program, go: Path) -> str:
    digest = hashlib.sha256(repr((program, golang_toolchain.version(go))).encode())
    for source in sorted(program.sources.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _only_builder(program: Program) -> Iterator[None]:
    """Two test runs that start at once build a program once."""
    directory = paths.cache() / "bin"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"{program.module}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(program: Program, go: Path, target: Path) -> None:
    with step(f"Go modules of {program.module}"):
        total = len(_packages(program, go))
    unfinished = target.with_suffix(".new")
    unfinished.mkdir(parents=True, exist_ok=True)
    log = unfinished.with_suffix(".log")
    with step(f"{program.module} built from source", lambda: _compiled(log, total)):
        _compile(program, go, unfinished / program.module, log)
    for name in program.names:
        if name != program.module:
            (unfinished / name).unlink(missing_ok=True)
            (unfinished / name).symlink_to(program.module)
    log.unlink()
    unfinished.rename(target)


def _packages(program: Program, go: Path) -> list[str]:
    command = [str(go), "list", "-deps", "."]
    remedy = "check that the Go module proxy can be reached (GOPROXY)"
    env = golang_toolchain.environment()
    return commands.run(command, cwd=program.sources, env=env, remedy=remedy).splitlines()


def _compile(program: Program, go: Path, output: Path, log: Path) -> None:
    linker = " ".join(("-s", "-w", *program.linker_flags))
    command = [str(go), "build", "-v", "-trimpath", "-ldflags", linker]
    with log.open("wb") as stderr:
        done = subprocess.run(
            [*command, "-o", str(output), "."],
            cwd=program.sources,
            env=golang_toolchain.environment(),
            stderr=stderr,
            check=False,
        )
    if done.returncode != 0:
        raise ClusterError(f"building {program.module} failed", remedy=f"read {log}")


def _compiled(log: Path, total: int) -> str:
    """What ``go build -v`` has done so far: it names each package once compiled.

    Packages that the build cache holds are not named, so the count may end short of the total.
    """
    count = sum(1 for line in log.open(errors="replace") if not line.startswith("go: "))
    return f"{count} of up to {total} packages"
