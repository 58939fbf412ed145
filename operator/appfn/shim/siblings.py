"""How one process of a shim reaches the others: HTTP over a unix socket of each, in a folder that is theirs alone.

Whoever comes by such a socket is a sibling; nothing else proves it, and nothing else is needed.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

from appfn.core.shares import Part
from appfn.errors import AppfnError, TransientError

_KEEPALIVE_SECONDS = 30.0
"""Less than the server's, so that it never closes a connection that is just being used."""
_ASK_SECONDS = 2.0
_RETRY_SECONDS = 1.0


class SiblingLostError(AppfnError):
    """The sibling took the request and was gone before its answer: what it did is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a sibling answered."""

    status: int
    headers: Mapping[str, str]
    """Several of one name are kept."""
    body: bytes


def from_sibling(request: web.BaseRequest) -> bool:
    """Tell whether a request came by the socket of the siblings."""
    transport = request.transport
    return transport is not None and isinstance(transport.get_extra_info("sockname"), str | bytes)


class Siblings:
    """The other processes; none where this one is alone. Made by `open`."""

    def __init__(self, part: Part, folder: Path) -> None:
        self.part = part
        self.folder = folder
        self._sessions = {index: _session(self._path(index)) for index in range(part.count) if index != part.index}

    @classmethod
    @asynccontextmanager
    async def open(cls, part: Part, folder: Path) -> AsyncIterator[Self]:
        """Yield the siblings of process `part`, whose sockets are in `folder`; close the connections at the end."""
        opened = cls(part, folder)
        try:
            yield opened
        finally:
            await asyncio.gather(*(session.close() for session in opened._sessions.values()))

    @property
    def own_path(self) -> str:
        """Where this process listens for its siblings."""
        return self._path(self.part.index)

    async def send(
        self,
        index: int,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        seconds: float | None = None,
    ) -> Answer:
        """Send a request to a sibling; `url` is relative, `seconds` its longest time.

        Raises:
            TransientError: the sibling is not there; nothing was sent.
            SiblingLostError: it may have been.
        """
        try:
            async with self._sessions[index].request(
                method,
                URL.build(
                    scheme="http", host="sibling", path=url.raw_path, encoded=True, query_string=url.raw_query_string
                ),
                headers=headers,
                data=body or None,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=_ASK_SECONDS),
                allow_redirects=False,
            ) as response:
                return Answer(status=response.status, headers=response.headers, body=await response.read())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise TransientError(f"process {index} of the shim is not there", retry_after=_RETRY_SECONDS) from error
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise SiblingLostError(f"process {index} of the shim did not answer: {type(error).__name__}") from error

    async def ask(self, method: str, path: str) -> dict[int, Answer]:
        """Send the same to all; return what those answered that did within two seconds."""
        asked = list(self._sessions)
        sent = (self.send(index, method, URL(path), seconds=_ASK_SECONDS) for index in asked)
        answers = await asyncio.gather(*sent, return_exceptions=True)
        found: dict[int, Answer] = {}
        for index, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Answer):
                found[index] = answer
            elif not isinstance(answer, AppfnError):
                raise answer
        return found

    def _path(self, index: int) -> str:
        return str(self.folder / f"{index}.sock")


def _session(path: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(path, limit=0, keepalive_timeout=_KEEPALIVE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
    )
