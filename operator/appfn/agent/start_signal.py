"""The start signal: what a waiting runtime reads from its FIFO, once, to begin with the user's code."""

import contextlib
import json
import os
import re
import select
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class NobodyListensError(Exception):
    """No runtime opened the FIFO in time, or it went away while reading."""


class Start(NamedTuple):
    """What a load hands to the runtime besides the code."""

    entrypoint: str
    key: str
    """Challenge that every request will carry."""
    environment: Mapping[str, str]


def as_document(start: Start, *, code: Path) -> bytes:
    """Return the signal for runtimes that import code: one JSON document."""
    environment = {name: value for name, value in start.environment.items() if _possible(name, value)}
    document = {"entrypoint": start.entrypoint, "key": start.key, "env": environment, "code": str(code)}
    return json.dumps(document).encode()


def as_shell(start: Start) -> bytes:
    """Return the signal for images that are started by a shell: text that exports the environment.

    In braces, so that the shell runs all of it or, where it was cut off, nothing.
    """
    names = {name: value for name, value in start.environment.items() if _SHELL_NAME.fullmatch(name)}
    names |= {"INTERNAL_RUNTIME_KEY": start.key, "INTERNAL_RUNTIME_ENTRYPOINT": start.entrypoint}
    exports = [f"export {name}={_quote(value)}\n" for name, value in names.items() if _possible(name, value)]
    return "".join(["{\n", *exports, "}\n"]).encode("utf-8", "surrogateescape")


def _possible(name: str, value: str) -> bool:
    """Tell whether a process can have such a variable at all; requests carry the others."""
    return bool(name) and "=" not in name and "\0" not in name and "\0" not in value


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def make_fifo(path: Path, *, mode: int = 0o644) -> None:
    """Make the FIFO, unless it is there already; by default only its owner writes.

    Raises:
        FileExistsError: something else is there.
    """
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path)
    if not stat.S_ISFIFO(path.lstat().st_mode):
        raise FileExistsError(f"{path} is not a FIFO")
    with contextlib.suppress(PermissionError):  # another user's, who has seen to it
        path.chmod(mode)


class StartSignal:
    """The agent's end of the FIFO: open from the moment on at which the runtime opens its own, until it is used.

    Opening blocks until somebody reads, in a thread of its own; so a runtime that is ready to be started is an event,
    and nobody polls. A runtime that is restarted before its start reads from the same FIFO.
    """

    def __init__(self, path: Path) -> None:
        """Begin to wait for the runtime."""
        self._path = path
        self._descriptor = -1
        self._opened = threading.Event()
        threading.Thread(target=self._open, name="start signal", daemon=True).start()

    @property
    def awaited(self) -> bool:
        """Tell whether a runtime has come to wait for its start."""
        return self._opened.is_set()

    def wait(self) -> None:
        """Return when a runtime has come."""
        self._opened.wait()

    def send(self, signal: bytes, *, deadline: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Write the signal when somebody reads; once.

        Raises:
            NobodyListensError: nobody did before `deadline` (of `clock`).
        """
        if not self._opened.wait(max(0.0, deadline - clock())):
            raise NobodyListensError("the runtime did not come to wait for its start signal")
        try:
            rest = memoryview(signal)
            while rest:
                _, writable, _ = select.select([], [self._descriptor], [], max(0.0, deadline - clock()))
                if not writable:
                    raise NobodyListensError("the runtime stopped reading its start signal")
                rest = rest[os.write(self._descriptor, rest) :]
        except BrokenPipeError as error:
            raise NobodyListensError("the runtime ended while it was being started") from error
        finally:
            os.close(self._descriptor)

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        os.set_blocking(self._descriptor, False)
        self._opened.set()
