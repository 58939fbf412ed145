"""HTTP to pods over kept-alive connections."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from appfn.dispatch.http1 import Connection, request_head
from appfn.dispatch.messages import Reply, Request
from appfn.dispatch.upstream import Address, Exchange, NotSentError

_KEEP_ALIVE_SECONDS: Final = 3.0
"""Less than the 5 s after which a Node.js server closes an idle connection: one must not be closed while we use it."""
_MAX_IDLE: Final = 128
"""Idle connections kept per address."""
_CONNECT_SECONDS: Final = 5.0
_PROBE_SECONDS: Final = 1.0


class HttpUpstream:
    """`Upstream` by connections of our own. Follows no redirects, decompresses nothing, keeps no cookies."""

    def __init__(self, *, keep_alive: float = _KEEP_ALIVE_SECONDS) -> None:
        """`keep_alive`: seconds an idle connection may be used again. Must be called within a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._keep_alive = keep_alive
        self._open: set[Connection] = set()
        self._idle: dict[Address, dict[Connection, None]] = {}
        """By address, in the order in which they fell idle."""
        self._timer: asyncio.TimerHandle | None = None
        """One for all idle connections."""

    async def reachable(self, address: Address) -> bool:
        """See `Upstream`."""
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                transport, _ = await self._loop.create_connection(asyncio.Protocol, *address)
        except OSError:  # TimeoutError is one
            return False
        transport.close()
        return True

    async def call(self, address: Address, request: Request, *, seconds: float, limit: int) -> Reply:
        """See `Upstream`."""
        deadline = self._loop.time() + seconds
        message, bodiless = _message(address, request), request.method == "HEAD"
        connection = self._take(address) or await self._connect(address, min(seconds, _CONNECT_SECONDS))
        return await connection.call(message, limit=limit, deadline=deadline, bodiless=bodiless)

    async def send(
        self,
        address: Address,
        request: Request,
        *,
        seconds: float,
        limit: int,
        on_end: Callable[[Reply | Exception], None],
    ) -> Exchange:
        """See `Upstream`."""
        deadline = self._loop.time() + seconds
        message, bodiless = _message(address, request), request.method == "HEAD"
        connection = self._take(address) or await self._connect(address, min(seconds, _CONNECT_SECONDS))
        return connection.send(message, limit=limit, deadline=deadline, bodiless=bodiless, on_end=on_end)

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
        """See `Upstream`. On a connection of its own, which is closed afterwards."""
        more = [*headers, ("content-type", "application/gzip"), ("connection", "close")]
        head = request_head(address, method="POST", path=path, headers=more, size=size)
        connection = await self._connect(address, _CONNECT_SECONDS)
        return await connection.push(head, content, size=size, limit=limit)

    async def close(self) -> None:
        """See `Upstream`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._idle.clear()
        for connection in self._open:
            connection.close()
        while self._open:  # noqa: ASYNC110 - transports close in the loop's next rounds
            await asyncio.sleep(0)

    async def _connect(self, address: Address, seconds: float) -> Connection:
        def make() -> Connection:
            return Connection(address, on_idle=self._keep, on_lost=self._forget)

        try:
            async with asyncio.timeout(seconds):
                _, connection = await self._loop.create_connection(make, *address)
        except OSError as error:  # TimeoutError is one
            raise NotSentError(str(error) or f"no connection within {seconds:g} s") from error
        if connection.closed:
            raise NotSentError("the connection was closed at once")
        self._open.add(connection)
        return connection

    def _take(self, address: Address) -> Connection | None:
        """Return the connection that was used last, so that the others fall out of use."""
        idle = self._idle.get(address)
        while idle:
            connection, _ = idle.popitem()
            if not connection.closed and self._loop.time() - connection.idle_since < self._keep_alive:
                return connection
            connection.close()
        return None

    def _keep(self, connection: Connection) -> None:
        idle = self._idle.setdefault(connection.address, {})
        if len(idle) >= _MAX_IDLE:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        idle[connection] = None
        if self._timer is None:
            self._timer = self._loop.call_later(self._keep_alive / 3, self._sweep)

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._idle.get(connection.address, {}).pop(connection, None)

    def _sweep(self) -> None:
        """Close what has been idle for too long; look again soon, as long as anything is idle."""
        oldest = self._loop.time() - self._keep_alive
        for address, idle in list(self._idle.items()):
            for connection in [each for each in idle if each.idle_since <= oldest]:
                del idle[connection]
                connection.close()
            if not idle:
                del self._idle[address]
        self._timer = self._loop.call_later(self._keep_alive / 3, self._sweep) if self._idle else None


def _message(address: Address, request: Request) -> bytes:
    head = request_head(
        address,
        method=request.method,
        path=request.path,
        headers=request.headers.items(),
        size=len(request.body),
    )
    return head + request.body
