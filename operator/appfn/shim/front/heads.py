"""Heads of requests that create an execution in the usual way, pure: bytes in, a `Head` or a refusal out."""

import re
from dataclasses import dataclass, field
from typing import Final

import httptools
from multidict import CIMultiDict, CIMultiDictProxy

from appfn.shim import formats
from appfn.shim.bodies import SMALL
from appfn.shim.formats import Format
from appfn.shim.middleware import harmless_id
from appfn.shim.rest.admission import PROJECT_HEADER

END: Final = b"\r\n\r\n"
MAX_HEAD: Final = 8190
"""Bytes; aiohttp's own bounds on lines and fields decide on longer ones."""
_MAX_HEADERS: Final = 64
"""Heads are kept, and a header takes far more memory than the bytes it came in."""
_TARGET: Final = re.compile(rb"/v1/functions/([A-Za-z0-9._-]{1,36})/executions")
_DIGITS: Final = re.compile(r"[0-9]{1,7}", re.ASCII)
_OTHERS: Final = frozenset(
    {
        "content-encoding",
        "expect",
        "idempotency-key",  # its answer may be an earlier one's: the durable queue knows
        "origin",  # CORS
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers of requests that are for aiohttp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What the head of a request says."""

    function_id: str
    project_id: str
    format: Format
    length: int
    """Bytes of the body, at most `SMALL`."""
    request_id: str
    """The client's own; empty where it gives none."""
    headers: CIMultiDictProxy[str] = field(repr=False)


class _Collector:
    """What llhttp finds."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.whole = False
        self.body = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.add(name.decode("ascii"), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        self.whole = True

    def on_body(self, _: bytes) -> None:
        self.body = True


def parse(head: bytes) -> Head | None:
    """Return what a head says, its empty line included; None where the request is for aiohttp to deal with."""
    found = _collected(head)
    if found is None:
        return None
    headers, target = found.headers, _TARGET.fullmatch(found.url)
    length = headers.get("content-length", "")
    if target is None or not _DIGITS.fullmatch(length) or int(length) > SMALL or not _is_usual(headers):
        return None
    return Head(
        function_id=target[1].decode(),
        project_id=headers.get(PROJECT_HEADER, ""),
        format=formats.negotiate(headers.get(formats.HEADER)),
        length=int(length),
        request_id=harmless_id(headers.get("X-Request-Id")),
        headers=CIMultiDictProxy(headers),
    )


def _collected(head: bytes) -> _Collector | None:
    if len(head) > MAX_HEAD or not head.startswith(b"POST /v1/functions/"):
        return None
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(head)
        usual = parser.get_http_version() == "1.1" and parser.should_keep_alive() and not parser.should_upgrade()
    except (httptools.HttpParserError, httptools.HttpParserUpgrade, UnicodeDecodeError):
        return None
    # A parser that saw an end of the head before ours took the rest of it for a body.
    return collector if usual and collector.whole and not collector.body else None


def _is_usual(headers: CIMultiDict[str]) -> bool:
    names = [name.lower() for name, _ in headers.items()]  # its keys alone would come without repeats
    return len(set(names)) == len(names) <= _MAX_HEADERS and _OTHERS.isdisjoint(names)
