"""HTTP to pods: kept-alive connections, and nothing the far side sends is trusted.

Behind the small `Upstream` protocol, so that the client can be exchanged without anybody noticing.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from appfn.dispatch.messages import Reply, Request

_KEEPALIVE_SECONDS = 3.0
"""Less than the 5 s after which a Node.js server closes an idle connection: one must not be closed while we use it."""
_CONNECT_SECONDS = 5.0
_PROBE_SECONDS = 1.0


class Address(NamedTuple):
    """Where a server in a pod listens."""

    host: str
    port: int


class UpstreamError(Exception):
    """A request to a pod has no valid answer."""


class NotSentError(UpstreamError):
    """No connection: the request was not sent and may be sent elsewhere."""


class LostError(UpstreamError):
    """The connection broke; whether the request was processed is unknown."""


class MalformedError(UpstreamError):
    """What came back is not HTTP."""


class Upstream(Protocol):
    """Requests to pods. All raise `UpstreamError`s; addresses are IP addresses of our own pods."""

    async def reachable(self, address: Address) -> bool:
        """Tell whether somebody accepts connections there."""

    async def call(self, address: Address, request: Request, *, seconds: float, limit: int) -> Reply:
        """Send a request and read at most `limit` bytes of its answer.

        Raises:
            TimeoutError: the answer was not complete within `seconds`.
        """

    async def push(
        self,
        address: Address,
        *,
        path: str,
        headers: Sequence[tuple[str, str]],
        size: int,
        content: AsyncIterator[bytes],
        limit: int,
    ) -> Reply:
        """POST `size` bytes of content as they come and read at most `limit` bytes of the answer; no timeout."""

    async def close(self) -> None:
        """Close all connections."""


class AiohttpUpstream:
    """`Upstream` by aiohttp's client. Follows no redirects, decompresses nothing, keeps no cookies."""

    def __init__(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS, use_dns_cache=False)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept", "User-Agent"),
            headers={"accept-encoding": "identity"},
        )

    async def reachable(self, address: Address) -> bool:
        """See `Upstream`."""
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                _, writer = await asyncio.open_connection(address.host, address.port)
        except OSError:  # TimeoutError is one
            return False
        writer.close()
        return True

    async def call(self, address: Address, request: Request, *, seconds: float, limit: int) -> Reply:
        """See `Upstream`."""
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_SECONDS))
        return await self._exchange(
            request.method,
            _url(address, request.path),
            headers=request.headers,
            data=request.body,
            timeout=timeout,
            limit=limit,
        )

    async def push(
        self,
        address: Address,
        *,
        path: str,
        headers: Sequence[tuple[str, str]],
        size: int,
        content: AsyncIterator[bytes],
        limit: int,
    ) -> Reply:
        """See `Upstream`."""
        return await self._exchange(
            "POST",
            _url(address, path),
            headers=CIMultiDict([*headers, ("content-length", str(size)), ("content-type", "application/gzip")]),
            data=content,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            limit=limit,
        )

    async def close(self) -> None:
        """See `Upstream`."""
        await self._session.close()

    async def _exchange(
        self,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str],
        data: bytes | AsyncIterator[bytes],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the client's own kind
        limit: int,
    ) -> Reply:
        try:
            async with self._session.request(
                method,
                url,
                headers=headers,
                data=data,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                return await _read(response, limit)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSentError(str(error)) from error
        except aiohttp.ClientResponseError as error:
            raise MalformedError("it is not valid HTTP") from error
        except aiohttp.ClientError as error:
            if isinstance(error, TimeoutError):
                raise
            raise LostError(type(error).__name__) from error
        except ConnectionError as error:
            raise LostError(type(error).__name__) from error


def _url(address: Address, path: str) -> URL:
    return URL.build(scheme="http", host=address.host, port=address.port, path=path)


async def _read(response: aiohttp.ClientResponse, limit: int) -> Reply:
    """Read the body up to the limit; a longer one is left unread, which closes its connection."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            response.close()
            return Reply(status=response.status, body=b"", complete=False)
    return Reply(status=response.status, body=bytes(body))
