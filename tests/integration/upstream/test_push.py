"""A push: content as it comes, no faster than it is taken, and no further than it is wanted."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from appfn.dispatch.connections import HttpUpstream
from appfn.dispatch.messages import Reply, Request
from appfn.dispatch.upstream import LostError, MalformedError, NotSentError
from support.raw_server import Peer, RawServer, raw_server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
CHUNK = b"x" * 50_000
MANY = 2000


class Content:
    """Chunks, and how many of them were asked for; after the last one, an error or nothing more for ever."""

    def __init__(self, chunks: int, *, then: Exception | None = None, hangs: bool = False) -> None:
        self.chunks = chunks
        self.given = 0
        self._then = then
        self._hangs = hangs

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self.chunks):
            self.given += 1
            yield CHUNK
        if self._then is not None:
            raise self._then
        if self._hangs:
            await asyncio.get_running_loop().create_future()


async def push(upstream: HttpUpstream, server: RawServer, content: Content, *, size: int | None = None) -> Reply:
    return await upstream.push(
        server.address,
        path="/load",
        headers=[("x-part", "one"), ("x-part", "two")],
        size=len(CHUNK) * content.chunks if size is None else size,
        content=aiter(content),
        limit=1000,
    )


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def take(peer: Peer) -> None:
    await peer.request()
    peer.send(OK)
    await peer.closed()


async def test_content_arrives_whole_on_a_connection_of_its_own_that_is_closed_afterwards(
    upstream: HttpUpstream,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        closed.put_nowait(await peer.closed())

    closed: asyncio.Queue[bool] = asyncio.Queue()
    async with raw_server(script) as server:
        request = Request(headers={}, body=b"")
        await upstream.call(server.address, request, seconds=30, limit=10)
        assert await push(upstream, server, Content(20)) == Reply(status=200, body=b"fine")
        assert await closed.get()
        assert server.accepted == 2
    head, _, body = server.requests[1].partition(b"\r\n\r\n")
    assert body == CHUNK * 20
    assert head.startswith(b"POST /load HTTP/1.1\r\n")
    lines = head.split(b"\r\n")[1:]
    assert lines[1:] == [
        b"accept-encoding: identity",
        b"x-part: one",
        b"x-part: two",
        b"content-type: application/gzip",
        b"connection: close",
        b"content-length: 1000000",
    ]


async def test_content_is_asked_for_no_faster_than_it_is_taken_until_the_caller_gives_up(
    upstream: HttpUpstream,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.stop_reading()
        await for_ever()

    content = Content(MANY)
    async with raw_server(script) as server:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await push(upstream, server, content)
        assert 0 < content.given < MANY / 2
        assert not upstream._open


async def test_content_that_is_taken_slowly_arrives_whole(upstream: HttpUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        taken = 0
        while taken < 100 * len(CHUNK):
            taken += len(await peer.reader.read(10_000))
            await asyncio.sleep(0)
        peer.send(OK)
        await peer.closed()

    async with raw_server(script) as server:
        assert (await push(upstream, server, Content(100))).body == b"fine"


@pytest.mark.parametrize("status", [401, 409, 413])
async def test_an_answer_before_all_is_sent_ends_the_sending(upstream: HttpUpstream, status: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.stop_reading()
        peer.send(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nno" % status)
        await for_ever()

    content = Content(MANY)
    async with raw_server(script) as server:
        assert await push(upstream, server, content) == Reply(status=status, body=b"no")
        assert content.given < MANY / 2
        assert not upstream._idle


async def test_the_connection_of_a_push_is_never_used_for_a_call(upstream: HttpUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        began.set()
        await for_ever()

    began = asyncio.Event()
    async with raw_server(script) as server:
        pushing = asyncio.create_task(push(upstream, server, Content(1, hangs=True), size=10**6))
        await began.wait()
        [connection] = upstream._open
        connection.data_received(OK)
        assert not upstream._idle
        assert (await pushing).body == b"fine"


async def test_an_answer_is_not_kept_waiting_by_content_that_does_not_come(upstream: HttpUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 409 X\r\nContent-Length: 2\r\n\r\nno")
        await for_ever()

    async with raw_server(script) as server:
        assert (await push(upstream, server, Content(1, hangs=True), size=10**6)).status == 409


@pytest.mark.parametrize(
    ("content", "size"),
    [
        pytest.param(Content(3, then=OSError("disk")), 200_000, id="error of the source"),
        pytest.param(Content(3), 200_000, id="too short"),
        pytest.param(Content(5), 220_000, id="too long"),
    ],
)
async def test_content_that_is_not_what_was_announced_is_a_lost_push(
    upstream: HttpUpstream, content: Content, size: int
) -> None:
    async with raw_server(take) as server:
        with pytest.raises(LostError, match=r"broke off \((OSError|ValueError)\)"):
            await push(upstream, server, content, size=size)
        assert not server.requests


async def test_a_push_whose_connection_breaks_is_lost(upstream: HttpUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.reset()

    async with raw_server(script) as server:
        with pytest.raises(LostError):
            await push(upstream, server, Content(MANY))


async def test_a_push_whose_answer_is_not_http_is_malformed(upstream: HttpUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"what?\r\n")
        await peer.closed()

    async with raw_server(script) as server:
        with pytest.raises(MalformedError):
            await push(upstream, server, Content(1))


async def test_a_push_to_nobody_asks_for_no_content(upstream: HttpUpstream) -> None:
    async with raw_server(take) as server:
        pass
    content = Content(1)
    with pytest.raises(NotSentError):
        await push(upstream, server, content)
    assert content.given == 0


async def test_a_push_that_is_cancelled_closes_its_connection(upstream: HttpUpstream) -> None:
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        running.cancel()
        await peer.closed()
        left.set()

    async with raw_server(script) as server:
        running = asyncio.create_task(push(upstream, server, Content(1, hangs=True), size=10**6))
        with pytest.raises(asyncio.CancelledError):
            await running
        await left.wait()
