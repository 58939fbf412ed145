"""Sources of deployments: the tarball of small text sources, and what a build is told of where its code is."""

import base64
import binascii
import gzip
import hashlib
import io
import tarfile
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from appfn.api.base import Json
from appfn.api.deployment import Deployment, GitSource
from appfn.core.problem import BuildReason, Problem
from appfn.errors import InvalidSpecError

MAX_PATH = 1024
"""Bytes of a file's path."""
MAX_COMPONENT = 255
"""Bytes of one part of it."""
_FILE_MODE = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSource:
    """A source as a build sees it."""

    spec: Json = field(default_factory=dict)
    """APPFN_SOURCE: an artifact, a URL or a git folder."""
    digest: str = ""
    """Digest of the code; empty for git, where only the build learns it."""
    tarball: bytes | None = field(default=None, repr=False)
    """What must be in the artifact store before the build; None where it is there or comes from elsewhere."""
    problem: Problem | None = None


def resolve(deployment: Deployment, config_map: Mapping[str, Any] | None) -> ResolvedSource:
    """Return what the build works from. `config_map` is the object a `configMapRef` names, None where it is missing.

    A ConfigMap is looked at once: `status.sourceDigest` then says what the deployment is.
    """
    source = deployment.spec.source
    if source.artifact is not None:
        return _artifact(source.artifact.digest)
    if source.http is not None:
        return ResolvedSource(spec={"http": source.http.to_json()}, digest=f"sha256:{source.http.sha256}")
    if source.git is not None:
        return ResolvedSource(spec={"git": _git(source.git)})
    if source.inline is not None:
        files = {name: text.encode() for name, text in source.inline.files.items()}
        return _packed(files, path="spec.source.inline.files")
    if source.config_map_ref is not None:
        return _config_map(deployment, source.config_map_ref.name, config_map)
    return ResolvedSource(problem=Problem.failed(BuildReason.INVALID_SOURCE, "spec.source: say where the code is"))


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return the gzip tarball of the files; the same bytes for the same files, whatever their order."""
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            member.mode = _FILE_MODE
            archive.addfile(member, io.BytesIO(files[name]))
    return raw.getvalue()


def digest(content: bytes) -> str:
    """Return `sha256:` and the hex digest."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def check_names(names: Iterable[str], *, path: str) -> None:
    """Refuse names that a file system or an unpacker could read as another place or as the same file.

    Raises:
        InvalidSpecError: naming the first such name.
    """
    seen: dict[str, str] = {}
    for name in sorted(names):
        if wrong := _wrong(name):
            raise InvalidSpecError(f"{path}[{name!r}]", wrong)
        plain = unicodedata.normalize("NFC", name).casefold()
        if plain in seen:
            raise InvalidSpecError(
                f"{path}[{name!r}]", f"is the same file as {seen[plain]!r} on many systems; rename one"
            )
        seen[plain] = name
    for plain, name in seen.items():
        parts = plain.split("/")
        folder = next(
            (seen["/".join(parts[:end])] for end in range(1, len(parts)) if "/".join(parts[:end]) in seen), None
        )
        if folder is not None:
            raise InvalidSpecError(
                f"{path}[{name!r}]", f"{folder!r} is a file and cannot also be its folder; rename one"
            )


def _wrong(name: str) -> str:
    if not name or name.startswith("/") or "\\" in name:
        return "must be a relative path with forward slashes, such as `src/index.js`"
    if any(unicodedata.category(char) in {"Cc", "Cs"} for char in name):
        return "must not contain control characters"
    if any(part in {"", ".", ".."} for part in name.split("/")):
        return "must not contain empty parts, `.` or `..`"
    if len(name.encode()) > MAX_PATH or any(len(part.encode()) > MAX_COMPONENT for part in name.split("/")):
        return f"is too long: at most {MAX_PATH} bytes, and {MAX_COMPONENT} between slashes"
    return ""


def _artifact(value: str) -> ResolvedSource:
    return ResolvedSource(spec={"artifact": {"digest": value}}, digest=value)


def _git(source: GitSource) -> Json:
    """Return the folder to fetch; the Secret is mounted, its name only serves the message when it is missing."""
    spec: Json = {"url": source.url, "ref": source.ref, "path": source.path}
    return spec | ({"secret": source.secret_ref.name} if source.secret_ref is not None else {})


def _packed(files: Mapping[str, bytes], *, path: str) -> ResolvedSource:
    try:
        check_names(files, path=path)
    except InvalidSpecError as error:
        return ResolvedSource(problem=Problem.failed(BuildReason.INVALID_SOURCE, str(error)))
    tarball = pack(files)
    value = digest(tarball)
    return ResolvedSource(spec={"artifact": {"digest": value}}, digest=value, tarball=tarball)


def _config_map(deployment: Deployment, name: str, body: Mapping[str, Any] | None) -> ResolvedSource:
    if deployment.status.source_digest:
        return _artifact(deployment.status.source_digest)
    if body is None:
        message = f"ConfigMap {name} does not exist in {deployment.metadata.namespace}; create it and the build starts"
        return ResolvedSource(problem=Problem.waiting(BuildReason.SOURCE_UNAVAILABLE, message))
    path = f"ConfigMap {name}"
    files = {key: text.encode() for key, text in (body.get("data") or {}).items()}
    for key, text in (body.get("binaryData") or {}).items():
        try:
            files[key] = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            message = f"{path}: binaryData[{key!r}] is not base64: {error}"
            return ResolvedSource(problem=Problem.failed(BuildReason.INVALID_SOURCE, message))
    return _packed(files, path=path)
