"""Waiting for a state instead of sleeping for a time."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE = 0.02


async def eventually(probe: Callable[[], Awaitable[T | None]], *, within: float = 5.0) -> T:
    """Return the first truthy answer of `probe`; fail with its last answer or error when `within` seconds are over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    last: object = None
    while loop.time() < deadline:
        try:
            answer = await probe()
        except AssertionError as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        await asyncio.to_thread(threading.Event().wait, _PAUSE)
    raise AssertionError(f"not so within {within:g} s; last: {last!r}")


def wait_for(probe: Callable[[], T | None], *, within: float = 5.0, pause: float = 0.2) -> T:
    """Do the same without an event loop, asking every `pause` seconds."""
    deadline = time.monotonic() + within
    last: object = None
    while time.monotonic() < deadline:
        try:
            answer = probe()
        except AssertionError as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        threading.Event().wait(pause)
    raise AssertionError(f"not so within {within:g} s; last: {last!r}")
