"""The replies of one HTTP/1.1 connection, out of the bytes that come: no I/O, and nothing in them is trusted.

llhttp knows the grammar. Here is what it leaves open: bounds on everything it would gather, interim replies, and
whether the connection stands at the beginning of a next reply afterwards.
"""

from typing import Final

import httptools

from appfn.dispatch.messages import Reply
from appfn.dispatch.upstream import MalformedError

_MAX_HEAD: Final = 65_536
"""Bytes of heads (interim ones included) and of trailers; also of anything that brings the body no further."""
_MAX_HEADERS: Final = 256
_MAX_INTERIM: Final = 16
_END_OF_HEAD: Final = b"\r\n\r\n"
_MAX_KNOWN: Final = 32
"""Heads remembered; a head holds the date, so that all change each second, and little is gained by more."""
_MAX_KNOWN_HEAD: Final = 1024
_SWITCHING_PROTOCOLS: Final = 101
_MEASURES: Final = frozenset({b"content-length", b"transfer-encoding"})


class _EnoughError(Exception):
    """Stops the parser for good: the reply is known, whatever comes after."""


class ReplyParser:
    """Turns bytes into replies; call `expect` before each."""

    __slots__ = (
        "_begun",
        "_bodiless",
        "_body",
        "_fruitless",
        "_head",
        "_headers",
        "_in_body",
        "_interim",
        "_known",
        "_limit",
        "_llhttp",
        "_measured",
        "_reply",
        "reusable",
    )

    def __init__(self) -> None:
        self._llhttp = httptools.HttpResponseParser(self)
        self._known: dict[bytes, tuple[int, int]] = {}
        """Heads of replies that came whole, as llhttp read them: status, and bytes of the body."""
        self.expect(limit=0)

    def expect(self, *, limit: int, bodiless: bool = False) -> None:
        """Prepare for the next reply, of at most `limit` bytes of body; `bodiless`: it answers a HEAD."""
        self.reusable = True
        """Once there is a reply: whether another one may come on the same connection."""
        self._limit = limit
        self._begun = False
        self._bodiless = bodiless
        self._reply: Reply | None = None
        self._body = bytearray()
        self._in_body = False
        self._measured = False
        self._head = self._headers = self._interim = self._fruitless = 0

    def feed(self, data: bytes) -> Reply | None:
        """Take in what came; return the reply once it is whole, or larger than its limit.

        Raises:
            MalformedError: it is no reply, or one out of all proportion.
        """
        if not self._begun and (reply := self._seen(data)) is not None:
            return reply
        first, self._begun = not self._begun, True
        self._fruitless += len(data)
        try:
            self._llhttp.feed_data(data)
        except httptools.HttpParserError as error:
            self.reusable = False
            if self._reply is None:
                raise _refusal(error) from None
        if self._fruitless > _MAX_HEAD and self._reply is None:
            raise MalformedError(f"more than {_MAX_HEAD:,} bytes came without any content")
        if first and self._reply is not None:
            self._remember(data, self._reply)
        return self._taken()

    def end(self) -> Reply | None:
        """Take in that no more bytes come; return the reply if this is how it ends."""
        if not self._in_body or self._measured:
            return None
        self._conclude()
        return self._taken()

    def clear(self) -> None:
        """Let go of a body that will never be whole; memory would otherwise wait for the collector of cycles."""
        self._body.clear()

    def on_message_begin(self) -> None:
        """See `httptools`: also called for what follows a reply nobody asked to be followed."""
        if self._reply is not None:
            raise _EnoughError

    def on_header(self, name: bytes, value: bytes) -> None:
        """See `httptools`: also called for trailers."""
        self._head += len(name) + len(value)
        self._headers += 1
        if self._head > _MAX_HEAD:
            raise MalformedError(f"its headers are larger than {_MAX_HEAD:,} bytes")
        if self._headers > _MAX_HEADERS:
            raise MalformedError(f"it has more than {_MAX_HEADERS} headers")
        if self._in_body:
            self.reusable = False  # not worth knowing how llhttp goes on after trailers
            return
        name = name.lower()
        if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            raise MalformedError("its transfer encoding is not `chunked`")
        if name in _MEASURES:
            self._measured = True

    def on_headers_complete(self) -> None:
        """See `httptools`."""
        self._fruitless = 0
        self._in_body = True
        if self._bodiless and self._llhttp.get_status_code() // 100 != 1:
            self._conclude()
            raise _EnoughError  # llhttp would wait for the body that the headers speak of

    def on_body(self, data: bytes) -> None:
        """See `httptools`."""
        self._fruitless = 0
        if len(self._body) + len(data) > self._limit:
            self._body.clear()
            self._reply = Reply(status=self._llhttp.get_status_code(), body=b"", complete=False)
            raise _EnoughError
        self._body += data

    def on_message_complete(self) -> None:
        """See `httptools`."""
        status = self._llhttp.get_status_code()
        if status // 100 == 1:
            self._pass_over(status)
            return
        self.reusable = self.reusable and self._llhttp.should_keep_alive()
        self._conclude()

    def _seen(self, data: bytes) -> Reply | None:
        """Return a reply that is here as a whole with a head known from before, of which llhttp would say the same."""
        end = data.find(_END_OF_HEAD, 0, _MAX_KNOWN_HEAD) + len(_END_OF_HEAD)
        status, size = self._known.get(data[:end], (0, 0))
        if not status or len(data) - end != size or size > self._limit or self._bodiless:
            return None
        return Reply(status=status, body=data[end:])

    def _remember(self, data: bytes, reply: Reply) -> None:
        """Remember the head of a reply that came at once, if nothing came but one head and the body's own bytes."""
        end = data.find(_END_OF_HEAD, 0, _MAX_KNOWN_HEAD) + len(_END_OF_HEAD)
        if end < len(_END_OF_HEAD) or len(data) - end != len(reply.body) or not self.reusable:
            return
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[data[:end]] = reply.status, len(reply.body)

    def _taken(self) -> Reply | None:
        """Return the reply if there is one, and keep it no longer: an idle connection holds no payload."""
        reply, self._reply = self._reply, None
        return reply

    def _pass_over(self, status: int) -> None:
        """Go on to the reply that an interim one announces."""
        self._interim += 1
        if status == _SWITCHING_PROTOCOLS:
            raise MalformedError("it switches to another protocol")
        if self._interim > _MAX_INTERIM:
            raise MalformedError(f"more than {_MAX_INTERIM} interim answers came")
        self._in_body = self._measured = False

    def _conclude(self) -> None:
        self._reply = Reply(status=self._llhttp.get_status_code(), body=bytes(self._body))
        self._body.clear()


def _refusal(error: httptools.HttpParserError) -> MalformedError:
    """Return what one of our callbacks objected to, or else the parser; its words may quote nothing that came."""
    cause = error.__context__
    return cause if isinstance(cause, MalformedError) else MalformedError("it is not valid HTTP")
