"""`python -m appfn shim`: the shim itself, or the supervisor of several processes that are one shim.

The supervisor starts them, passes on SIGTERM and SIGINT, and waits. There is one recovery: where a process ends by
itself, the others are told to leave and the supervisor fails, so that the container is started again. A process ends in
good order when its supervisor is gone, which the end of its standard input tells.

Its memory is kept small: it loads nothing that serves.
"""

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Final

from appfn import config as configuration
from appfn.config import ShimConfig
from appfn.errors import ConfigError
from appfn.telemetry import configure_logging

UP: Final = b"u"
"""Over the line, from a process: its siblings can reach it. From the supervisor: they all can be reached."""
_ASKED: Final = (-signal.SIGTERM, -signal.SIGINT)
_COMMAND: Final = (sys.executable, "-m", "appfn", "shim")
_CLOSE_SECONDS: Final = 10.0
"""What a process gets beyond its drain to close its parts, before it is killed."""
_logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Serve; return the exit code."""
    if arguments:
        print("usage: python -m appfn shim (configured by APPFN_… variables)", file=sys.stderr)  # noqa: T201 - a CLI speaks
        return 2
    try:
        config = configuration.load(os.environ)
        configure_logging(config.common.log_level)
        if config.shim.processes > 1 and not config.shim.is_child:
            return supervise(config.shim, os.environ)
        from appfn.shim import run  # noqa: PLC0415 - all that serves: not for the supervisor

        run.run(config)
    except ConfigError as error:
        print(f"appfn shim: {error}", file=sys.stderr)  # noqa: T201 - likewise
        return 2
    return 0


def supervise(config: ShimConfig, environ: Mapping[str, str], *, command: Sequence[str] = _COMMAND) -> int:
    """Run the processes until all have ended; return 0 where they were asked to and left in good order.

    Raises:
        ConfigError: the port cannot be listened on.
    """
    with (
        _signals() as signals,
        _port_held(config.host, config.port) as port,
        tempfile.TemporaryDirectory(prefix="appfn-shim-") as sockets,
    ):
        common = {**environ, "APPFN_PORT": str(port), "APPFN_SOCKETS_DIR": sockets}
        children = [_start(command, common, index) for index in range(config.processes)]
        return _Watch(children, signals, patience=config.drain_seconds + _CLOSE_SECONDS).until_all_ended()


@dataclass(slots=True, kw_only=True)
class _Child:
    index: int
    process: "subprocess.Popen[bytes]"
    line: socket.socket
    up: bool = False


@dataclass(slots=True)
class _Watch:
    children: list[_Child]
    signals: socket.socket
    patience: float = field(kw_only=True)
    """Seconds from the first word of leaving to the kill."""
    leaving: bool = False
    code: int = 0
    _deadline: float | None = None

    def until_all_ended(self) -> int:
        with selectors.DefaultSelector() as selector:
            selector.register(self.signals, selectors.EVENT_READ)
            for child in self.children:
                selector.register(child.line, selectors.EVENT_READ, child)
            while self.children:
                for key, _ in selector.select(self._left()):
                    if key.data is None:
                        self._leave(self.signals.recv(1)[0])
                    elif not self._heard(key.data):
                        selector.unregister(key.fileobj)
                        self._ended(key.data)
                if self._left() == 0:
                    self._kill()
        return self.code

    def _left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _heard(self, child: _Child) -> bool:
        """Take what a process says; False where it has ended."""
        try:
            said = child.line.recv(1)
        except ConnectionError:
            return False
        child.up = child.up or said == UP
        if said and all(each.up for each in self.children):
            for each in self.children:
                _tell(each, UP)
        return bool(said)

    def _ended(self, child: _Child) -> None:
        self.children.remove(child)
        child.line.close()
        code = child.process.wait()
        if self.leaving and code in _ASKED:  # it had only begun to start
            code = 0
        if code or not self.leaving:
            _logger.error("a process of the shim ended", extra={"index": child.index, "code": code})
            self.code = self.code or max(1, code)
        self._leave(signal.SIGTERM)

    def _leave(self, number: int) -> None:
        if not self.leaving:
            self.leaving = True
            self._deadline = time.monotonic() + self.patience
            for child in self.children:
                child.process.send_signal(number)

    def _kill(self) -> None:
        for child in self.children:
            _logger.error("a process of the shim does not leave and is killed", extra={"index": child.index})
            child.process.kill()
        self._deadline = None


def _start(command: Sequence[str], environ: Mapping[str, str], index: int) -> _Child:
    ours, theirs = socket.socketpair()
    with closing(theirs):
        env = {**environ, "APPFN_PROCESS_INDEX": str(index)}
        process = subprocess.Popen(command, stdin=theirs.fileno(), env=env)
    return _Child(index=index, process=process, line=ours)


def _tell(child: _Child, what: bytes) -> None:
    try:
        child.line.send(what)
    except OSError:  # it has just ended, as its line will say
        return


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """Yield a socket that gets the number of each SIGTERM and SIGINT as a byte, while the context is open."""
    reader, writer = socket.socketpair()
    writer.settimeout(0)  # does not block
    with closing(reader), closing(writer):
        handlers = {number: signal.signal(number, _ignore) for number in (signal.SIGTERM, signal.SIGINT)}
        before = signal.set_wakeup_fd(writer.fileno())
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing: that it came is written to the socket of `_signals`."""


@contextmanager
def _port_held(host: str, port: int) -> Iterator[int]:
    """Yield the port that all processes will listen on, theirs as long as the context is open; 0 picks a free one."""
    with closing(_bound(host, port)) as held:  # and never listens: no connection comes here
        yield int(held.getsockname()[1])


def _bound(host: str, port: int) -> socket.socket:
    found: socket.socket | None = None
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = infos[0]
        found = socket.socket(family, kind, protocol)
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            found.setsockopt(socket.SOL_SOCKET, option, 1)
        found.bind(address)
    except OSError as error:
        if found is not None:
            found.close()
        raise ConfigError(f"APPFN_HOST, APPFN_PORT: cannot listen on {host}:{port}: {error}") from error
    return found
