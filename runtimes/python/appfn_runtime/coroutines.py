"""Async functions: all run on one event loop, beside the threads that wait for them."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from .logs import sink_of


def wait_for(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on the shared event loop, in this thread's context; return or raise what it does."""
    returned, error = asyncio.run_coroutine_threadsafe(_outcome(coroutine), _loop()).result()
    if error is not None:
        raise error
    return returned


async def _outcome(coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    """Await, keeping the exception: SystemExit would end the loop that others are using."""
    try:
        return await coroutine, None
    except BaseException as error:  # noqa: BLE001 - whatever user code raises
        return None, error


_loops: list[asyncio.AbstractEventLoop] = []
_loops_lock = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    """Return the event loop that all async functions share, so that their clients and connections may be shared too."""
    with _loops_lock:
        if not _loops:
            loop = asyncio.new_event_loop()
            token = sink_of.set(None)  # the loop's thread belongs to no execution
            threading.Thread(target=loop.run_forever, name="asyncio", daemon=True).start()
            sink_of.reset(token)
            _loops.append(loop)
        return _loops[0]
