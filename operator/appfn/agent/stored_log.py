"""Putting a build's whole log into the artifact store."""

import hashlib
import tempfile
from collections.abc import Iterable
from typing import BinaryIO

from appfn.agent.layout import Layout
from appfn.agent.shim import ShimClient, ShimError, StoredFile

MAX_LOG = 8 << 20
"""Bytes kept of a build command's output: its beginning and, larger, its end."""
KEPT_HEAD = 1 << 20


def store_log(shim: ShimClient, namespace: str, layout: Layout, parts: Iterable[bytes]) -> StoredFile | None:
    """Upload the parts as one file; None where that fails, as a lost log must not turn a good build into a bad one."""
    sha256 = hashlib.sha256()
    with tempfile.TemporaryFile(dir=layout.root) as file:
        for part in parts:
            sha256.update(part)
            file.write(part)
        try:
            return shim.upload(namespace, file, digest=f"sha256:{sha256.hexdigest()}")
        except ShimError as error:
            print(f"The log cannot be stored: {error}", flush=True)
            return None


def read_log(file: BinaryIO) -> Iterable[bytes]:
    """Yield a build command's output, without the middle where it is too long."""
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    if size <= MAX_LOG:
        yield file.read()
        return
    yield file.read(KEPT_HEAD)
    yield f"\n[{size - MAX_LOG} bytes are left out here]\n".encode()
    file.seek(size - (MAX_LOG - KEPT_HEAD))
    yield file.read()
