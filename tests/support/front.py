"""Connections of the front with something simpler behind them."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property

import uvloop
from aiohttp import web

from appfn.shim.drain import Drain
from appfn.shim.front.connection import Connections
from appfn.shim.front.desk import Desk, Known
from appfn.shim.front.heads import Head, parse
from appfn.shim.front.relay import Relay
from support.polling import eventually


def request(body: bytes = b"") -> bytes:
    return b"POST /v1/functions/f/executions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class Answering(Desk):
    """Gives every request the same answer, once its gate is open."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(web.Application())
        self.content = answer
        self.gate = asyncio.Event()
        self.asked = 0
        self.largest = 0
        self.connections = Connections(self)
        self.other: int | None = None
        """The process that runs the function's calls, if it is another one."""

    @cached_property
    def drain(self) -> Drain:
        return Drain(seconds=1)

    def known(self, head: bytes) -> Known | None:
        parsed = parse(head)
        return Known(parsed) if parsed else None

    def elsewhere(self, head: Head) -> int | None:
        return self.other

    async def answer(self, known: Known, body: bytes, *, peer: str) -> bytes:
        self.asked += 1
        await self.gate.wait()
        await asyncio.sleep(0.001)  # a call takes a moment, in which more comes in
        self.largest = max([self.largest, *(len(connection._buffer) for connection in self.connections.open)])
        return self.content


class Handed(asyncio.Protocol):
    """In aiohttp's place."""

    made = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Handed.made += 1


async def met(condition: Callable[[], bool]) -> None:
    async def probe() -> bool:
        return condition()

    await eventually(probe)


def serving(desks: Mapping[Answering, Relay | None], story: Callable[[socket.socket], Awaitable[None]]) -> None:
    """Run a story of a client of the first desk, on the loop that the shim runs in; nothing may go wrong unheard."""
    wrong: list[object] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: wrong.append(context))
        Handed.made = 0
        for desk, relay in desks.items():
            desk.connections.start(Handed, relay)
        server = await loop.create_server(next(iter(desks)).connections, "127.0.0.1", 0)
        client = socket.socket()
        client.settimeout(0)
        try:
            await loop.sock_connect(client, server.sockets[0].getsockname())
            async with asyncio.timeout(30):
                await story(client)
        finally:
            client.close()
            for desk in desks:
                await desk.connections.close(seconds=1)
            server.close()
            await server.wait_closed()
            await asyncio.sleep(0)  # for what is done at the end of a turn

    uvloop.run(run())
    assert not wrong
