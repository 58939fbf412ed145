"""`python -m appfn shim`: serve until SIGTERM, then leave in good order.

The order of leaving: /readyz says no and the worker gives back what it has not begun; no more connections; calls under
way get `drain_seconds`; then the parts are closed, the store last, with all it has to write.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

import uvloop
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from appfn import config as configuration
from appfn.config import Config
from appfn.errors import ConfigError
from appfn.kube import client
from appfn.shim.app import create_app
from appfn.shim.services import DRAIN, WORKER, Surroundings, make_dispatcher
from appfn.telemetry import configure_logging

KEEPALIVE_SECONDS = 75.0
"""An idle connection, or one that has not sent a whole request head, is closed after so long."""
CANCEL_SECONDS = 1.0
"""What calls get to notice that they were cancelled."""
T = TypeVar("T")
_logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Serve; return the exit code."""
    if arguments:
        print("usage: python -m appfn shim (configured by APPFN_… variables)", file=sys.stderr)  # noqa: T201 - a CLI speaks
        return 2
    try:
        config = configuration.load(os.environ)
        configure_logging(config.common.log_level)
        uvloop.run(_serve(config))
    except ConfigError as error:
        print(f"appfn shim: {error}", file=sys.stderr)  # noqa: T201 - likewise
        return 2
    return 0


async def _serve(config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    kubeconfig = Path(config.common.kubeconfig) if config.common.kubeconfig else None
    async with client.connect(kubeconfig) as cluster:
        surroundings = Surroundings(config=config, cluster=cluster, make_invoker=make_dispatcher)
        await serve(surroundings, stop)


async def serve(surroundings: Surroundings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then drain and close."""
    config = surroundings.config.shim
    app = create_app(surroundings)
    runner = make_runner(app)
    try:
        if not await _unless(stop, runner.setup()):
            return
        site = web.TCPSite(runner, config.host, config.port)
        await site.start()
        _logger.info("serving", extra={"addresses": [str(address) for address in runner.addresses]})
        await stop.wait()
        await leave(app, site)
    finally:
        await runner.cleanup()


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
