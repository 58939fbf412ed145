"""Images from ordinary Dockerfiles, built again only when something changed."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from localcluster import archive, baseimage, commands, containers, paths, processes
from localcluster.environment import host_apt_settings, package_environment
from localcluster.errors import ClusterError
from localcluster.steps import say, step

KEY_LABEL = "appfn.dev/build-key"

_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)", re.MULTILINE | re.IGNORECASE)
_STAGE = re.compile(r"^\s*FROM\s+.*\s+AS\s+(\S+)\s*$", re.MULTILINE | re.IGNORECASE)
_LOCAL_AUTHORITIES = Path("/usr/local/share/ca-certificates")


class Builder(Protocol):
    """Builds images and keeps them."""

    def build(self, tag: str, dockerfile: Path, context: Path, *, force: bool) -> None:
        """Build ``tag`` unless it was built from the very same files. Raises ClusterError."""

    def image_id(self, reference: str) -> str:
        """``sha256:…`` of the image's config. Raises ClusterError if it was never built."""

    def save(self, reference: str, target: Path) -> None:
        """Write the image as `docker save` does."""

    def push(self, tag: str, reference: str) -> None:
        """Push a built image under another name to that name's registry."""


def bases(dockerfile: str) -> list[str]:
    """The images a Dockerfile stands on: those of its FROM lines that are no stages of its own."""
    stages = {stage.lower() for stage in _STAGE.findall(dockerfile)}
    named = dict.fromkeys(_FROM.findall(dockerfile))
    return [name for name in named if name.lower() not in stages and name.lower() != "scratch" and "$" not in name]


def build_key(dockerfile: Path, context: Path, base_ids: Mapping[str, str]) -> str:
    """Digest of all that goes into an image: Dockerfile, context, bases, the host's package settings.

    Of the context the files count that git doesn't ignore; of one outside git, all. And of these the ones that the
    Dockerfile's own list of what to ignore, or else the context's, lets in.
    """
    digest = hashlib.sha256(dockerfile.read_bytes())
    digest.update(json.dumps([sorted(base_ids.items()), sorted(package_environment().items())]).encode())
    for name in _context_files(context, ignore_file(dockerfile, context)):
        path = context / name
        if path.is_file():
            mode = path.stat().st_mode & 0o111
            digest.update(f"{name}\0{mode}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def ignore_file(dockerfile: Path, context: Path) -> Path:
    """Where a build is told what to ignore: `<Dockerfile>.dockerignore`, or the context's .dockerignore."""
    own = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
    return own if own.exists() else context / ".dockerignore"


@dataclass(frozen=True, slots=True)
class Buildah:
    """Buildah with a store of its own, so that the host's images are left alone."""

    def build(self, tag: str, dockerfile: Path, context: Path, *, force: bool) -> None:
        """Build ``tag``; bases that can't be pulled are made from Debian packages."""
        reference = archive.full_reference(tag)
        base_ids = {base: self._ensure_base(base) for base in bases(dockerfile.read_text())}
        key = build_key(dockerfile, context, base_ids)
        if not force and self._label(reference) == key:
            say(f"{tag}: nothing changed")
            return
        with step(f"{tag} built"):
            # --layers: an edit of the sources doesn't install the packages again.
            options = ["--layers", "--pull=false", "--isolation=chroot", f"--label={KEY_LABEL}={key}"]
            options += [*_build_arguments(), f"--tag={reference}", f"--file={dockerfile}"]
            if (ignored := ignore_file(dockerfile, context)).exists():  # releases before 1.29 know the context's alone
                options.append(f"--ignorefile={ignored}")
            self._run(f"--default-mounts-file={_lent()}", "build", *options, str(context))

    def image_id(self, reference: str) -> str:
        """See Builder."""
        inspected = self._inspect(reference)
        if inspected is None:
            raise ClusterError(f"no image {reference} was built", remedy="build it with `build-image`")
        return f"sha256:{str(inspected['FromImageID']).removeprefix('sha256:')}"

    def save(self, reference: str, target: Path) -> None:
        """See Builder."""
        self._run("push", "--quiet", reference, f"docker-archive:{target}:{reference}")

    def push(self, tag: str, reference: str) -> None:
        """See Builder."""
        self._run("push", "--quiet", archive.full_reference(tag), f"docker://{reference}")

    def release(self) -> None:
        """Undo mounts that an aborted build left, and forget run state; not while a build runs."""
        store, run = _store(), paths.SYSTEM_RUN / "buildah"
        if not processes.matching(lambda process: any(str(run) in part for part in process.argv)):
            containers.unmount_below(store, run)
            shutil.rmtree(run, ignore_errors=True)

    def _ensure_base(self, base: str) -> str:
        reference = archive.full_reference(base)
        if self._inspect(reference) is None:
            self._bring(reference)
        return self.image_id(reference)

    def _bring(self, reference: str) -> None:
        suite = baseimage.debian_suite(reference)
        if suite is None or baseimage.archive_path(suite).exists() or not self._pulled(reference):
            if suite is None:
                remedy = "use debian:<suite>-slim as base, or let this machine reach a registry"
                raise ClusterError(f"{reference} can't be pulled and is no Debian base", remedy=remedy)
            self._run("pull", "--quiet", f"docker-archive:{baseimage.ensure(suite)}")

    def _pulled(self, reference: str) -> bool:
        with step(f"{reference} from its registry, if one answers"):
            command = self._command("pull", "--quiet", "--retry=0", f"docker://{reference}")
            return commands.attempt(["timeout", "120", *command]).returncode == 0

    def _inspect(self, reference: str) -> Mapping[str, object] | None:
        done = commands.attempt(self._command("inspect", "--type=image", reference))
        return None if done.returncode != 0 else dict(json.loads(done.stdout))

    def _label(self, reference: str) -> str | None:
        template = f'{{{{index .OCIv1.Config.Labels "{KEY_LABEL}"}}}}'
        done = commands.attempt(self._command("inspect", "--type=image", f"--format={template}", reference))
        return done.stdout.strip() if done.returncode == 0 else None

    def _run(self, *arguments: str) -> str:
        return commands.run(self._command(*arguments), env=_environment())

    def _command(self, *arguments: str) -> list[str]:
        store = [f"--root={_store() / 'storage'}", f"--runroot={paths.SYSTEM_RUN / 'buildah'}"]
        driver = "overlay" if containers.overlays_work(_store()) else "vfs"
        return ["buildah", *store, f"--storage-driver={driver}", f"--registries-conf={_registries()}", *arguments]


@dataclass(frozen=True, slots=True)
class Docker:
    """The Docker daemon's own builder and store."""

    def build(self, tag: str, dockerfile: Path, context: Path, *, force: bool) -> None:
        """Build ``tag``; Docker's cache decides what to do again."""
        with step(f"{tag} built"):
            options = [*(["--no-cache"] if force else []), *_build_arguments(), f"--tag={tag}", f"--file={dockerfile}"]
            commands.run(["docker", "build", "--quiet", *options, str(context)])

    def image_id(self, reference: str) -> str:
        """See Builder."""
        remedy = f"build it with `build-image --tag {reference}`"
        return commands.run(["docker", "image", "inspect", "--format={{.Id}}", reference], remedy=remedy).strip()

    def save(self, reference: str, target: Path) -> None:
        """See Builder."""
        commands.run(["docker", "save", f"--output={target}", reference])

    def push(self, tag: str, reference: str) -> None:
        """See Builder."""
        commands.run(["docker", "tag", tag, reference])
        commands.run(["docker", "push", "--quiet", reference])


def _context_files(context: Path, ignored: Path) -> list[str]:
    """Names of the files a build can see: what git knows, or all, and an allow-list in `ignored` lets in."""
    listed = commands.attempt(["git", "-C", str(context), "ls-files", "-co", "--exclude-standard", "-z"])
    if listed.returncode == 0:
        found = sorted(name for name in listed.stdout.split("\0") if name)
    else:
        found = sorted(str(path.relative_to(context)) for path in context.rglob("*") if path.is_file())
    allowed = _allow_list(ignored)
    return [name for name in found if allowed is None or any(Path(name).is_relative_to(entry) for entry in allowed)]


def _allow_list(dockerignore: Path) -> list[str] | None:
    """What a .dockerignore that starts by ignoring everything lets in; None for any other, or none."""
    lines = [line.strip() for line in dockerignore.read_text().splitlines()] if dockerignore.exists() else []
    rules = [line for line in lines if line and not line.startswith("#")]
    return [rule[1:] for rule in rules if rule.startswith("!")] if rules[:1] == ["*"] else None


def _build_arguments() -> list[str]:
    return [f"--build-arg={name}={value}" for name, value in sorted(package_environment().items())]


def _lent() -> Path:
    """List of what the host needs to reach its package mirrors, lent to RUN steps and not kept in the image.

    Authorities are lent as sources of Debian's ca-certificates: a step that installs
    that package makes a bundle with them. With `--volume` instead, buildah would use no cached layer.
    """
    lent = []
    if _LOCAL_AUTHORITIES.is_dir() and any(_LOCAL_AUTHORITIES.glob("*.crt")):
        lent.append(f"{_LOCAL_AUTHORITIES}:{_LOCAL_AUTHORITIES}")
    settings = host_apt_settings()
    if settings:
        path = paths.cache() / "apt-host.conf"
        path.write_text(settings)
        lent.append(f"{path}:/etc/apt/apt.conf.d/99host")
    mounts = paths.cache() / "mounts.conf"
    mounts.write_text("".join(f"{line}\n" for line in lent))
    return mounts


def _store() -> Path:
    return paths.cache() / "containers"


def _registries() -> Path:
    path = _store() / "registries.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text('unqualified-search-registries = ["docker.io"]\n')
    return path


def _environment() -> dict[str, str]:
    return {**os.environ, "TMPDIR": "/var/tmp"}  # noqa: S108 - buildah makes its own below
