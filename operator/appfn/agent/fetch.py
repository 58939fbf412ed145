"""First step of a build: bring the source, check it, lay it out as the runtime image expects it."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, assert_never

from appfn.agent.archive import SOURCE_LIMITS, Packed, extract, pack
from appfn.agent.build_key import build_key
from appfn.agent.build_log import BuildLog, megabytes
from appfn.agent.build_settings import ArtifactSource, BuildSettings, GitSource, HttpSource
from appfn.agent.code_folder import require_entrypoint
from appfn.agent.failure import AgentError, ArchiveError, Reason
from appfn.agent.layout import Layout
from appfn.agent.load_mode import LoadMode
from appfn.agent.report import Report
from appfn.agent.retry import Patience
from appfn.agent.shim import ShimClient, ShimError, StoredFile
from appfn.agent.stored_log import store_log


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchStep:
    """One run of the step."""

    settings: BuildSettings
    layout: Layout
    shim: ShimClient
    log: BuildLog = field(default_factory=BuildLog)
    patience: Patience = field(default_factory=lambda: Patience(seconds=15.0))
    """With a user's server: whoever mistyped its name waits for the answer, and can ask for a retry."""
    git_protocols: Sequence[str] | None = None
    """Which transports git may use; None: those fit for production."""

    def run(self) -> Report:
        """Lay the code out; the report tells the source's digest, and the artifact where that was built before."""
        try:
            return self._run()
        except AgentError as error:
            self.log.say(f"{error.reason}: {error.message}")
            stored = store_log(self.shim, self.settings.namespace, self.layout, [self.log.encode()])
            return Report(reason=error.reason, message=error.message, exit_code=1, log=stored)

    def _run(self) -> Report:
        self.layout.prepare_folders()
        with tempfile.TemporaryDirectory(dir=self.layout.root) as folder:
            workspace = Path(folder)
            with (workspace / "source.tar.gz").open("w+b") as tarball:
                digest = self._source(workspace, tarball)
                cached = self._cached(digest)
                if cached is None:
                    tarball.seek(0)
                    self._lay_out(workspace, tarball)
        return replace(cached or Report(), source_digest=digest)

    def _source(self, workspace: Path, tarball: BinaryIO) -> str:
        """Write the source to `tarball` and return its digest."""
        match self.settings.source:
            case ArtifactSource(digest=digest):
                return self._artifact(digest, tarball)
            case HttpSource() as source:
                from appfn.agent.download import download  # noqa: PLC0415 - only this source needs it

                download(source, tarball, say=self.log.say, patience=self.patience)
                return f"sha256:{source.sha256}"
            case GitSource() as source:
                return self._git(source, workspace, tarball)
            case _ as unreachable:
                assert_never(unreachable)

    def _artifact(self, digest: str, tarball: BinaryIO) -> str:
        try:
            size = self.shim.download(self.settings.namespace, digest, tarball)
        except ShimError as error:
            message = f"the source {digest} is not to be had from the artifact store: {error}"
            raise AgentError(Reason.ARTIFACT_UNAVAILABLE, message) from error
        self.log.say(f"Fetched source {digest} ({megabytes(size)})")
        return digest

    def _git(self, source: GitSource, workspace: Path, tarball: BinaryIO) -> str:
        from appfn.agent import git  # noqa: PLC0415 - only this source needs it

        folder = git.fetch_folder(
            source,
            workspace,
            say=self.log.say,
            patience=self.patience,
            protocols=self.git_protocols or git.PROTOCOLS,
        )
        return self._archived(lambda: pack(folder, tarball, SOURCE_LIMITS)).digest

    def _cached(self, digest: str) -> Report | None:
        """Return the report of an earlier build of the same source, if the shim knows one."""
        if not self.settings.build_key_salt:
            return None
        key = build_key(self.settings.build_key_salt, digest)
        try:
            build = self.shim.build(self.settings.namespace, key)
        except ShimError as error:
            self.log.say(f"Building anew: {error}")
            return None
        if build is None:
            return None
        self.log.say("Nothing has changed since an earlier build: taking its result")
        return Report(
            artifact=_stored(build["artifact"]),
            log=_stored(build["log"]) if build.get("log") else None,
            cached=True,
        )

    def _lay_out(self, workspace: Path, tarball: BinaryIO) -> None:
        match self.settings.load_mode:
            case LoadMode.IMPORT:
                self._unpack(tarball, workspace / "code")
                self.layout.code.rmdir()
                (workspace / "code").rename(self.layout.code)
            case LoadMode.EXEC:
                self._unpack(tarball, workspace / "code")
                with self.layout.tarball.open("wb") as target:
                    self._archived(lambda: pack(workspace / "code", target, SOURCE_LIMITS))
            case _ as unreachable:
                assert_never(unreachable)

    def _unpack(self, tarball: BinaryIO, folder: Path) -> None:
        folder.mkdir()
        try:
            unpacked = extract(tarball, folder, SOURCE_LIMITS)
        except ArchiveError as error:
            raise AgentError(Reason.INVALID_ARCHIVE, str(error)) from error
        self.log.say(f"Unpacked {unpacked.files} files")
        if self.settings.entrypoint and not self.settings.commands:
            require_entrypoint(folder, self.settings.entrypoint)

    def _archived(self, packing: Callable[[], Packed]) -> Packed:
        try:
            return packing()
        except ArchiveError as error:
            raise AgentError(Reason.INVALID_ARCHIVE, str(error)) from error


def _stored(document: dict[str, str | int]) -> StoredFile:
    return StoredFile(digest=str(document["digest"]), size=int(document["size"]))
