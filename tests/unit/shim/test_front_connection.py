"""What a client may do to a connection of the front, on real sockets and the loop that the shim runs in."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from appfn.shim.front.connection import IDLE_SECONDS, PATIENCE_SECONDS, Connection
from support.front import Answering, Handed, met, request, serving

CHUNK = 256 * 1024
"""Bytes that an event loop reads at once, at most."""


def with_client(desk_answer: bytes, story: Callable[[Answering, socket.socket], Awaitable[None]]) -> None:
    """Run a story of a client, which is a socket that does what it is told."""
    desk = Answering(desk_answer)
    serving({desk: None}, lambda client: story(desk, client))


def only(desk: Answering) -> Connection:
    (connection,) = desk.connections.open
    return connection


def test_a_client_that_leaves_before_its_answer_is_nobodys_error() -> None:
    async def story(desk: Answering, client: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(client, request())
        await met(lambda: desk.asked == 1)
        task = only(desk)._task
        assert task is not None
        client.close()
        await met(lambda: not desk.connections.open)
        desk.gate.set()

        await asyncio.wait_for(task, 10)

    with_client(b"answer", story)


def test_a_client_that_sends_far_ahead_of_its_answers_is_not_read_faster_than_it_is_answered() -> None:
    requests, size = 400, 8000

    async def story(desk: Answering, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        desk.gate.set()
        sending = asyncio.create_task(loop.sock_sendall(client, request(b"x" * size) * requests))
        got = 0
        while got < requests * len(desk.content):
            got += len(await loop.sock_recv(client, 65_536))
        await sending

        assert desk.asked == requests
        assert desk.largest <= 2 * CHUNK + size + 1000

    with_client(b"answer", story)


def test_a_client_that_takes_no_answers_is_not_read_from_until_it_does() -> None:
    requests, size = 100, 60_000

    async def story(desk: Answering, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        desk.gate.set()
        sending = asyncio.create_task(loop.sock_sendall(client, request(b"x" * size) * requests))
        await met(lambda: only(desk)._full and not only(desk)._busy)
        connection = only(desk)
        await asyncio.wait({sending}, timeout=0.5)  # it sends what it can
        held = len(connection._buffer)
        connection.look(loop.time() + PATIENCE_SECONDS + 1)
        assert Handed.made == 0
        got = 0
        while got < requests * len(desk.content):
            got += len(await loop.sock_recv(client, 1 << 20))
        await sending

        assert held <= 2 * CHUNK + size + 1000
        assert desk.asked == requests

    with_client(b"a" * 2_000_000, story)


def test_what_came_behind_the_last_answer_of_a_connection_is_never_executed() -> None:
    async def story(desk: Answering, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, request() * 2)
        await met(lambda: desk.asked == 1)
        connection = only(desk)
        desk.drain.begin()
        desk.gate.set()
        await met(connection._transport.is_closing)
        connection.look(loop.time() + PATIENCE_SECONDS + 1)
        assert Handed.made == 0
        connection.look(loop.time() + IDLE_SECONDS + 1)
        await met(lambda: not desk.connections.open)

        assert desk.asked == 1

    with_client(b"a" * 20_000_000, story)


def test_an_answer_that_is_on_its_way_when_the_shim_closes_arrives_whole() -> None:
    async def story(desk: Answering, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        desk.gate.set()
        await loop.sock_sendall(client, request())
        await met(lambda: desk.asked == 1 and not only(desk)._busy)
        closing = asyncio.create_task(desk.connections.close(seconds=20))
        got = 0
        while piece := await loop.sock_recv(client, 1 << 20):
            got += len(piece)
        await closing

        assert got == len(desk.content)

    with_client(b"a" * 20_000_000, story)


def test_a_client_that_does_not_take_its_answer_keeps_no_shim_from_closing() -> None:
    async def story(desk: Answering, client: socket.socket) -> None:
        desk.gate.set()
        await asyncio.get_running_loop().sock_sendall(client, request())
        await met(lambda: desk.asked == 1 and not only(desk)._busy)
        await desk.connections.close(seconds=0.1)
        await met(lambda: not desk.connections.open)

    with_client(b"a" * 20_000_000, story)


def test_a_call_that_came_in_the_last_moment_is_answered() -> None:
    async def story(desk: Answering, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, request())
        await met(lambda: desk.asked == 1)
        desk.drain.begin()
        closing = asyncio.create_task(desk.connections.close(seconds=20))
        await asyncio.sleep(0)
        desk.gate.set()

        assert await loop.sock_recv(client, 100) == b"answer"
        assert await loop.sock_recv(client, 100) == b""
        await closing

    with_client(b"answer", story)
