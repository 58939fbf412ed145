"""Tasks with an owner: none is lost, none fails unheard, all end with the owner."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)


async def all_of(*work: Coroutine[Any, Any, None]) -> None:
    """Do all of it at once; where a piece fails, end the others and raise its error."""
    tasks = [asyncio.ensure_future(piece) for piece in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Tasks:
    """The tasks of one owner. Unlike in a TaskGroup, one that fails leaves the others alone."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Start `work`; an exception that ends it is logged."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Start `work` that nobody waits for."""
        _ = self.spawn(work, name=name)

    async def cancel(self) -> None:
        """Cancel all that still run and wait until they have ended."""
        running = list(self._tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task %s failed", task.get_name(), exc_info=error)


class Work:
    """Counts what is under way, so that a drain can wait for the end of all of it."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def enter(self) -> None:
        """Begin a piece of work."""
        if not self._count:
            self._none.clear()
        self._count += 1

    def leave(self, *_: object) -> None:
        """End one."""
        self._count -= 1
        if not self._count:
            self._none.set()

    __enter__ = enter
    __exit__ = leave

    async def ended(self) -> None:
        """Return when nothing is under way."""
        await self._none.wait()
