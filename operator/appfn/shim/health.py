"""Probes, metrics, and the routes that Appwrite's clients ask to see whether somebody is there."""

from collections.abc import AsyncIterator

from aiohttp import web

from appfn.errors import TransientError
from appfn.shim import http, processes
from appfn.shim.errors import APPWRITE_VERSION
from appfn.shim.metrics import CONTENT_TYPE
from appfn.shim.services import CONFIG, DRAIN, SIBLINGS, STORE

routes = web.RouteTableDef()
METRICS_PORT = web.AppKey("metrics_port", int)
"""Where /metrics is."""
_SHUTDOWN_SECONDS = 1.0
_PRESENT_END = -1


@routes.get("/healthz")
async def healthz(request: web.Request) -> web.Response:
    """Answer 200 while the event loop turns and the worker makes its rounds: otherwise only a restart helps.

    Of several processes all must: whichever is asked, a restart is of all of them.
    """
    alive = await processes.alive(request.app)
    return http.reply({"alive": alive}, status=200 if alive else 503)


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.Response:
    """Answer 200 while calls are welcome: not while shutting down, nor while the database does not answer.

    The caches are synced whenever this route is there at all: the application listens only then.
    """
    if request.app[DRAIN].draining:
        return http.reply({"ready": False, "reason": "draining"}, status=503)
    try:
        await request.app[STORE].changes(_PRESENT_END, limit=1)
    except TransientError:
        return http.reply({"ready": False, "reason": "the database does not answer"}, status=503)
    return http.reply({"ready": True})


@routes.get("/v1/health")
async def health(_request: web.Request) -> web.Response:
    """Return what SDKs take for a server that is up: they could not ask otherwise."""
    return http.reply({"name": "http", "ping": 0, "status": "pass"})


@routes.get("/v1/health/version")
async def version(_request: web.Request) -> web.Response:
    """Return the Appwrite release whose API this is, as the CLI asks before it believes an endpoint."""
    return http.reply({"version": APPWRITE_VERSION})


@routes.get("/v1/ping")
async def ping(_request: web.Request) -> web.Response:
    """Return what `client.ping()` expects."""
    return web.Response(text="Pong!")


async def metrics_page(app: web.Application) -> AsyncIterator[None]:
    """Serve /metrics at a port of its own: it names every project, so that not everybody may read it."""

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=await processes.metrics(app), headers={"Content-Type": CONTENT_TYPE})

    page = web.Application()
    page.router.add_get("/metrics", metrics)
    runner = web.AppRunner(page, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        config = app[CONFIG]
        several = app[SIBLINGS].part.count > 1  # then whichever gets the connection shows them all
        await web.TCPSite(runner, config.host, config.metrics_port, reuse_port=several).start()
        app[METRICS_PORT] = runner.addresses[0][1]
        yield
    finally:
        await runner.cleanup()
