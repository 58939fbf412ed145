"""A server of bytes: what it answers need not be HTTP."""

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from appfn.dispatch.upstream import Address


@dataclass(slots=True, eq=False)
class Peer:
    """One accepted connection, as its server has it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    """Connections accepted before it."""
    server: "RawServer"

    async def head(self) -> bytes:
        """Read a request up to its body."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> bytes:
        """Read a request, and keep it with the server's."""
        head = await self.head()
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        whole = head + await self.reader.readexactly(int(length[1]))
        self.server.requests.append(whole)
        return whole

    def send(self, content: bytes) -> None:
        """Write these very bytes."""
        self.writer.write(content)

    def stop_reading(self) -> None:
        """Take nothing more of what is sent."""
        cast("asyncio.Transport", self.writer.transport).pause_reading()

    def reset(self) -> None:
        """Break the connection off with a RST, after what was sent so far."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def closed(self) -> bool:
        """Wait until the other end has closed the connection; tell whether nothing but that came."""
        with contextlib.suppress(ConnectionError):
            return not await self.reader.read()
        return True


Script = Callable[[Peer], Awaitable[None]]


@dataclass(slots=True)
class RawServer:
    """The server, and what came to it."""

    address: Address
    peers: list[Peer] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        """Connections so far."""
        return len(self.peers)


@asynccontextmanager
async def raw_server(script: Script) -> AsyncIterator[RawServer]:
    """Listen on a port of its own; every connection is played by the script, and closed at its end."""
    tasks: set[asyncio.Task[None]] = set()

    async def play(peer: Peer) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await script(peer)
        peer.writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer, len(served.peers), served)
        served.peers.append(peer)
        tasks.add(asyncio.create_task(play(peer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    served = RawServer(Address(*server.sockets[0].getsockname()))
    try:
        yield served
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for peer in served.peers:
            peer.writer.transport.abort()
        await server.wait_closed()
        assert not [end for end in ends if isinstance(end, Exception)]
