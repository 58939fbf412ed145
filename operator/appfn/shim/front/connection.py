"""A client's connection, until aiohttp has to take it over."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

from appfn.shim.front.desk import Desk, Known
from appfn.shim.front.heads import END, MAX_HEAD
from appfn.shim.front.outbox import Outbox
from appfn.shim.front.relay import Relay

IDLE_SECONDS: Final = 75.0
"""A connection that brings nothing for so long is closed."""
PATIENCE_SECONDS: Final = 5.0
"""How long the rest of a body may take before aiohttp, which has bounds of its own, is to wait for it."""
_SWEEP_SECONDS: Final = 2.5
_MAX_PASSES: Final = 2
"""How often a request may be passed on; more only while processes disagree on who runs its function."""


class Connections:
    """All that the front has, and what makes them: called for each new one."""

    def __init__(self, desk: Desk) -> None:
        self.desk: Final = desk
        self.open: Final[set[Connection]] = set()
        self.outbox: Final = Outbox()
        self.busy = 0
        """Requests that are being answered."""
        self._make_handler: Callable[[], asyncio.Protocol] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[None] | None = None
        """Set when the last one has gone; there once all are to go."""
        self._adopting: Final[set[asyncio.Task[None]]] = set()
        self.relay: Relay | None = None
        """How other processes are given connections, where there are any."""

    def start(self, make_handler: Callable[[], asyncio.Protocol], relay: Relay | None) -> None:
        """Be ready for connections; `make_handler` makes aiohttp's protocol for one."""
        self._make_handler = make_handler
        if relay is not None:
            relay.listen(self._adopt)
            self.relay = relay
        self._timer = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def __call__(self) -> "Connection":
        """Return the protocol for a new connection."""
        return Connection(self)

    def handler(self) -> asyncio.Protocol:
        """Return aiohttp's protocol for a connection."""
        assert self._make_handler is not None, "started before anything is accepted"
        return self._make_handler()

    async def close(self, *, seconds: float) -> None:
        """Close all of them; answers that are on their way, and calls that came in the last moment, get so long."""
        if self._timer is not None:
            self._timer.cancel()
        if self.relay is not None:
            self.relay.close()
            self.relay = None
        if self._adopting:
            await asyncio.wait(self._adopting, timeout=seconds)
        self.outbox.flush()
        for connection in list(self.open):
            connection.leave()
        if self.open:
            self._ended = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._ended}, timeout=seconds)
        for connection in list(self.open):
            connection.close()

    def forget(self, connection: "Connection") -> None:
        """Know no more of one that is closed, or aiohttp's."""
        self.open.discard(connection)
        if self._ended is not None and not self.open and not self._ended.done():
            self._ended.set_result(None)

    def _adopt(self, connection: socket.socket, content: bytes, passes: int) -> None:
        """Go on with a connection that another process had."""
        loop = asyncio.get_running_loop()

        async def open_it() -> None:
            try:
                await loop.connect_accepted_socket(lambda: Connection(self, content, passes=passes), connection)
            except OSError:  # the client has gone meanwhile
                connection.close()

        task = loop.create_task(open_it())
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        for connection in list(self.open):
            connection.look(loop.time())
        self._timer = loop.call_later(_SWEEP_SECONDS, self._sweep)


class Connection(asyncio.Protocol):
    """One connection: one request at a time, in order."""

    def __init__(self, connections: Connections, content: bytes = b"", *, passes: int = 0) -> None:
        """`content`: what came while another process had it; `passes`: how many had it since its last answer."""
        self._all = connections
        self._loop = asyncio.get_running_loop()
        self._buffer = content
        """What came and is not dealt with."""
        self._passes = passes
        self._busy = False
        self._full = False
        """The client takes no more for now."""
        self._since = 0.0
        """When it last had something to do, in the loop's seconds."""
        self._transport: asyncio.Transport
        self._peer = ""
        self._task: asyncio.Task[None] | None = None
        """What answers the request under way; held by the drain too, as the connection may be gone first."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit from asyncio's
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else ""
        self._since = self._loop.time()
        self._all.open.add(self)
        if self._buffer:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever the reason
        """See `asyncio.Protocol`. A call that runs goes on, and is recorded."""
        self._all.forget(self)
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._buffer = self._buffer + data if self._buffer else data
        if self._busy or self._full:
            self._transport.pause_reading()  # a client that does not wait for its answers has to, now
        else:
            self._next()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._full = True

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._full = False
        if self._buffer and not self._busy:
            self._next()

    def look(self, now: float) -> None:
        """Do what is due on a connection that does nothing."""
        if self._busy:
            return
        if self._stuck:
            if now - self._since > IDLE_SECONDS:
                self.close()
        elif self._buffer and now - self._since > PATIENCE_SECONDS:
            self._hand_over()
        elif now - self._since > IDLE_SECONDS:
            self.close()

    def leave(self) -> None:
        """Close it once what was answered is sent; a call that runs does so when it ends."""
        if not self._busy:
            self._transport.close()

    def close(self) -> None:
        """Close it at once."""
        self._transport.abort()

    @property
    def _stuck(self) -> bool:
        """Tell whether nothing that came may be dealt with: aiohttp would not know that its answers do not get away."""
        return self._full or self._transport.is_closing()

    def _next(self) -> None:
        """Deal with what is in the buffer, if it is a whole request."""
        if self._stuck:
            return
        data = self._buffer
        end = data.find(END, 0, MAX_HEAD) + len(END)
        desk = self._all.desk
        known = desk.known(data[:end]) if end >= len(END) else None
        if known is None:
            self._hand_over()
            return
        if (index := desk.elsewhere(known.head)) is not None:
            self._pass_on(index)
            return
        whole = end + known.head.length
        if len(data) < whole:
            self._transport.resume_reading()  # now, not before: each answer would let in more than it answers
            return
        self._buffer = data[whole:]
        self._busy = True
        self._all.busy += 1
        self._task = self._loop.create_task(self._serve(known, data[end:whole]))

    async def _serve(self, known: Known, body: bytes) -> None:
        desk = self._all.desk
        try:
            answer = await desk.answer(known, body, peer=self._peer)
        except BaseException:
            self._transport.abort()  # cancelled, late in a shutdown: there will be no answer
            raise
        finally:
            self._busy = False
            self._all.busy -= 1
        self._since = self._loop.time()
        self._passes = 0
        self._all.outbox.put(self._transport, answer)
        draining = desk.drain.draining
        if draining or not self._all.busy:
            self._all.outbox.flush()
        if draining:
            self._transport.close()
        elif self._buffer:
            self._next()
        else:
            self._transport.resume_reading()

    def _pass_on(self, index: int) -> None:
        """Let another process have the connection; where that is not possible, aiohttp, which hands over its calls."""
        self._all.outbox.flush()
        transport, relay = self._transport, self._all.relay
        descriptor = transport.get_extra_info("socket").fileno()
        if (
            relay is None
            or self._passes >= _MAX_PASSES
            or transport.get_write_buffer_size()
            or not relay.give(index, descriptor, self._buffer, passes=self._passes + 1)
        ):
            self._hand_over()
            return
        self._all.forget(self)
        self._buffer = b""
        transport.abort()  # of this process's descriptor alone

    def _hand_over(self) -> None:
        """Let aiohttp have the connection, with all that came and was not dealt with."""
        self._all.forget(self)
        self._all.outbox.flush()  # the last answer goes before any of aiohttp's
        transport, data, handler = self._transport, self._buffer, self._all.handler()
        self._buffer = b""
        transport.set_protocol(handler)
        handler.connection_made(transport)
        transport.resume_reading()
        if data:
            handler.data_received(data)
