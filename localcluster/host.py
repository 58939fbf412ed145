"""What the cluster needs of its host, and Debian packages that bring it."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from localcluster import commands, paths
from localcluster.errors import ClusterError
from localcluster.steps import step

NEEDED_FREE_BYTES = 8 * 1024**3

_SERVICE_POLICY = Path("/usr/sbin/policy-rc.d")
_SYSTEMD = Path("/run/systemd/system")
_FORBIDDEN = "#!/bin/sh\n# appfn: packages are being installed, their services must not start\nexit 101\n"


def installed_record() -> Path:
    """Where the names of packages we installed are kept, until they are removed again."""
    return paths.SYSTEM_STATE / "packages.json"


def require_root() -> None:
    """Raise ClusterError unless we are root."""
    if os.geteuid() != 0:
        raise ClusterError(
            "a cluster on this machine needs root, as no Docker daemon answers",
            remedy="run it with sudo, start Docker, or name a cluster in APPFN_KUBECONFIG",
        )


def require_disk(directory: Path) -> None:
    """Raise ClusterError unless the file system of ``directory`` has room."""
    existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < NEEDED_FREE_BYTES:
        raise ClusterError(
            f"{existing} has {free / 1024**3:.1f} GiB free and 8 GiB are needed",
            remedy="free some disk space",
        )


def ensure_packages(packages: Sequence[str]) -> None:
    """Install the Debian packages that are missing, without starting their services.

    Raises ClusterError if that takes root or apt and there is none.
    """
    missing = sorted(set(packages) - installed())
    if not missing:
        return
    wanted = " ".join(missing)
    if os.geteuid() != 0 or commands.find("apt-get") is None:
        raise ClusterError(f"these packages are missing: {wanted}", remedy="install them")
    with step(f"apt-get install {wanted}"):
        _install(missing)


def ours() -> list[str]:
    """The packages that we installed and that are still there, dependencies included."""
    try:
        recorded = json.loads(installed_record().read_text())
    except FileNotFoundError:
        return []
    return sorted(set(recorded) & installed())


def purge() -> None:
    """Remove the packages that we installed."""
    packages = ours()
    if packages:
        with step(f"apt-get purge of {len(packages)} packages"):
            _apt("purge", packages)
    installed_record().unlink(missing_ok=True)


def installed() -> set[str]:
    """Names of all packages that are installed."""
    if commands.find("dpkg-query") is None:
        return set()
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}${Package}\n"]
    lines = commands.run(command).splitlines()
    return {line[3:] for line in lines if line.startswith("ii ")}


def _install(missing: Sequence[str]) -> None:
    before = installed()
    units = _enabled_units()
    with _services_kept_off():
        try:
            _apt("install", missing)
        except ClusterError:
            # The host's package lists may be absent or older than its mirror.
            commands.run(["apt-get", "update"], remedy="check /etc/apt/sources.list")
            _apt("install", missing)
    for unit in _enabled_units() - units:
        commands.run(["systemctl", "disable", "--quiet", unit])
    _remember(installed() - before)


def _apt(action: str, packages: Sequence[str]) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", action, "--yes", "--quiet", "--no-install-recommends", *packages]
    commands.run(command, env=env, remedy=f"run `apt-get {action}` of them yourself")


def _remember(packages: set[str]) -> None:
    record = installed_record()
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(sorted(packages | set(ours()))) + "\n")


def _enabled_units() -> set[str]:
    if not _SYSTEMD.is_dir():
        return set()
    command = ["systemctl", "list-unit-files", "--state=enabled", "--no-legend", "--plain"]
    return {line.split()[0] for line in commands.run(command).splitlines() if line.strip()}


@contextmanager
def _services_kept_off() -> Iterator[None]:
    """Let no package start its service: Debian's own switch for that, unless it is set already."""
    if _SERVICE_POLICY.exists():
        yield
        return
    _SERVICE_POLICY.write_text(_FORBIDDEN)
    _SERVICE_POLICY.chmod(0o755)
    try:
        yield
    finally:
        _SERVICE_POLICY.unlink()
