"""Connections that are given to the process that runs their function's calls: the socket, and what came by it.

The kernel copies the socket (SCM_RIGHTS), over a unix socket of each process in the folder of the siblings. From then
on the client talks to that process, and its next calls are not handed over any more. Where a process cannot be given a
connection for now, whoever has it goes on with it.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

_MAX_BYTES: Final = 65_536
"""What came by a connection that is given away; the kernel takes a message of twice as much."""
_BACKLOG: Final = 4096
_PAUSE_SECONDS: Final = 1.0
"""Where there are no descriptors left: until the next look."""

_logger = logging.getLogger(__name__)

Adopt = Callable[[socket.socket, bytes, int], None]
"""Takes a connection's socket, what came by it, and how many processes had it since it was last answered."""


class Relay:
    """One process's end; opened by `listen`."""

    def __init__(self, folder: Path, index: int) -> None:
        """`folder`: that of all processes, which is theirs alone; `index`: of this process."""
        self._folder = folder
        self._index = index
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._senders: set[socket.socket] = set()
        self._adopt: Adopt | None = None
        self._pause: asyncio.TimerHandle | None = None

    def listen(self, adopt: Adopt) -> None:
        """Take connections from now on; within a running event loop."""
        self._adopt = adopt
        self._listener.bind(self._path(self._index))
        self._listener.listen(_BACKLOG)
        self._look()

    def give(self, index: int, connection: int, content: bytes, *, passes: int) -> bool:
        """Give a connection (its descriptor) and what came by it to a process; False where it does not take it now.

        Where it does, this process has only to close its own descriptor.
        """
        if len(content) > _MAX_BYTES:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as line:
                line.connect(self._path(index))
                socket.send_fds(line, [bytes([passes]), content], [connection])
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Take those that are on their way, and no more."""
        while self._accept():
            pass
        for line in list(self._senders):
            self._receive(line)
        if self._pause is not None:
            self._pause.cancel()
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listener.close()

    def _look(self) -> None:
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> bool:
        """Take in that a process has something to give; False where none has, or where it cannot be taken now."""
        loop = asyncio.get_running_loop()
        try:
            line, _ = self._listener.accept()
        except BlockingIOError:
            return False
        except OSError as error:  # out of descriptors, as asyncio's own servers deal with it
            _logger.warning("a connection cannot be taken over now", extra={"error": str(error)})
            loop.remove_reader(self._listener.fileno())
            self._pause = loop.call_later(_PAUSE_SECONDS, self._look)
            return False
        line.settimeout(0)
        self._senders.add(line)
        loop.add_reader(line.fileno(), self._receive, line)
        return True

    def _receive(self, line: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(line.fileno())
        self._senders.discard(line)
        with line:
            try:
                message, descriptors, _, _ = socket.recv_fds(line, _MAX_BYTES + 1, 1)
            except OSError:  # it sends no more: the sender has ended, or we end
                return
        if message and not descriptors:
            _logger.warning("a connection is lost: there was no descriptor left to take it over")
        for descriptor in descriptors:
            assert self._adopt is not None, "listening"
            self._adopt(socket.socket(fileno=descriptor), message[1:], message[0])

    def _path(self, index: int) -> str:
        return str(self._folder / f"{index}.relay")
