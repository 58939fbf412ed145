"""Running kopf inside a process that is not kopf's own."""

import asyncio
from collections.abc import Callable
from typing import Final

import kopf

_STOP_SECONDS: Final = 3.0
"""What kopf gets to stop. Where one of its watches has failed, the others may wait for a login that never comes."""


async def watch(
    registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings, *, restore: Callable[[], None]
) -> None:
    """Run kopf until cancelled; return or raise when it, or a part of it, ends by itself, which it should not.

    kopf takes over SIGTERM and SIGINT when it starts: `restore` is called to take them back. When it ends, it cancels
    every task of the loop that was started after it: start what must live longer before this.
    """
    others = asyncio.all_tasks()
    parts = await kopf.spawn_tasks(registry=registry, settings=settings, clusterwide=True)
    restore()
    running = asyncio.ensure_future(kopf.run_tasks(parts, ignored=others))
    try:
        await asyncio.wait({running, *parts}, return_when=asyncio.FIRST_COMPLETED)
        for part in parts:
            if part.done() and not part.cancelled() and (error := part.exception()) is not None:
                raise error
        await running
    finally:
        running.cancel()
        await asyncio.wait({running}, timeout=_STOP_SECONDS)
