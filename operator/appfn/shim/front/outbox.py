"""Answers on their way out, sent together at the end of the event loop's turn.

Each one that is sent wakes its client, and where the machine is busy that costs more than anything else in an answer;
the clients of a turn, often threads of one process, are woken by the first and find the others there.
"""

import asyncio
from typing import Final

_ENOUGH: Final = 8
"""Answers that are sent together: with more, the first would wait for longer than their clients' waking costs."""


class Outbox:
    """What is to be sent when the loop has done what it has at hand."""

    def __init__(self) -> None:
        self._waiting: Final[list[tuple[asyncio.Transport, bytes]]] = []

    def put(self, transport: asyncio.Transport, content: bytes) -> None:
        """Send `content` soon, before anything that is asked of the loop after this call."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((transport, content))
        if len(self._waiting) >= _ENOUGH:
            self.flush()

    def flush(self) -> None:
        """Send all of it now."""
        for transport, content in self._waiting:
            # The client may have gone, and uvloop's transports raise when they are written to then.
            if not transport.is_closing():
                transport.write(content)
        self._waiting.clear()
