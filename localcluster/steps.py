"""What is being done and how long it took, a line per step, on standard error.

Standard output stays free for what a command prints (a path, a status).
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ALIVE_EVERY = 10.0
"""Seconds between signs of life of a long step."""


def say(text: str) -> None:
    """Print one indented line."""
    print(f"  {text}", file=sys.stderr, flush=True)


@contextmanager
def step(title: str, progress: Callable[[], str] | None = None) -> Iterator[None]:
    """Print ``title``, then the seconds its body took.

    ``progress`` describes how far a long step is; it is asked every ten seconds.
    """
    begun = time.monotonic()
    finished = threading.Event()
    alive = threading.Thread(target=_show_alive, args=(finished, begun, progress), daemon=True)
    print(f"  {title} ...", end="", file=sys.stderr, flush=True)
    alive.start()
    outcome = "failed after "
    try:
        yield
        outcome = ""
    finally:
        finished.set()
        alive.join()
        print(f" {outcome}{time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)


def _show_alive(finished: threading.Event, begun: float, progress: Callable[[], str] | None) -> None:
    while not finished.wait(ALIVE_EVERY):
        detail = f", {progress()}" if progress else ""
        elapsed = time.monotonic() - begun
        print(f"\n    {elapsed:.0f} s{detail} ...", end="", file=sys.stderr, flush=True)
