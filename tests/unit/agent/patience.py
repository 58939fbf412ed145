"""Patience without waiting: a clock that sleeping moves."""

from appfn.agent.retry import Patience


def quick(seconds: float = 60.0) -> Patience:
    """Return patience of virtual seconds."""
    now = [0.0]

    def sleep(pause: float) -> None:
        now[0] += pause

    return Patience(seconds=seconds, clock=lambda: now[0], sleep=sleep, jitter=lambda: 0.5)
