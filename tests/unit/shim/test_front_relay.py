"""Connections that another process goes on with, on real sockets and the loop that the shim runs in."""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from appfn.shim.front import relay as module
from appfn.shim.front.relay import Relay
from support.front import Answering, Handed, met, request, serving

HERE, THERE = 0, 1


class Shim:
    """Two processes in one; the client's connection comes to the first."""

    def __init__(self, desks: list[Answering], client: socket.socket) -> None:
        self.desks = desks
        self.client = client

    async def sends(self, content: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.client, content)

    async def receives(self, expected: bytes) -> None:
        content = b""
        while len(content) < len(expected):
            content += await asyncio.get_running_loop().sock_recv(self.client, 65536)
        assert content == expected


def with_shim(
    folder: Path, story: Callable[[Shim], Awaitable[None]], *, listening: tuple[int, ...] = (HERE, THERE)
) -> None:
    """Run a story; processes that are not `listening` have not come up yet."""
    desks = [Answering(b"answered here"), Answering(b"answered there")]
    for desk in desks:
        desk.gate.set()
    up = {desks[index]: Relay(folder, index) for index in listening}
    serving(up, lambda client: story(Shim(desks, client)))


def test_a_connection_goes_to_the_process_that_runs_its_function_and_stays_there(tmp_path: Path) -> None:
    async def story(shim: Shim) -> None:
        here, there = shim.desks
        here.other = THERE
        for _ in range(3):
            await shim.sends(request(b"{}"))
            await shim.receives(b"answered there")

        assert (here.asked, there.asked, Handed.made) == (0, 3, 0)
        assert (len(here.connections.open), len(there.connections.open)) == (0, 1)

    with_shim(tmp_path, story)


def test_what_came_by_a_connection_goes_with_it_whole_or_not(tmp_path: Path) -> None:
    async def story(shim: Shim) -> None:
        shim.desks[HERE].other = THERE
        whole = request(b"x" * 1000)
        await shim.sends(whole + whole + whole[:-500])
        await shim.receives(2 * b"answered there")
        await shim.sends(whole[-500:])
        await shim.receives(b"answered there")

    with_shim(tmp_path, story)


def test_a_connection_whose_calls_are_of_functions_of_both_goes_back_and_forth(tmp_path: Path) -> None:
    async def story(shim: Shim) -> None:
        here, there = shim.desks
        for _ in range(4):
            here.other, there.other = THERE, None
            await shim.sends(request())
            await shim.receives(b"answered there")
            here.other, there.other = None, HERE
            await shim.sends(request())
            await shim.receives(b"answered here")

        assert Handed.made == 0

    with_shim(tmp_path, story)


def test_processes_that_each_think_of_the_other_let_the_http_server_have_it(tmp_path: Path) -> None:
    async def story(shim: Shim) -> None:
        here, there = shim.desks
        here.other, there.other = THERE, HERE
        await shim.sends(request())
        await met(lambda: Handed.made == 1)
        assert (here.asked, there.asked) == (0, 0)

    with_shim(tmp_path, story)


@pytest.mark.parametrize(
    ("listening", "content"),
    [
        pytest.param((HERE,), request(), id="the other process is not up yet"),
        pytest.param((HERE, THERE), 80 * request(b"x" * 1000), id="too much came by it"),
    ],
)
def test_a_connection_that_cannot_be_given_away_is_the_http_servers(
    tmp_path: Path, listening: tuple[int, ...], content: bytes
) -> None:
    async def story(shim: Shim) -> None:
        shim.desks[HERE].other = THERE
        await shim.sends(content)
        await met(lambda: Handed.made == 1)

    with_shim(tmp_path, story, listening=listening)


def test_a_process_that_ends_before_it_gives_is_passed_over(tmp_path: Path) -> None:
    async def story(shim: Shim) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
            line.connect(str(tmp_path / f"{THERE}.relay"))
        shim.desks[HERE].other = THERE
        await shim.sends(request())
        await shim.receives(b"answered there")

    with_shim(tmp_path, story)


def test_a_client_that_leaves_while_its_connection_is_given_away_is_nobodys_error(tmp_path: Path) -> None:
    async def story(shim: Shim) -> None:
        here, there = shim.desks
        here.other = THERE
        await shim.sends(request())
        shim.client.close()
        await met(lambda: there.asked == 1 and not there.connections.open)

    with_shim(tmp_path, story)


def accepted() -> tuple[socket.socket, socket.socket]:
    """Return a client's socket and the server's end of it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return client, server.accept()[0]


def test_what_was_given_in_the_last_moment_is_answered(tmp_path: Path) -> None:
    async def story(shim: Shim) -> None:
        here, there = shim.desks
        client, connection = accepted()
        with client, connection:
            assert here.connections.relay is not None
            assert here.connections.relay.give(THERE, connection.fileno(), request(), passes=1)
            connection.close()
            there.drain.begin()
            await there.connections.close(seconds=10)
            client.settimeout(10)
            assert await asyncio.to_thread(client.recv, 100) == b"answered there"
            assert await asyncio.to_thread(client.recv, 100) == b""

    with_shim(tmp_path, story)


class Exhausted:
    """A listener that finds no descriptor left once."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.asked = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._listener, name)

    def accept(self) -> tuple[socket.socket, object]:
        self.asked += 1
        if self.asked == 1:
            raise OSError(errno.EMFILE, "no descriptors")
        return self._listener.accept()


def test_without_a_descriptor_it_is_looked_again_a_little_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.01)

    async def story(shim: Shim) -> None:
        here, there = shim.desks
        relay = there.connections.relay
        assert relay is not None
        exhausted = Exhausted(relay._listener)
        monkeypatch.setattr(relay, "_listener", exhausted)
        here.other = THERE
        await shim.sends(request())
        await shim.receives(b"answered there")
        assert exhausted.asked == 2

    with_shim(tmp_path, story)
