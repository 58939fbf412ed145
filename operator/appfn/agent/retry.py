"""Trying again, with growing pauses and an end."""

import random
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 8.0


class Patience(NamedTuple):
    """How long to keep trying, and the clock it is measured by."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def attempts(self) -> Iterator[int]:
        """Yield the number of each attempt from 1, pausing between two; end when the time is over."""
        deadline = self.clock() + self.seconds
        pause, number = FIRST_PAUSE, 1
        while True:
            yield number
            wait = pause * (0.5 + self.jitter())
            if self.clock() + wait > deadline:
                return
            self.sleep(wait)
            pause, number = min(pause * 2, LONGEST_PAUSE), number + 1
