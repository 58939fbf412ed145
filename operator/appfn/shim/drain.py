"""The way out: from the first word of shutdown, who is still at work, and how long there is left."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Drain:
    """Counts requests under way; once `begin` was called, tells everybody that no more are wanted."""

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._begun = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._working = 0
        self._deadline = 0.0

    @property
    def draining(self) -> bool:
        """Tell whether shutdown has begun."""
        return self._begun.is_set()

    def begin(self) -> None:
        """Begin the shutdown; the time to finish runs from here."""
        if not self.draining:
            self._deadline = asyncio.get_running_loop().time() + self._seconds
            self._begun.set()

    @property
    def remaining(self) -> float:
        """Seconds left to finish; all of them while nobody has begun."""
        if not self.draining:
            return self._seconds
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count one request while it is under way."""
        self._working += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._working -= 1
            if not self._working:
                self._idle.set()

    async def wait_begun(self) -> None:
        """Return when shutdown begins."""
        await self._begun.wait()

    async def wait_idle(self) -> bool:
        """Wait until no request is under way; False where some still are when the time is over."""
        try:
            async with asyncio.timeout(self.remaining):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
