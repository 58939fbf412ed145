"""Where the front listens."""

import asyncio

from aiohttp import web

from appfn.shim.front.connection import Connections
from appfn.shim.front.desk import Desk
from appfn.shim.front.relay import Relay
from appfn.shim.services import SIBLINGS

FRONT = web.AppKey("front", Connections)
_CLOSE_SECONDS = 1.0
"""What clients get to take the last answers."""


def add_front(app: web.Application) -> None:
    """Give the application a front; it keeps its connections until the application shuts down."""
    app[FRONT] = Connections(Desk(app))
    app.on_shutdown.append(_close)


async def _close(app: web.Application) -> None:
    await app[FRONT].close(seconds=_CLOSE_SECONDS)


class FrontSite(web.BaseSite):
    """A TCP port, as aiohttp's own `TCPSite`, with the front before the application."""

    def __init__(self, runner: web.AppRunner, host: str, port: int, *, reuse_port: bool = False) -> None:
        """`reuse_port`: other processes listen there too."""
        super().__init__(runner)
        self._address = host, port
        self._reuse_port = reuse_port
        self._front = runner.app[FRONT]
        self._siblings = runner.app[SIBLINGS]

    @property
    def name(self) -> str:
        """The address, for people."""
        return "http://{}:{}".format(*self._address)

    async def start(self) -> None:
        """Listen."""
        await super().start()
        handler = self._runner.server
        assert handler is not None
        folder, part = self._siblings.folder, self._siblings.part
        self._front.start(handler, Relay(folder, part.index) if part.count > 1 else None)
        loop, (host, port) = asyncio.get_running_loop(), self._address
        self._server = await loop.create_server(
            self._front, host, port, backlog=self._backlog, reuse_port=self._reuse_port or None
        )
