"""The way out: from the first word of shutdown, who is still at work, and how long there is left."""

import asyncio
from typing import Final


class Drain:
    """Knows the requests under way; once `begin` was called, tells everybody that no more are wanted."""

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self.draining = False
        """Whether shutdown has begun. Asked several times for each call, so nothing but a value."""
        self._begun = asyncio.Event()
        self.working: Final[set[asyncio.Task[object]]] = set()
        """Requests under way: see `enter`."""
        self._deadline = 0.0

    def begin(self) -> None:
        """Begin the shutdown; the time to finish runs from here."""
        if not self.draining:
            self._deadline = asyncio.get_running_loop().time() + self._seconds
            self.draining = True
            self._begun.set()

    @property
    def remaining(self) -> float:
        """Seconds left to finish; all of them while nobody has begun."""
        if not self.draining:
            return self._seconds
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    def enter(self, task: "asyncio.Task[object]") -> None:
        """Know a task as a request under way until `leave` is called with it."""
        self.working.add(task)

    def leave(self, task: "asyncio.Task[object]") -> None:
        """Undo `enter`."""
        self.working.discard(task)

    async def wait_begun(self) -> None:
        """Return when shutdown begins."""
        await self._begun.wait()

    async def finish(self, *, grace_seconds: float) -> int:
        """Wait for the requests under way; cancel those that are late, and give them a moment to notice.

        aiohttp's own shutdown drops the connections of such requests but leaves their handlers running, so that
        what a handler does when it is cancelled would never be done.

        Returns:
            How many were cancelled.
        """
        while self.working and self.remaining:  # connections that are kept alive may bring a few more
            await asyncio.wait(self.working, timeout=self.remaining)
        late = set(self.working)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=grace_seconds)
        return len(late)
