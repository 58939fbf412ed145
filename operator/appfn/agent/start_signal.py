"""The start signal: what a waiting runtime reads from its FIFO, once, to begin with the user's code."""

import contextlib
import errno
import json
import os
import re
import select
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.005
_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class NobodyListensError(Exception):
    """No runtime opened the FIFO in time, or it went away while reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
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


def send(path: Path, signal: bytes, *, deadline: float, clock: Callable[[], float] = time.monotonic) -> None:
    """Write the signal when somebody reads.

    Raises:
        NobodyListensError: nobody did before `deadline` (of `clock`).
    """
    descriptor = _open(path, deadline, clock)
    try:
        rest = memoryview(signal)
        while rest:
            _, writable, _ = select.select([], [descriptor], [], max(0.0, deadline - clock()))
            if not writable:
                raise NobodyListensError("the runtime stopped reading its start signal")
            rest = rest[os.write(descriptor, rest) :]
    except BrokenPipeError as error:
        raise NobodyListensError("the runtime ended while it was being started") from error
    finally:
        os.close(descriptor)


def _open(path: Path, deadline: float, clock: Callable[[], float]) -> int:
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        if clock() > deadline:
            raise NobodyListensError("the runtime did not come to wait for its start signal")
        time.sleep(POLL_SECONDS)
