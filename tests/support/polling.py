"""Waiting for a state instead of sleeping for a time."""

import asyncio
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
        await asyncio.sleep(_PAUSE)  # the one pause of the test suite: between two probes
    raise AssertionError(f"not so within {within:g} s; last: {last!r}")
