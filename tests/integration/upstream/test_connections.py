"""Whole answers: what is read of them, and whether their connection is used again."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from appfn.dispatch import connections
from appfn.dispatch.connections import HttpUpstream
from appfn.dispatch.http1 import Connection
from appfn.dispatch.messages import Reply, Request
from appfn.dispatch.upstream import LostError
from support.polling import eventually
from support.raw_server import Peer, RawServer, raw_server

LIMIT = 10_000_000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
FINER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfiner"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def call(
    upstream: HttpUpstream, server: RawServer, body: bytes = b"question", *, method: str = "POST", seconds: float = 30
) -> Reply:
    request = Request(method=method, headers={"content-type": "text/plain"}, body=body)
    return await upstream.call(server.address, request, seconds=seconds, limit=LIMIT)


async def answer_well(peer: Peer) -> None:
    """Echo the body of every request."""
    while True:
        body = (await peer.request()).partition(b"\r\n\r\n")[2]
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def answer_first(content: bytes) -> Callable[[Peer], Awaitable[None]]:
    """Answer the first request of all with these bytes, the others well."""

    async def script(peer: Peer) -> None:
        if not peer.number:
            await peer.request()
            peer.send(content)
        await answer_well(peer)

    return script


async def nothing_open(upstream: HttpUpstream) -> None:
    """White-box: wait until the client has noticed what became of its connections."""

    async def noticed() -> bool:
        return not upstream._open

    await eventually(noticed, within=2.0)  # less than connections are kept alive


async def test_a_request_is_what_http_asks_for_in_one_piece(upstream: HttpUpstream) -> None:
    async with raw_server(answer_first(OK)) as server:
        assert await call(upstream, server) == Reply(status=200, body=b"fine")
        host, port = server.address
        assert server.requests == [
            f"POST / HTTP/1.1\r\nhost: {host}:{port}\r\naccept-encoding: identity\r\n"
            "content-type: text/plain\r\ncontent-length: 8\r\n\r\nquestion".encode()
        ]


async def test_calls_one_after_the_other_share_one_connection(upstream: HttpUpstream) -> None:
    async with raw_server(answer_well) as server:
        for number in range(50):
            body = b"%d" % number
            assert (await call(upstream, server, body)).body == body
        assert server.accepted == 1


async def test_calls_at_the_same_time_have_a_connection_each_which_later_ones_use_again(
    upstream: HttpUpstream,
) -> None:
    async def caller(number: int) -> None:
        for turn in range(20):
            body = b"%d of %d" % (turn, number)
            assert (await call(upstream, server, body)).body == body

    async with raw_server(answer_well) as server:
        await asyncio.gather(*(caller(number) for number in range(8)))
        assert server.accepted == 8


@pytest.mark.parametrize(
    ("content", "status", "body"),
    [
        pytest.param(OK, 200, b"fine", id="length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH:0\r\n\r\n", 200, b"", id="empty"),
        pytest.param(CHUNKED + b"2;x=y\r\nfi\r\n2\r\nne\r\n0\r\n\r\n", 200, b"fine", id="chunks"),
        pytest.param(b"HTTP/1.1 204 X\r\n\r\n", 204, b"", id="204"),
        pytest.param(b"HTTP/1.1 204 X\r\nContent-Length: 9\r\n\r\n", 204, b"", id="204 with a length"),
        pytest.param(b"HTTP/1.1 304 X\r\nTransfer-Encoding: chunked\r\n\r\n", 304, b"", id="304 with chunks"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"fine", id="100 before"),
        pytest.param(b"HTTP/1.1 102 X\r\nA: b\r\n\r\n" * 16 + OK, 200, b"fine", id="many interim answers before"),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nfine", 200, b"fine", id="1.0"
        ),
        pytest.param(
            b"HTTP/1.1 503 X\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nfine", 503, b"fine", id="upgrade offered"
        ),
        pytest.param(b"HTTP/1.1 302 X\r\nLocation: /x\r\nContent-Length: 4\r\n\r\nfine", 302, b"fine", id="redirect"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 5_000_000, 200, b"x" * 5_000_000, id="5 MB"
        ),
    ],
)
async def test_after_an_answer_that_ends_by_itself_the_connection_is_used_again(
    upstream: HttpUpstream, content: bytes, status: int, body: bytes
) -> None:
    async with raw_server(answer_first(content)) as server:
        assert await call(upstream, server) == Reply(status=status, body=body)
        assert (await call(upstream, server, b"next")).body == b"next"
        assert server.accepted == 1


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(OK + OK, id="second answer"),
        pytest.param(OK + OK[:10], id="beginning of a second answer"),
        pytest.param(OK + b"\x00", id="garbage"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine", id="close wanted"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine!!", id="more after close"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nfine", id="1.0"),
        pytest.param(b"HTTP/2.0 200 OK\r\nContent-Length: 4\r\n\r\nfine", id="2.0 in words of 1.1"),
        pytest.param(CHUNKED + b"4\r\nfine\r\n0\r\nX: y\r\n\r\n", id="trailer"),
        pytest.param(CHUNKED + b"4\r\nfine\r\n0\r\n\r\nmore", id="garbage after chunks"),
    ],
)
async def test_an_answer_after_which_more_may_come_counts_and_its_connection_is_not_used_again(
    upstream: HttpUpstream, content: bytes
) -> None:
    async with raw_server(answer_first(content)) as server:
        assert await call(upstream, server) == Reply(status=200, body=b"fine")
        assert (await call(upstream, server, b"next")).body == b"next"
        assert server.accepted == 2


@pytest.mark.parametrize("head", ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"])
async def test_an_answer_without_length_is_read_until_its_end(upstream: HttpUpstream, head: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for piece in (head.encode(), b"fi", b"ne"):
            peer.send(piece)
            await peer.writer.drain()

    async with raw_server(script) as server:
        assert await call(upstream, server) == Reply(status=200, body=b"fine")
        assert (await call(upstream, server)).body == b"fine"
        assert server.accepted == 2


async def test_the_answer_to_a_head_has_no_body_whatever_length_it_tells(upstream: HttpUpstream) -> None:
    async with raw_server(answer_first(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")) as server:
        assert await call(upstream, server, b"", method="HEAD") == Reply(status=200, body=b"")
        assert (await call(upstream, server, b"next")).body == b"next"


async def test_an_answer_before_the_request_was_taken_whole_counts_and_its_connection_is_not_used_again(
    upstream: HttpUpstream,
) -> None:
    async def script(peer: Peer) -> None:
        if peer.number:
            await answer_well(peer)
        await peer.head()
        peer.stop_reading()
        peer.send(OK)
        await asyncio.get_running_loop().create_future()

    async with raw_server(script) as server:
        assert (await call(upstream, server, b"x" * 50_000_000)).body == b"fine"
        assert (await call(upstream, server, b"next")).body == b"next"
        assert server.accepted == 2


async def test_a_connection_that_the_other_end_closes_while_idle_is_not_used(upstream: HttpUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)

    async with raw_server(script) as server:
        for _ in range(5):
            assert (await call(upstream, server)).body == b"fine"
            await nothing_open(upstream)
        assert server.accepted == 5


async def test_a_connection_that_ends_in_the_moment_of_the_next_call_is_not_used(upstream: HttpUpstream) -> None:
    async with raw_server(answer_well) as server:
        await call(upstream, server)
        [connection] = upstream._open
        connection.eof_received()
        assert (await call(upstream, server, b"next")).body == b"next"
        assert server.accepted == 2


async def test_an_end_while_the_request_is_still_being_sent_ends_the_sending(upstream: HttpUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.stop_reading()
        peer.writer.write_eof()
        await asyncio.get_running_loop().create_future()

    async with raw_server(script) as server:
        with pytest.raises(LostError):
            await call(upstream, server, b"x" * 50_000_000)
        await nothing_open(upstream)


@pytest.mark.parametrize("content", [pytest.param(OK, id="an answer"), pytest.param(b"\r\n", id="line break")])
async def test_bytes_that_nobody_asked_for_close_an_idle_connection(upstream: HttpUpstream, content: bytes) -> None:
    answered = asyncio.Event()

    async def script(peer: Peer) -> None:
        if peer.number:
            await answer_well(peer)
        await peer.request()
        peer.send(OK)
        await answered.wait()
        peer.send(content)
        assert await peer.closed()

    async with raw_server(script) as server:
        assert (await call(upstream, server)).body == b"fine"
        answered.set()
        await nothing_open(upstream)
        assert (await call(upstream, server, b"next")).body == b"next"
        assert server.accepted == 2


async def test_a_connection_that_ends_when_the_next_request_was_sent_loses_it(upstream: HttpUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        await peer.request()

    async with raw_server(script) as server:
        assert (await call(upstream, server)).body == b"fine"
        with pytest.raises(LostError):
            await call(upstream, server, b"ran perhaps")
        assert (server.accepted, len(server.requests)) == (1, 2)


async def test_a_connection_that_was_idle_for_too_long_is_closed() -> None:
    upstream = HttpUpstream(keep_alive=0.1)
    async with raw_server(answer_well) as server:
        await call(upstream, server)
        assert len(upstream._open) == 1
        await nothing_open(upstream)
        assert upstream._timer is None
        await call(upstream, server)
        assert server.accepted == 2
        await upstream.close()


async def test_only_so_many_idle_connections_are_kept(upstream: HttpUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_MAX_IDLE", 2)
    together = asyncio.Barrier(5)

    async def script(peer: Peer) -> None:
        await peer.request()
        await together.wait()
        peer.send(OK)
        await peer.closed()

    async def two_left() -> bool:
        return len(upstream._open) == 2

    async with raw_server(script) as server:
        await asyncio.gather(*(call(upstream, server) for _ in range(5)))
        await eventually(two_left)


async def test_a_call_that_is_cancelled_closes_its_connection(upstream: HttpUpstream) -> None:
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        if peer.number:
            await answer_well(peer)
        await peer.request()
        running.cancel()
        assert await peer.closed()
        left.set()

    async with raw_server(script) as server:
        running = asyncio.create_task(call(upstream, server))
        with pytest.raises(asyncio.CancelledError):
            await running
        await left.wait()
        assert (await call(upstream, server, b"next")).body == b"next"
        assert server.accepted == 2


async def test_an_answer_that_comes_after_the_cancellation_is_nobodys(upstream: HttpUpstream) -> None:
    async with raw_server(answer_silently) as server:
        running = asyncio.create_task(call(upstream, server))
        connection = await the_connection(upstream, server)
        running.cancel()
        connection.data_received(OK)
        with pytest.raises(asyncio.CancelledError):
            await running
        following = asyncio.create_task(call(upstream, server))
        await asyncio.sleep(0)
        connection.data_received(FINER)
        assert (await following).body == b"finer"
        assert server.accepted == 1


async def test_a_cancellation_after_the_answer_leaves_the_connection_to_the_next_call(upstream: HttpUpstream) -> None:
    async with raw_server(answer_silently) as server:
        running = asyncio.create_task(call(upstream, server))
        connection = await the_connection(upstream, server)
        connection.data_received(OK)
        following = asyncio.create_task(call(upstream, server))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        connection.data_received(OK)
        assert (await following).body == b"fine"
        assert server.accepted == 1


async def answer_silently(peer: Peer) -> None:
    await peer.request()
    await peer.closed()


async def the_connection(upstream: HttpUpstream, server: RawServer) -> Connection:
    """White-box: return the only connection once its request has arrived, to give it bytes at a chosen moment."""

    async def arrived() -> bool:
        return bool(server.requests)

    await eventually(arrived)
    [connection] = upstream._open
    return connection


async def test_closing_closes_idle_connections(upstream: HttpUpstream) -> None:
    ends: asyncio.Queue[bool] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        await ends.put(await peer.closed())

    async with raw_server(script) as server:
        await call(upstream, server)
        await upstream.close()
        assert await ends.get()


async def answer_all_but_silence(peer: Peer) -> None:
    """Echo the body of every request but of one that asks for none."""
    while True:
        body = (await peer.request()).partition(b"\r\n\r\n")[2]
        if body != b"silence":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@pytest.mark.parametrize(("before", "then"), [(30.0, 0.3), (0.2, 0.6)], ids=["less time", "more time"])
async def test_each_call_on_a_connection_has_its_own_time(upstream: HttpUpstream, before: float, then: float) -> None:
    loop = asyncio.get_running_loop()
    async with raw_server(answer_all_but_silence) as server:
        await call(upstream, server, seconds=before)
        begun = loop.time()
        with pytest.raises(TimeoutError):
            await call(upstream, server, b"silence", seconds=then)
        assert then - 0.01 <= loop.time() - begun < then + 0.25
        assert server.accepted == 1
        await nothing_open(upstream)


async def test_a_time_that_ends_on_an_idle_connection_leaves_it_open(upstream: HttpUpstream) -> None:
    async with raw_server(answer_all_but_silence) as server:
        await call(upstream, server, seconds=0.05)
        (connection,) = upstream._open

        async def went_off() -> bool:
            return connection._timer is None

        await eventually(went_off, within=2.0)
        await call(upstream, server)
        assert server.accepted == 1
