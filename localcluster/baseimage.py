"""``debian:<suite>-slim`` made from Debian's packages, for where no registry can be reached."""

import re
import shutil
import tempfile
from pathlib import Path

from localcluster import aptsources, archive, commands, paths
from localcluster.errors import ClusterError
from localcluster.steps import step

_REFERENCE = re.compile(r"docker\.io/library/debian:([a-z]+)-slim")
_UNNEEDED = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian")
_CACHES = ("var/cache/apt", "var/lib/apt/lists", "var/log")
_EXCLUDED = "".join(f"path-exclude /{directory}/*\n" for directory in _UNNEEDED)
_SLIM = _EXCLUDED + "path-include /usr/share/doc/*/copyright\n"
_NO_SERVICES = "#!/bin/sh\nexit 101\n"
_APT = """\
APT::Install-Suggests "false";
Acquire::Languages "none";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };
"""
_KEYRINGS = Path("/usr/share/keyrings")


def debian_suite(reference: str) -> str | None:
    """``trixie`` for ``docker.io/library/debian:trixie-slim``; None for other images."""
    found = _REFERENCE.fullmatch(reference)
    return found[1] if found else None


def archive_path(suite: str) -> Path:
    """Where the image is kept once it was made, as `docker save` would write it."""
    return paths.cache() / "images" / f"debian-{suite}-slim.tar"


def ensure(suite: str) -> Path:
    """Make the image unless it was made before. Raises ClusterError."""
    target = archive_path(suite)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with step(f"debian:{suite}-slim from packages"), tempfile.TemporaryDirectory(dir=target.parent) as work:
            _make(suite, Path(work), target)
    return target


def _make(suite: str, work: Path, target: Path) -> None:
    root, layer, unfinished = work / "root", work / "layer.tar", work / "image.tar"
    sources = aptsources.read()
    _bootstrap(suite, root, aptsources.debian_mirror(sources))
    _slim_down(root)
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    (root / "etc/apt/sources.list.d/debian.sources").write_text(apt_sources(suite, sources))
    owners = ["--numeric-owner", "--sort=name", "--xattrs", "--one-file-system"]
    commands.run(["tar", *owners, "-C", str(root), "--exclude=./dev/*", "--exclude=./proc/*", "-cf", str(layer), "."])
    shutil.rmtree(root)
    environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    tag = f"docker.io/library/debian:{suite}-slim"
    archive.write(archive.Image(tag=tag, config={"Cmd": ["bash"], "Env": environment}), layer, unfinished)
    unfinished.rename(target)


def apt_sources(suite: str, sources: list[aptsources.Source]) -> str:
    """The image's debian.sources: this machine's mirrors, all updates."""
    signed = "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    main = f"Types: deb\nURIs: {aptsources.debian_mirror(sources)}\nSuites: {suite} {suite}-updates\n"
    security = f"Types: deb\nURIs: {aptsources.security_mirror(sources)}\nSuites: {suite}-security\n"
    return f"{main}Components: main\n{signed}\n{security}Components: main\n{signed}"


def _bootstrap(suite: str, root: Path, mirror: str) -> None:
    keyring = _KEYRINGS / "debian-archive-keyring.gpg"
    if not keyring.exists():
        raise ClusterError("Debian's keys are missing", remedy="install the package debian-archive-keyring")
    # Unsigned packages are never an option: --force-check-gpg fails where the default would only warn.
    options = ["--variant=minbase", "--force-check-gpg", f"--keyring={keyring}"]
    remedy = f"see that debootstrap and debian-archive-keyring are new enough for {suite}"
    commands.run(["debootstrap", *options, suite, str(root), mirror], remedy=remedy)


def _slim_down(root: Path) -> None:
    """Do as the official slim images do: no documentation, no translations, no caches, no services."""
    (root / "etc/dpkg/dpkg.cfg.d/docker").write_text(_SLIM)
    (root / "etc/apt/apt.conf.d/docker").write_text(_APT)
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text(_NO_SERVICES)
    policy.chmod(0o755)
    for directory in (*_UNNEEDED, *_CACHES):
        for path in sorted((root / directory).rglob("*"), reverse=True):
            if path.name != "copyright" and (path.is_symlink() or not path.is_dir()):
                path.unlink()
    for directory in ("usr/share/doc", "usr/share/man", "usr/share/locale"):
        for path in sorted((root / directory).rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
                path.rmdir()
