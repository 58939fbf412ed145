"""Taking one load: the state of a runtime pod, and the steps from a tarball on the wire to a running function.

The agent is the arbiter of a claim: of all callers that try to load a pod, exactly one gets it. That holds over a
restart of the agent too, as the digest is written down before the runtime hears of the code.
"""

import contextlib
import hashlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from appfn.agent.archive import ARTIFACT_LIMITS, extract
from appfn.agent.failure import AgentError, ArchiveError, Reason
from appfn.agent.layout import Layout
from appfn.agent.load_mode import LoadMode
from appfn.agent.start_signal import NobodyListensError, Start, StartSignal, as_document, as_shell
from appfn.agent.tar_stream import CHUNK, Readable

CONNECT_SECONDS = 1.0
POLL_SECONDS = 0.005
"""Between two looks whether a server that was just executed listens: a port sends no event."""


class AlreadyLoadedError(Exception):
    """The pod has its code, or is being given it."""


class BootError(Exception):
    """The runtime did not come up in time; the pod is of no use any more."""


class _State(Enum):
    EMPTY = auto()
    LOADING = auto()
    LOADED = auto()


class Load(NamedTuple):
    """What a caller wants in the pod."""

    digest: str
    """`sha256:…` of the built tarball."""
    start: Start


class Loaded(NamedTuple):
    """Where the time went, in milliseconds."""

    unpack_ms: float
    boot_ms: float


class LoadSettings(NamedTuple):
    """How this pod's runtime takes its code."""

    mode: LoadMode
    boot_seconds: float = 60.0
    runtime_address: tuple[str, int] = ("127.0.0.1", 3000)


class Loader:
    """The state of the pod; safe to call from many threads."""

    def __init__(
        self,
        layout: Layout,
        settings: LoadSettings,
        signal: StartSignal,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._layout = layout
        self._settings = settings
        self._signal = signal
        self._clock = clock
        self._lock = threading.Lock()
        self.digest = ""
        self._state = _State.EMPTY
        with contextlib.suppress(FileNotFoundError):
            self.digest = layout.loaded.read_text()
            self._state = _State.LOADED

    @property
    def free(self) -> bool:
        """Tell whether a load could be taken now."""
        return self._state is _State.EMPTY

    @property
    def ready(self) -> bool:
        """Tell whether a load would start the runtime at once, or has."""
        return self.loaded or self._signal.awaited

    @property
    def loaded(self) -> bool:
        """Tell whether the pod has its code."""
        return self._state is _State.LOADED

    def take(self, load: Load, body: Readable) -> Loaded:
        """Put the code in `body` into the pod and return when its runtime accepts connections.

        Raises:
            AlreadyLoadedError: another load came first.
            AgentError: the code is not what its digest says, or no archive we unpack; the pod is as it was.
            BootError: the runtime does not come up.
        """
        with self._lock:
            if self._state is not _State.EMPTY:
                raise AlreadyLoadedError
            self._state = _State.LOADING
        begun = self._clock()
        try:
            signal = self._place(load, body)
        except BaseException:
            self._state = _State.EMPTY
            raise
        self.digest, self._state = load.digest, _State.LOADED
        placed = self._clock()
        self._boot(signal)
        return Loaded(unpack_ms=(placed - begun) * 1000, boot_ms=(self._clock() - placed) * 1000)

    def _place(self, load: Load, body: Readable) -> bytes:
        """Put the code where the runtime finds it and return the start signal."""
        source = _HashingReader(body)
        try:
            match self._settings.mode:
                case LoadMode.IMPORT:
                    self._unpack(source, load.digest)
                    signal = as_document(load.start, code=self._layout.code)
                case LoadMode.EXEC:
                    self._save(source, load.digest)
                    signal = as_shell(load.start)
            self._layout.loaded.write_text(load.digest)
        except ArchiveError as error:
            raise AgentError(Reason.INVALID_ARCHIVE, str(error)) from error
        except (ConnectionError, TimeoutError):  # the caller is gone
            raise
        except OSError as error:
            raise AgentError(Reason.INTERNAL_ERROR, f"the code cannot be written: {error.strerror}") from error
        return signal

    def _unpack(self, source: "_HashingReader", digest: str) -> None:
        incoming = self._layout.incoming
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir()
        extract(source, incoming, ARTIFACT_LIMITS)
        source.verify(digest)
        incoming.rename(self._layout.code)

    def _save(self, source: "_HashingReader", digest: str) -> None:
        partial = self._layout.tmp / f".code.{os.getpid()}"
        with partial.open("wb") as file:
            while chunk := source.read(CHUNK):
                file.write(chunk)
        source.verify(digest)
        partial.rename(self._layout.tarball)

    def _boot(self, signal: bytes) -> None:
        deadline = self._clock() + self._settings.boot_seconds
        try:
            self._signal.send(signal, deadline=deadline, clock=self._clock)
        except NobodyListensError as error:
            raise BootError(str(error)) from error
        while not _accepts(self._settings.runtime_address):
            if self._clock() > deadline:
                raise BootError(f"the runtime does not accept connections after {self._settings.boot_seconds:g} s")
            time.sleep(POLL_SECONDS)


def _accepts(address: tuple[str, int]) -> bool:
    with socket.socket() as connection:  # create_connection resolves names, which is 2 ms the first time
        connection.settimeout(CONNECT_SECONDS)
        try:
            connection.connect(address)
        except OSError:
            return False
    return True


class _HashingReader:
    """Passes bytes on, hashing them."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        chunk = self._source.read(size)
        self._hash.update(chunk)
        return chunk

    def verify(self, expected: str) -> None:
        """Check the digest of all that was read, and of what is left to read.

        Raises:
            AgentError: DigestMismatch.
        """
        while self.read(CHUNK):
            pass
        actual = f"sha256:{self._hash.hexdigest()}"
        if actual != expected:
            raise AgentError(Reason.DIGEST_MISMATCH, f"the code has digest {actual}, not {expected}")
