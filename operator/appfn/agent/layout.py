"""Where things lie in the volume that the agent shares with the runtime or the build (see docs of the build Job)."""

import contextlib
import os
import stat
from pathlib import Path
from typing import BinaryIO, NamedTuple

from appfn.agent.failure import AgentError, Reason

OPEN_TO_ANY_USER = 0o777


class Layout(NamedTuple):
    """Paths below one root, `/appfn` in every container."""

    root: Path

    @property
    def code(self) -> Path:
        """Unpacked code; for `Exec` the folder the image knows as /usr/code."""
        return self.root / "code"

    @property
    def incoming(self) -> Path:
        """Code being unpacked, not yet visible as `code`."""
        return self.root / ".incoming"

    @property
    def tmp(self) -> Path:
        """What `Exec` images see as /tmp."""
        return self.root / "tmp"

    @property
    def tarball(self) -> Path:
        """The tarball where the protocol's scripts look for it: /tmp/code.tar.gz of `Exec` images."""
        return self.tmp / "code.tar.gz"

    @property
    def built_tarball(self) -> Path:
        """What the build script of an `Exec` image leaves: /usr/code/code.tar.gz."""
        return self.code / "code.tar.gz"

    @property
    def start(self) -> Path:
        """FIFO that a waiting runtime reads."""
        return self.root / "start"

    @property
    def loaded(self) -> Path:
        """Digest of the code a pod was given; outlives a restart of the agent."""
        return self.root / ".loaded"

    @property
    def build_start(self) -> Path:
        """FIFO by which the container of the build command is told to begin."""
        return self.root / "build-start"

    @property
    def build_end(self) -> Path:
        """FIFO that the container of the build command holds open as long as it lives."""
        return self.root / "build-end"

    @property
    def no_build(self) -> Path:
        """A mark: there is no command to be run any more, for whoever comes too late to be told."""
        return self.root / "no-build"

    @property
    def build_log(self) -> Path:
        """Output of the build command."""
        return self.root / "build.log"

    @property
    def exit_code(self) -> Path:
        """Exit code of the build command, in decimal."""
        return self.root / "exit-code"

    def prepare_folders(self) -> None:
        """Make the folders that containers mount and write to; an `Exec` image may run as any user."""
        for folder in (self.code, self.tmp):
            folder.mkdir(exist_ok=True)
            with contextlib.suppress(PermissionError):  # the kubelet was first, with the same mode
                folder.chmod(OPEN_TO_ANY_USER)


def open_regular(path: Path) -> BinaryIO:
    """Open a file that a build command may have tampered with.

    A link in its place would make us publish what only we can read, such as our token; a FIFO would block us.

    Raises:
        FileNotFoundError: nothing there.
        AgentError: something there that is not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AgentError(Reason.OUTPUT_INVALID, f"{path} is not a regular file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise AgentError(Reason.OUTPUT_INVALID, f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_small(path: Path, *, limit: int = 65_536) -> bytes:
    """Return the content of a small file like `open_regular`, cut at `limit` bytes."""
    with open_regular(path) as file:
        return file.read(limit)
