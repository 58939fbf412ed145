"""Container images put together without a builder: a file or a root file system, and how to run it."""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localcluster.errors import ClusterError

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture() -> str:
    """This machine's architecture, by the name images use."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise ClusterError(f"no cluster can be made on {machine}", remedy="use an amd64 or arm64 machine")
    return _ARCHITECTURES[machine]


def full_reference(tag: str) -> str:
    """``tag`` as every tool writes it: with registry, repository and version."""
    first, _, rest = tag.partition("/")
    is_registry = bool(rest) and ("." in first or ":" in first or first == "localhost")
    if not is_registry:
        tag = f"docker.io/{tag}" if rest else f"docker.io/library/{tag}"
    return tag if ":" in tag.rpartition("/")[2] else f"{tag}:latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image of one layer: its name, and the ``config`` object of the OCI image specification."""

    tag: str
    config: dict[str, Any] = field(default_factory=dict)


def file_layer(program: Path, layer: Path) -> None:
    """Write a layer with ``program`` as ``/<name>``, executable by all, always the same bytes."""
    entry = tarfile.TarInfo(program.name)
    entry.size = program.stat().st_size
    entry.mode = 0o755
    with tarfile.open(layer, "w") as tar, program.open("rb") as content:
        tar.addfile(entry, content)


def write(image: Image, layer: Path, target: Path) -> str:
    """Write ``image`` with ``layer`` (a tar) to ``target`` as `docker save` would; its image id."""
    config = _config(image, _sha256(layer))
    digest = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{digest}.json", "RepoTags": [image.tag], "Layers": ["layer.tar"]}]
    with tarfile.open(target, "w") as tar:
        _add(tar, f"{digest}.json", config)
        _add(tar, "manifest.json", json.dumps(manifest).encode())
        entry = tarfile.TarInfo("layer.tar")
        entry.size = layer.stat().st_size
        with layer.open("rb") as content:
            tar.addfile(entry, content)
    return f"sha256:{digest}"


def entrypoint(command: Sequence[str], user: str) -> dict[str, Any]:
    """Config of an image that runs ``command``."""
    return {"Entrypoint": list(command), "User": user}


def _config(image: Image, layer_digest: str) -> bytes:
    document = {
        "architecture": architecture(),
        "os": "linux",
        "config": image.config,
        # Builders that put layers on top insist on one entry for each layer below.
        "history": [{"created_by": "appfn localcluster"}],
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
    }
    return json.dumps(document, sort_keys=True).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
