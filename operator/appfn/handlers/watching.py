"""Running kopf inside a process that is not kopf's own."""

import asyncio
from collections.abc import Callable

import kopf


async def watch(
    registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings, *, restore: Callable[[], None]
) -> None:
    """Run kopf until cancelled; return or raise when it ends by itself, which it should not.

    kopf takes over SIGTERM and SIGINT when it starts: `restore` is called to take them back. When it ends, it cancels
    every task of the loop that was started after it: start what must live longer before this.
    """
    others = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(registry=registry, settings=settings, clusterwide=True)
    restore()
    await kopf.run_tasks(tasks, ignored=others)
