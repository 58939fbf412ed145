"""Last step of a build: judge the build command's result, pack it, store artifact and log.

The build command has run as the same user on the same volume: nothing it left is trusted to be what it should be.
"""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, assert_never

from appfn.agent.archive import ARTIFACT_LIMITS, pack
from appfn.agent.build_log import BuildLog, megabytes
from appfn.agent.build_settings import BuildSettings
from appfn.agent.code_folder import require_entrypoint
from appfn.agent.failure import AgentError, ArchiveError, Reason
from appfn.agent.layout import Layout, open_regular, read_small
from appfn.agent.load_mode import LoadMode
from appfn.agent.report import Report
from appfn.agent.shim import ShimClient, ShimError, StoredFile
from appfn.agent.stored_log import read_log, store_log
from appfn.agent.tar_stream import CHUNK, GzipReader

TIMED_OUT = 124
"""Exit code of timeout(1), which bounds the build command."""
KILLED = 137
"""Exit code of a shell whose command was ended by SIGKILL; in a build that is the memory limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadStep:
    """One run of the step."""

    settings: BuildSettings
    layout: Layout
    shim: ShimClient
    fetched: bytes = b""
    """The log so far."""
    log: BuildLog = field(default_factory=BuildLog)

    def run(self) -> Report:
        """Store what was built; the report says what came of it."""
        exit_code, artifact, failure = 0, None, None
        try:
            exit_code = self._exit_code()
            artifact = self._artifact()
        except AgentError as error:
            failure = error
            self.log.say(f"{error.reason}: {error.message}")
        stored = store_log(self.shim, self.settings.namespace, self.layout, self._whole_log())
        if failure is None:
            return Report(artifact=artifact, log=stored)
        return Report(
            log=stored,
            exit_code=exit_code or self._reported_exit_code() or 1,
            reason=failure.reason,
            message=failure.message,
        )

    def _reported_exit_code(self) -> int:
        try:
            return int(read_small(self.layout.exit_code))
        except (FileNotFoundError, AgentError, ValueError):
            return 0

    def _exit_code(self) -> int:
        """Return the build command's exit code, 0.

        Raises:
            AgentError: BuildFailed where it is another, or missing.
        """
        if not self.layout.exit_code.exists():
            message = "the build ended without a result; its container was probably stopped for lack of memory"
            raise AgentError(Reason.BUILD_FAILED, message)
        match self._reported_exit_code():
            case 0:
                return 0
            case code if code == TIMED_OUT:
                raise AgentError(Reason.BUILD_FAILED, "the build command took too long and was stopped (exit code 124)")
            case code if code == KILLED:
                message = "the build command was killed (exit code 137), most likely for lack of memory"
                raise AgentError(Reason.BUILD_FAILED, message)
            case code:
                message = f"the build command failed with exit code {code}{self._last_words()}"
                raise AgentError(Reason.BUILD_FAILED, message)

    def _last_words(self) -> str:
        lines = [
            line for line in b"".join(self._build_output()).decode("utf-8", "replace").splitlines() if line.strip()
        ]
        return f": {lines[-1].strip()[:500]}" if lines else ""

    def _artifact(self) -> StoredFile:
        match self.settings.load_mode:
            case LoadMode.IMPORT:
                return self._packed_folder()
            case LoadMode.EXEC:
                return self._left_tarball()
            case _ as unreachable:
                assert_never(unreachable)

    def _packed_folder(self) -> StoredFile:
        if self.settings.entrypoint:
            require_entrypoint(self.layout.code, self.settings.entrypoint)
        with tempfile.TemporaryFile(dir=self.layout.root) as file:
            try:
                packed = pack(self.layout.code, file, ARTIFACT_LIMITS)
            except ArchiveError as error:
                raise AgentError(Reason.OUTPUT_INVALID, f"the built code cannot be packed: {error}") from error
            self.log.say(f"Packed {packed.files} files ({megabytes(packed.size)})")
            return self._upload(file, packed.digest)

    def _left_tarball(self) -> StoredFile:
        path = self.layout.built_tarball
        if self.layout.code.is_symlink():
            raise AgentError(Reason.OUTPUT_INVALID, "the build replaced the folder /usr/code by a link")
        try:
            with open_regular(path) as file:
                digest, size = _examine(file)
                self.log.say(f"Built code.tar.gz ({megabytes(size)})")
                return self._upload(file, digest)
        except FileNotFoundError as error:
            message = "the build command left no /usr/code/code.tar.gz"
            raise AgentError(Reason.OUTPUT_MISSING, message) from error

    def _upload(self, file: BinaryIO, digest: str) -> StoredFile:
        try:
            return self.shim.upload(self.settings.namespace, file, digest=digest)
        except ShimError as error:
            raise AgentError(Reason.UPLOAD_FAILED, f"the built code cannot be stored: {error}") from error

    def _whole_log(self) -> Iterator[bytes]:
        yield self.fetched
        yield from self._build_output()
        yield self.log.encode()

    def _build_output(self) -> Iterator[bytes]:
        with contextlib.suppress(FileNotFoundError, AgentError), open_regular(self.layout.build_log) as file:
            yield from read_log(file)


def _examine(file: BinaryIO) -> tuple[str, int]:
    """Return digest and size of a tarball, which must be whole gzip; what is in it is the image's own business."""
    sha256 = hashlib.sha256()
    while chunk := file.read(CHUNK):
        sha256.update(chunk)
    size = file.tell()
    file.seek(0)
    stream = GzipReader(file, ARTIFACT_LIMITS)
    try:
        while stream.read_some(CHUNK):
            pass
    except ArchiveError as error:
        raise AgentError(Reason.OUTPUT_INVALID, f"/usr/code/code.tar.gz: {error}") from error
    return f"sha256:{sha256.hexdigest()}", size
