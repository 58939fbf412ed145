from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfn.dispatch.http1 import request_head
from appfn.dispatch.messages import Reply
from appfn.dispatch.replies import ReplyParser
from appfn.dispatch.upstream import Address, MalformedError

LIMIT = 100
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

REPLIES = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine", Reply(status=200, body=b"fine")),
    (b"HTTP/1.1 204 X\r\nContent-Length: 4\r\n\r\n", Reply(status=204, body=b"")),
    (
        b"HTTP/1.1 102 X\r\nContent-Length: 4\r\n\r\n" + CHUNKED + b"2;a=b\r\nfi\r\n2\r\nne\r\n0\r\n\r\n",
        Reply(status=200, body=b"fine"),
    ),
    (
        CHUNKED + b"4\r\nfine\r\n0\r\nContent-Type: x\r\n\r\n",
        Reply(status=200, body=b"fine"),
    ),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"x" * 101, Reply(status=200, body=b"", complete=False)),
]


def a_parser() -> ReplyParser:
    parser = ReplyParser()
    parser.expect(limit=LIMIT)
    return parser


def pieces(content: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % len(content) for cut in cuts), len(content)]
    return [content[start:end] for start, end in pairwise(edges)]


@given(case=st.sampled_from(REPLIES), cuts=st.lists(st.integers(0, 1000)))
def test_a_reply_is_the_same_however_its_bytes_arrive(case: tuple[bytes, Reply], cuts: list[int]) -> None:
    content, reply = case
    parser = a_parser()
    found = [got for piece in pieces(content, cuts) if (got := parser.feed(piece)) is not None]
    assert found[0] == reply


@given(case=st.sampled_from(REPLIES[:3]), following=st.sampled_from(REPLIES), cuts=st.lists(st.integers(0, 1000)))
def test_nothing_of_a_reply_shows_in_the_next(
    case: tuple[bytes, Reply], following: tuple[bytes, Reply], cuts: list[int]
) -> None:
    parser = a_parser()
    assert parser.feed(case[0]) == case[1]
    assert parser.reusable
    parser.expect(limit=LIMIT)
    found = [got for piece in pieces(following[0], cuts) if (got := parser.feed(piece)) is not None]
    assert found[0] == following[1]


@given(start=st.sampled_from([content for content, _ in REPLIES]), cut=st.integers(0, 200), rest=st.binary())
def test_whatever_comes_is_a_reply_or_malformed_or_not_whole_yet(start: bytes, cut: int, rest: bytes) -> None:
    parser = a_parser()
    try:
        reply = parser.feed(start[:cut] + rest) or parser.end()
    except MalformedError:
        return
    assert reply is None or len(reply.body) <= LIMIT


def read(parser: ReplyParser, content: bytes, *, limit: int, bodiless: bool) -> tuple[Reply | str | None, bool]:
    """Return what a parser makes of bytes that come at once, and whether the connection may go on."""
    parser.expect(limit=limit, bodiless=bodiless)
    try:
        reply = parser.feed(content)
    except MalformedError as error:
        return str(error), False
    return reply, parser.reusable


HEADS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 X\r\n\r\n",
    b"HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 102 X\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n",
    CHUNKED,
]
BODIES = [b"", b"fine", b"four", b"fin", b"0\r\n\r\n", b"fineHTTP/1.1 200 OK\r\n\r\n", b"\r\n\r\n"]


def test_a_head_that_was_seen_before_reads_as_one_that_was_not() -> None:
    for before, first, head, body in product(HEADS, BODIES, HEADS, BODIES):
        for limit, was_bodiless, bodiless in product([3, LIMIT], [False, True], [False, True]):
            parser = ReplyParser()
            reply, reusable = read(parser, before + first, limit=LIMIT, bodiless=was_bodiless)
            if not isinstance(reply, Reply) or not reusable:
                continue  # the connection would be closed
            expected = read(ReplyParser(), head + body, limit=limit, bodiless=bodiless)
            assert read(parser, head + body, limit=limit, bodiless=bodiless) == expected


def test_a_head_that_was_seen_before_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = ReplyParser()
    first = read(parser, HEADS[0] + b"fine", limit=LIMIT, bodiless=False)
    monkeypatch.setattr(parser, "_llhttp", None)
    assert read(parser, HEADS[0] + b"fine", limit=LIMIT, bodiless=False) == first


def test_only_so_many_heads_are_remembered() -> None:
    parser = ReplyParser()
    for number in range(100):
        read(parser, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX: %d\r\n\r\nfine" % number, limit=9, bodiless=False)
    assert 0 < len(parser._known) <= 32


@pytest.mark.parametrize("host", ["fd00::1", "10.0.0.1"])
def test_a_host_header_holds_the_address_as_a_url_does(host: str) -> None:
    head = request_head(Address(host, 3000), method="POST", path="/", headers=[], size=0)
    assert (b"host: [fd00::1]:3000\r\n" in head) == (host == "fd00::1")
    assert (b"host: 10.0.0.1:3000\r\n" in head) == (host == "10.0.0.1")
