"""A process's line to the supervisor that started it: its standard input, one end of a pair of sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from appfn.shim.supervisor import UP

_STDIN = 0


class Lifeline:
    """See the module. It is never closed here: the supervisor takes its end for the end of this process."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._end.settimeout(0)  # does not block
        self._all_up = asyncio.Event()

    @classmethod
    def of_this_process(cls) -> Self:
        """Return the line that is this process's standard input."""
        return cls(socket.socket(fileno=_STDIN))

    @asynccontextmanager
    async def watched(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Set `stop` when the supervisor is gone, however it ended, while the context is open."""
        listening = asyncio.create_task(self._listen(stop))
        try:
            yield
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def all_up(self) -> None:
        """Tell that this process can be reached by its siblings; return when all of them can."""
        await asyncio.get_running_loop().sock_sendall(self._end, UP)
        await self._all_up.wait()

    async def _listen(self, stop: asyncio.Event) -> None:
        with contextlib.suppress(ConnectionError):
            while await asyncio.get_running_loop().sock_recv(self._end, 1):
                self._all_up.set()
        stop.set()
