"""Answers that are wrong, broken off, too large or too late: each has its error, and its connection is done with."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from appfn.dispatch.connections import HttpUpstream
from appfn.dispatch.messages import Reply, Request
from appfn.dispatch.upstream import Address, LostError, MalformedError, NotSentError
from support.polling import eventually
from support.raw_server import Peer, RawServer, Script, raw_server

LIMIT = 1000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

Ending = Callable[[Peer], object]


async def call(upstream: HttpUpstream, server: RawServer, *, seconds: float = 30.0) -> Reply:
    request = Request(headers={"content-type": "text/plain"}, body=b"question")
    return await upstream.call(server.address, request, seconds=seconds, limit=LIMIT)


def first(content: bytes, ending: Ending = Peer.closed) -> Script:
    """Answer the first request with these bytes and whatever ends them, all others well."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number:
            peer.send(OK)
            await peer.closed()
            return
        peer.send(content)
        if asyncio.iscoroutine(ended := ending(peer)):
            await ended

    return script


async def ends_with(upstream: HttpUpstream, script: Script, error: type[Exception], *, says: str | None = None) -> None:
    """Expect an error, the connection closed, nothing sent twice, and a next call that knows nothing of it."""
    async with raw_server(script) as server:
        with pytest.raises(error, match=says):
            await call(upstream, server)
        assert len(server.requests) == 1
        assert (await call(upstream, server)).body == b"fine"
        assert server.accepted == 2
        await server.peers[0].closed()


def close(peer: Peer) -> None:
    peer.writer.close()


@pytest.mark.parametrize(
    ("content", "ending"),
    [
        pytest.param(b"", close, id="closed before a byte"),
        pytest.param(b"", Peer.reset, id="reset before a byte"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Half", close, id="half a head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", close, id="half a body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", Peer.reset, id="reset in the body"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nhalf", Peer.reset, id="reset in a body without length"),
        pytest.param(CHUNKED + b"9\r\nhalf", close, id="half a chunk"),
        pytest.param(CHUNKED + b"4\r\nhalf\r\n", close, id="no last chunk"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", close, id="interim answer only"),
    ],
)
async def test_an_answer_that_breaks_off_is_lost_and_the_request_is_not_sent_again(
    upstream: HttpUpstream, content: bytes, ending: Ending
) -> None:
    await ends_with(upstream, first(content, ending), LostError)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="ssh"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x46", id="tls alert"),
        pytest.param(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", id="http/2 frame"),
        pytest.param(b"POST / HTTP/1.1\r\n\r\n", id="request"),
        pytest.param(b"HTTP/1.1 200 OK\nContent-Length: 4\n\nfine", id="lines end in LF"),
        pytest.param(b"HTTP/1.1 2000 OK\r\n\r\n", id="status of four digits"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-A\x00B: c\r\n\r\n", id="NUL in a name"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", id="folded header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="negative length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", id="length over 64 bits"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", id="two lengths"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="length and chunks",
        ),
        pytest.param(CHUNKED + b"zz\r\n", id="chunk size that is none"),
        pytest.param(CHUNKED + b"f" * 17 + b"\r\nx", id="chunk size over 64 bits"),
        pytest.param(CHUNKED + b"1\r\nxyz\r\n", id="chunk longer than it says"),
    ],
)
async def test_an_answer_that_is_not_http_is_malformed(upstream: HttpUpstream, content: bytes) -> None:
    await ends_with(upstream, first(content), MalformedError, says="not valid HTTP")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", "other protocol", id="upgrade"),
        pytest.param(b"HTTP/1.1 101 X\r\n\r\n", "other protocol", id="101 without upgrade"),
        pytest.param(b"HTTP/1.1 102 X\r\n\r\n" * 17, "interim", id="interim answers without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "transfer encoding", id="other encoding"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 65_536 + b"\r\n\r\n", "65,536 bytes", id="large header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 400_000, "65,536 bytes", id="header without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 257 + b"\r\n", "256 headers", id="many headers"),
        pytest.param(b"HTTP/1.1 200 " + b"O" * 400_000, "65,536 bytes", id="reason without end"),
        pytest.param(
            b"HTTP/1.1 102 X\r\nX: " + b"x" * 40_000 + b"\r\n\r\nHTTP/1.1 200 OK\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
            "65,536 bytes",
            id="large heads together",
        ),
        pytest.param(CHUNKED + b"0\r\nX: " + b"x" * 400_000, "65,536 bytes", id="trailer without end"),
        pytest.param(CHUNKED + b"0\r\n" + b"X: y\r\n" * 300, "256 headers", id="many trailers"),
        pytest.param(CHUNKED + b"1;x=" + b"x" * 400_000, "65,536 bytes", id="chunk extension without end"),
    ],
)
async def test_an_answer_out_of_proportion_is_malformed_and_says_what_is_wrong(
    upstream: HttpUpstream, content: bytes, says: str
) -> None:
    await ends_with(upstream, first(content), MalformedError, says=says)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001, id="length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\n\r\n" + b"x" * 1_000_000, id="huge length"),
        pytest.param(CHUNKED + b"7fffffffffffffff\r\n" + b"x" * 1_000_000, id="huge chunk"),
        pytest.param(CHUNKED + b"1\r\nx\r\n" * 2000, id="many chunks"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000, id="no length"),
    ],
)
async def test_a_body_over_the_limit_is_cut_off_and_not_kept(upstream: HttpUpstream, content: bytes) -> None:
    async with raw_server(first(content)) as server:
        assert await call(upstream, server) == Reply(status=200, body=b"", complete=False)
        assert (await call(upstream, server)).body == b"fine"
        assert server.accepted == 2


async def test_a_body_of_the_limit_is_whole(upstream: HttpUpstream) -> None:
    async with raw_server(first(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)) as server:
        assert await call(upstream, server) == Reply(status=200, body=b"x" * 1000)


def dripping(start: bytes, drop: bytes) -> Ending:
    async def drip(peer: Peer) -> None:
        peer.send(start)
        while not peer.reader.at_eof():
            peer.send(drop)
            await asyncio.sleep(0.005)  # what a slow pod does

    return drip


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(Peer.closed, id="silence"),
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\nX: ", b"x"), id="drops of a head"),
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x"), id="drops of a body"),
        pytest.param(dripping(CHUNKED, b"1\r\nx\r\n"), id="drops of chunks"),
    ],
)
async def test_an_answer_that_is_not_whole_in_time_is_a_timeout(upstream: HttpUpstream, ending: Ending) -> None:
    async with raw_server(first(b"", ending)) as server:
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await call(upstream, server, seconds=0.2)
        assert 0.19 < asyncio.get_running_loop().time() - began < 5
        assert (await call(upstream, server)).body == b"fine"
        assert server.accepted == 2
        assert len(upstream._open) == 1


async def test_a_port_that_nobody_listens_on_is_not_reachable_and_nothing_is_sent(upstream: HttpUpstream) -> None:
    async with raw_server(first(OK)) as server:
        assert await upstream.reachable(server.address)
    assert not await upstream.reachable(server.address)
    with pytest.raises(NotSentError):
        await call(upstream, server)


async def test_an_address_that_does_not_answer_in_time_is_not_sent_anything(upstream: HttpUpstream) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as waiting:
        address = Address(*listener.getsockname())
        for _ in range(2):  # nobody accepts them, so that the kernel drops whoever comes next
            client = waiting.enter_context(socket.socket())
            client.settimeout(0)
            client.connect_ex(address)
        with pytest.raises(NotSentError, match=r"within 0\.2 s"):
            await upstream.call(address, Request(headers={}, body=b""), seconds=0.2, limit=LIMIT)


async def heard(server: RawServer) -> None:
    async def came() -> bool:
        return bool(server.requests)

    await eventually(came)


async def test_an_upstream_that_is_closed_loses_what_runs(upstream: HttpUpstream) -> None:
    async with raw_server(first(b"HTTP/1.1 200 OK\r\n\r\nhalf")) as server:
        running = asyncio.create_task(call(upstream, server))
        await heard(server)
        await upstream.close()
        with pytest.raises(LostError):
            await running


@pytest.mark.parametrize("text", ["a\r\nb: c", "a\rb", "a\nb", "ü"])
async def test_a_header_that_would_break_the_head_is_refused(upstream: HttpUpstream, text: str) -> None:
    async with raw_server(first(OK)) as server:
        for headers in ({"x": text}, {text: "x"}):
            with pytest.raises(ValueError, match=r"line break|ascii"):
                await upstream.call(server.address, Request(headers=headers, body=b""), seconds=1, limit=LIMIT)
        assert server.accepted == 0
