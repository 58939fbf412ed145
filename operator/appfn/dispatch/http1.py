"""One HTTP/1.1 connection to a pod: one exchange at a time, and no task for it."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable
from functools import lru_cache
from typing import Final, TypeAlias, cast

from appfn.dispatch.messages import Reply
from appfn.dispatch.replies import ReplyParser
from appfn.dispatch.upstream import Address, LostError, MalformedError

_End: TypeAlias = Callable[[Reply | Exception], None]


def request_head(address: Address, *, method: str, path: str, headers: Iterable[tuple[str, str]], size: int) -> bytes:
    """Return the head of a request whose body has `size` bytes.

    Raises:
        ValueError: a header holds a line break or is not ASCII.
    """
    return b"%bcontent-length: %d\r\n\r\n" % (_lines(address, method, path, tuple(headers)), size)


@lru_cache(maxsize=1024)  # for a pod they are the same for each call
def _lines(address: Address, method: str, path: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    """Return a request's head but for its end."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    lines = [
        f"{method} {path} HTTP/1.1",
        f"host: {host}:{address.port}",
        "accept-encoding: identity",
        *[f"{name}: {value}" for name, value in headers],
    ]
    text = "\r\n".join(lines)
    if text.count("\r") != len(lines) - 1 or text.count("\n") != len(lines) - 1:
        raise ValueError("a header of a request to a pod holds a line break")
    return f"{text}\r\n".encode("ascii")


class Connection(asyncio.Protocol):
    """A connection. Whatever leaves it in doubt closes it: an error, a timeout, a cancellation, a byte out of turn."""

    def __init__(
        self,
        address: Address,
        *,
        on_idle: Callable[["Connection"], None],
        on_lost: Callable[["Connection"], None],
    ) -> None:
        """`on_idle`: an exchange has ended and another one may follow; `on_lost`: the connection is no more."""
        self.address: Final = address
        self.idle_since = 0.0
        """Monotonic seconds; kept by whoever keeps the connection."""
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._replies = ReplyParser()
        self._on_end: _End | None = None
        """None between exchanges: an idle connection holds no payload."""
        self._deadline = math.inf
        """Of the exchange under way, in the loop's seconds."""
        self._timer: asyncio.TimerHandle | None = None
        """Looks for the deadline. It outlives exchanges, as most of them end long before: one for each costs more."""
        self._timer_at = math.inf
        """When it goes off; not every handle of uvloop tells."""
        self._drained: asyncio.Future[None] | None = None
        """Awaited by a sender while the transport has enough to send."""
        self._single = False
        """The exchange is the connection's last."""
        self._transport: asyncio.Transport

    @property
    def closed(self) -> bool:
        """Tell whether nothing can be sent any more."""
        return self._transport.is_closing()

    def serves(self, on_end: _End) -> bool:
        """Tell whether the exchange under way is the one that tells `on_end`."""
        return self._on_end is not None and self._on_end == on_end

    async def call(self, message: bytes, *, limit: int, deadline: float, bodiless: bool = False) -> Reply:
        """Send a whole request and return its reply; `deadline` in the loop's seconds. See `Upstream.call`."""
        answer: asyncio.Future[Reply | Exception] = self._loop.create_future()
        exchange = self.send(message, limit=limit, deadline=deadline, bodiless=bodiless, on_end=_settles(answer))
        try:
            return _reply(await answer)
        except asyncio.CancelledError:
            exchange.close()
            raise

    def send(self, message: bytes, *, limit: int, deadline: float, bodiless: bool, on_end: _End) -> "_Exchange":
        """Send a whole request; `deadline` in the loop's seconds. See `Upstream.send`."""
        self._replies.expect(limit=limit, bodiless=bodiless)
        self._on_end = on_end
        self._deadline = deadline
        if self._timer is None or self._timer_at > deadline:
            self._set_timer()
        self._transport.write(message)
        return _Exchange(self, on_end)

    async def push(self, head: bytes, content: AsyncIterator[bytes], *, size: int, limit: int) -> Reply:
        """Send `size` bytes of content after a head, no faster than they are taken, and close. See `Upstream.push`."""
        self._replies.expect(limit=limit)
        self._single = True
        self._deadline = math.inf
        answer: asyncio.Future[Reply | Exception] = self._loop.create_future()
        self._on_end = _settles(answer)
        self._transport.write(head)
        sender = asyncio.create_task(self._send(content, size))
        sender.add_done_callback(self._on_sent)
        try:
            return _reply(await answer)
        finally:
            sender.cancel()
            self.close()
            await asyncio.wait({sender})

    def close(self) -> None:
        """Break off; an exchange that runs is lost."""
        self._settle(LostError("the connection was closed"))
        self._unset_timer()
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._on_end is None:
            self.close()
            return
        try:
            reply = self._replies.feed(data)
        except MalformedError as error:
            self._settle(error)
            self.close()
        else:
            if reply is not None:
                self._finish(reply)

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""
        self._settle(self._replies.end() or LostError("the other end closed the connection"))
        self._transport.abort()  # left alone, it would first wait until the rest of the request is taken

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._on_lost(self)
        self._unset_timer()
        self._settle(LostError(type(exc).__name__ if exc is not None else "the connection was closed"))
        self._replies.clear()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _finish(self, reply: Reply) -> None:
        # A reply that came before its request was sent whole would have the rest of it sent before the next one.
        if self._replies.reusable and not self._single and not self._transport.get_write_buffer_size():
            on_end = self._end()
            self._on_idle(self)  # first, as whoever is told of the reply may have the next request at hand
            if on_end is not None:
                on_end(reply)
        else:
            self._settle(reply)
            self.close()

    def _settle(self, outcome: Reply | Exception) -> None:
        """Tell whoever waits; the first outcome counts."""
        if (on_end := self._end()) is not None:
            on_end(outcome)

    def _end(self) -> _End | None:
        """End the exchange; return who is to be told, if there is one."""
        on_end, self._on_end = self._on_end, None
        return on_end

    def _set_timer(self) -> None:
        self._unset_timer()
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._timer_at, self._on_timer)

    def _unset_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        if self._on_end is None:
            return  # the next exchange sets it anew
        if self._loop.time() < self._deadline:
            self._set_timer()
            return
        self._settle(TimeoutError("the answer was not complete in time"))
        self.close()

    async def _send(self, content: AsyncIterator[bytes], size: int) -> None:
        left = size
        async for chunk in content:
            left -= len(chunk)
            if left < 0:
                break
            self._transport.write(chunk)
            if self._drained is not None:
                await self._drained
        if left:
            raise ValueError(f"the content has not the {size} bytes it was said to have")

    def _on_sent(self, sender: asyncio.Task[None]) -> None:
        """End an exchange whose content cannot be sent whole: the other end would wait for the rest."""
        if not sender.cancelled() and (error := sender.exception()) is not None:
            lost = LostError(f"its content broke off ({type(error).__name__})")
            lost.__cause__ = error
            self._settle(lost)


class _Exchange:
    """A request under way; the connection may have another one by the time it is closed."""

    __slots__ = ("_connection", "_on_end")

    def __init__(self, connection: Connection, on_end: _End) -> None:
        self._connection = connection
        self._on_end = on_end

    def close(self) -> None:
        """See `Exchange`."""
        if self._connection.serves(self._on_end):
            self._connection.close()


def _settles(answer: "asyncio.Future[Reply | Exception]") -> _End:
    """Return what settles a future, if anybody still waits for it."""

    def settle(outcome: Reply | Exception) -> None:
        if not answer.done():
            answer.set_result(outcome)

    return settle


def _reply(outcome: Reply | Exception) -> Reply:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
