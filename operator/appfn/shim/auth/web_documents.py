"""Gets JSON documents from servers that a project names: little, soon, and not from inside.

Projects choose the URL, the shim sends the request: so https only, to public addresses only, no redirects. What an
administrator trusts by `APPFN_OIDC_TRUSTED` may also be plain http or at a private address.
"""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from appfn.errors import ConfigError, InvalidSpecError, TransientError
from appfn.shim.auth.oidc import origin_of

MAX_BYTES = 262_144
SECONDS = 5.0
_CONNECTIONS = 16
_OK = 200
_UNICAST = IPv6Network("2000::/3")
"""All of IPv6 that is given out for the world."""
_NAT64 = IPv6Network("64:ff9b::/96")
"""Each leads to an IPv4 address, by a gateway of networks that have none."""


class WebDocuments:
    """See the module. Made by `open`."""

    def __init__(self, session: aiohttp.ClientSession, trusted: frozenset[str]) -> None:
        self._session = session
        self._trusted = trusted

    @classmethod
    @asynccontextmanager
    async def open(cls, trusted: str) -> AsyncIterator[Self]:
        """Yield it; `trusted` are origins, separated by commas.

        Raises:
            ConfigError: naming what is no origin.
        """
        origins = _origins(trusted)
        connector = aiohttp.TCPConnector(
            resolver=_Resolver(frozenset(_place(origin) for origin in origins)), limit=_CONNECTIONS
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=SECONDS),
            auto_decompress=False,  # a bomb is no JSON as it stands
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "appfn"},
        )
        async with session:
            yield cls(session, origins)

    async def get(self, url: str) -> Any:
        """Return the JSON document at a URL.

        Raises:
            InvalidSpecError: it is not to be asked, or answers with something else.
            TransientError: no answer.
        """
        address = self._checked(url)
        try:
            async with self._session.get(address, allow_redirects=False) as response:
                if response.status != _OK:
                    raise TransientError(f"{url} answered {response.status}")
                content = await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise TransientError(f"{url}: {type(error).__name__}") from error
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise InvalidSpecError(url, "is no JSON") from error

    def _checked(self, url: str) -> URL:
        origin = origin_of(url)
        address = URL(url) if origin else None
        if address is None or (address.scheme != "https" and origin not in self._trusted):
            raise InvalidSpecError(url, "must begin with https://")
        host = address.host or ""  # as the client will read it, who sees digits where others see letters
        if origin not in self._trusted and _literal(host) and not _public(host):
            raise InvalidSpecError(url, "is no public address; an administrator may trust it by APPFN_OIDC_TRUSTED")
        return address


class _Resolver(AbstractResolver):
    """Finds public addresses alone, but for what is trusted. Here, as a name may lead elsewhere each time."""

    def __init__(self, trusted: frozenset[tuple[str, int]]) -> None:
        self._inner = ThreadedResolver()
        self._trusted = trusted

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if (host, port) in self._trusted:
            return found
        public = [result for result in found if _public(result["host"])]
        if not public:
            raise OSError(f"{host} has no public address; an administrator may trust it by APPFN_OIDC_TRUSTED")
        return public

    async def close(self) -> None:
        await self._inner.close()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for piece in response.content.iter_any():
        content += piece
        if len(content) > MAX_BYTES:
            raise ValueError("too much")
    return bytes(content)


def _origins(text: str) -> frozenset[str]:
    found = set()
    for item in filter(None, map(str.strip, text.split(","))):
        if (origin := origin_of(item)) is None:
            raise ConfigError(f"APPFN_OIDC_TRUSTED: {item!r} is no origin such as https://dex.auth.svc:5556")
        found.add(origin)
    return frozenset(found)


def _place(origin: str) -> tuple[str, int]:
    parts = urlsplit(origin)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _public(host: str) -> bool:
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        inner = IPv4Address(address.packed[-4:]) if address in _NAT64 else address.ipv4_mapped or address.sixtofour
        if inner is None and address not in _UNICAST:
            return False
        address = inner or address
    return address.is_global and not address.is_multicast
