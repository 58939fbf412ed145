"""One process of the shim: serve until SIGTERM, then leave in good order.

The order of leaving: /readyz says no and the worker gives back what it has not begun; no more connections; calls under
way get `drain_seconds`; then the parts are closed, the store last, with all it has to write.
"""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

import uvloop
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from appfn.config import Config
from appfn.kube import client
from appfn.shim.app import create_app
from appfn.shim.front.site import FrontSite
from appfn.shim.lifeline import Lifeline
from appfn.shim.services import DRAIN, SIBLINGS, WORKER, Surroundings, make_dispatcher

KEEPALIVE_SECONDS = 75.0
"""An idle connection, or one that has not sent a whole request head, is closed after so long."""
CANCEL_SECONDS = 1.0
"""What calls get to notice that they were cancelled."""
_COLLECT_AFTER = 5000
"""Objects made and not freed after which the young ones are looked through for cycles: more than Python would wait for,
and few enough for the look to take no millisecond."""
T = TypeVar("T")
_logger = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Serve in an event loop of its own until SIGTERM.

    Raises:
        ConfigError: something can't be used as it is configured.
    """
    uvloop.run(_serve(config))


async def _serve(config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    kubeconfig = Path(config.common.kubeconfig) if config.common.kubeconfig else None
    async with client.connect(kubeconfig) as cluster:
        surroundings = Surroundings(config=config, cluster=cluster, make_invoker=make_dispatcher)
        if not config.shim.is_child:
            await serve(surroundings, stop)
            return
        lifeline = Lifeline.of_this_process()
        async with lifeline.watched(stop):
            await serve(surroundings, stop, lifeline)


async def serve(surroundings: Surroundings, stop: asyncio.Event, lifeline: Lifeline | None = None) -> None:
    """Serve until `stop` is set, then drain and close; `lifeline` where this is one process of several."""
    config = surroundings.config.shim
    app = create_app(surroundings)
    runner = make_runner(app)
    try:
        if not await _unless(stop, runner.setup()):
            return
        if lifeline is not None:
            await web.UnixSite(runner, app[SIBLINGS].own_path).start()
            if not await _unless(stop, lifeline.all_up()):
                return
        site = FrontSite(runner, config.host, config.port, reuse_port=lifeline is not None)
        await site.start()
        _settle_memory()
        _logger.info("serving", extra={"addresses": [str(address) for address in runner.addresses]})
        await stop.wait()
        await leave(app, site)
    finally:
        await runner.cleanup()


def _settle_memory() -> None:
    """Leave out of garbage collection what is there from the start and stays: modules, the catalogue, schemas.

    Each full collection would look through all of it, which holds up every call for as long: some 80 ms. What comes
    and goes with calls is in few cycles, and is looked through more rarely than Python would: that costs a twentieth
    of the time of a busy loop.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)


def make_runner(app: web.Application) -> web.AppRunner:
    """Return the runner, with the limits on what clients may send."""
    return web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=KEEPALIVE_SECONDS,
        shutdown_timeout=CANCEL_SECONDS,
        logger=_server_logger(),
        auto_decompress=False,  # a bomb is refused as it stands
    )


def _server_logger() -> logging.Logger:
    logger = logging.getLogger("appfn.shim.server")
    logger.addFilter(_without_requests)  # the same function is added once however often
    return logger


def _without_requests(record: logging.LogRecord) -> bool:
    """Drop what aiohttp says about requests it could not parse: it quotes their bytes, keys and payloads in them."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


async def leave(app: web.Application, site: web.BaseSite) -> None:
    """Refuse what is new, wait for what is under way."""
    drain = app[DRAIN]
    drain.begin()
    app[WORKER].drain()
    _logger.info("draining", extra={"seconds": drain.remaining, "executions": app[WORKER].busy})
    await site.stop()
    if late := await drain.finish(grace_seconds=CANCEL_SECONDS):
        _logger.warning("calls that took too long were cancelled", extra={"calls": late})


async def _unless(stop: asyncio.Event, start: Coroutine[None, None, T]) -> bool:
    """Run `start`; give it up and return False where `stop` comes first."""
    starting, stopping = asyncio.create_task(start), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return False
        await starting
        return True
    finally:
        for task in (starting, stopping):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
