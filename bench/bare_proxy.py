"""A bare aiohttp proxy, the baseline: `python bench/bare_proxy.py PORT TARGET LOOP`, one process.

LOOP: `asyncio`, as aiohttp comes, or `uvloop`.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import aiohttp
import uvloop
from aiohttp import web

_SESSION = web.AppKey("session", aiohttp.ClientSession)
_HEADERS = ("Content-Type", "x-internal-challenge")


async def _session(app: web.Application) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()) as s:
        app[_SESSION] = s
        yield


async def _forward(request: web.Request) -> web.Response:
    headers = {name: request.headers[name] for name in _HEADERS}
    async with request.app[_SESSION].post(sys.argv[2], data=await request.read(), headers=headers) as answer:
        return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)


async def _serve() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(_session)
    app.router.add_post("/", _forward)
    return app


if __name__ == "__main__":
    loop = uvloop.new_event_loop() if sys.argv[3] == "uvloop" else asyncio.new_event_loop()
    web.run_app(_serve(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=loop)
