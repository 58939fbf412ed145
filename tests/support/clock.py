"""An event loop whose clock jumps: hours of timers pass in milliseconds, and always in the same order."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """Starts at 0 s; where an ordinary loop would wait for the next timer, this one moves its clock to it.

    Not for code that waits for threads, sockets or processes: time passes at once while they work.
    """

    def __init__(self) -> None:
        super().__init__(_JumpingSelector(self))
        self.seconds = 0.0

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self.seconds


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualClockLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("everything waits and no timer is set: this would hang for ever")
        events = super().select(0)
        if not events and timeout > 0:
            self._loop.seconds += timeout
        return events


def on_virtual_clock(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test on its own VirtualClockLoop."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run
