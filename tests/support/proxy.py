"""A proxy between a client and the API server that can make watches fail in the ways real ones do."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto

import aiohttp
from aiohttp import web

from appfn.kube.client import Connection, KubeCluster
from appfn.kube.rest import MERGE_PATCH

_EXPIRED = b'{"kind":"Status","apiVersion":"v1","message":"too old resource version","reason":"Expired","code":410}'


class Fault(Enum):
    """What happens to a watch request in place of an answer."""

    EXPIRED = auto()
    """410 as the answer's status."""
    EXPIRED_LATER = auto()
    """410 as an event inside a good answer."""
    SILENT = auto()
    """An answer that never says anything."""
    CUT = auto()
    """An answer that breaks off in the middle of an event."""
    UNAVAILABLE = auto()
    """503."""


class Proxy:
    """Forwards everything; watches meet the `faults` in their order first.

    Attributes:
        lists: list requests forwarded (pages count each).
        watches: watch requests received.
        down: while True, every request is answered 503.
        lost_answers: so many patches reach the API server, but their answers get lost.
        losing: only of those patches whose path holds it.
    """

    def __init__(self, session: aiohttp.ClientSession, connection: Connection) -> None:
        self.faults: deque[Fault] = deque()
        self.lists = 0
        self.watches = 0
        self.down = False
        self.lost_answers = 0
        self.losing = ""
        self.url = ""
        self._session = session
        self._connection = connection
        self._open: set[asyncio.Task[object]] = set()

    def cut(self, *faults: Fault) -> None:
        """Break all open watches; those that follow meet the faults."""
        self.faults.extend(faults)
        for task in tuple(self._open):
            task.cancel()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        if self.down:
            return web.Response(status=503, text="down")
        if "watch" in request.query:
            self.watches += 1
            if self.faults:
                return await _failing(request, self.faults.popleft())
            return await self._forward_watch(request)
        if request.method == "GET":
            self.lists += 1
        if request.method == "PATCH" and self.lost_answers and self.losing in request.path:
            self.lost_answers -= 1
            return await self._forward_and_lose(request)
        return await self._forward(request)

    async def _forward_and_lose(self, request: web.Request) -> web.StreamResponse:
        async with self._request(request) as answer:
            await answer.read()
        return web.Response(status=504, text="the answer got lost")

    async def _forward_watch(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            return await self._forward(request)
        finally:
            self._open.discard(task)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        async with self._request(request) as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            return response

    @asynccontextmanager
    async def _request(self, request: web.Request) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Content-Type": request.headers.get("Content-Type", MERGE_PATCH), "Accept": "application/json"}
        url = f"{self._connection.server}{request.path_qs}"
        body = await request.read()
        async with self._session.request(request.method, url, data=body or None, headers=headers) as answer:
            yield answer


async def _failing(request: web.Request, fault: Fault) -> web.StreamResponse:
    match fault:
        case Fault.EXPIRED:
            return web.Response(status=410, body=_EXPIRED, content_type="application/json")
        case Fault.UNAVAILABLE:
            return web.Response(status=503, text="not now")
        case Fault.EXPIRED_LATER:
            return web.Response(body=b'{"type":"ERROR","object":' + _EXPIRED + b"}\n", content_type="application/json")
        case Fault.CUT:
            return web.Response(body=b'{"type":"ADDED","object":{"metad', content_type="application/json")
        case Fault.SILENT:
            response = web.StreamResponse()
            await response.prepare(request)
            await asyncio.get_running_loop().create_future()
            return response


def _ssl_context(connection: Connection) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=connection.ca_path)
    context.load_cert_chain(connection.certificate_path, connection.key_path)
    return context


@asynccontextmanager
async def proxy_to(cluster: KubeCluster) -> AsyncIterator[Proxy]:
    """Run a proxy that talks to the API server with the rights of `cluster`, and to everybody else in plain HTTP."""
    connection = await cluster.connection()
    connector = aiohttp.TCPConnector(ssl=_ssl_context(connection))
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        proxy = Proxy(session, connection)
        server = web.Application(client_max_size=2**24)
        server.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(server, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield proxy
        finally:
            await runner.cleanup()
