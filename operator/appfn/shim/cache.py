"""A bounded cache in front of a slow source: one load at a time per key, fresh for a while, then stale for a while.

Used for keys, tokens, access reviews and variables. Loads run in tasks of the cache, so that a caller that goes away
does not fail the others who wait for the same key; `aclose` ends them.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from appfn.errors import TransientError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[V]):
    value: V
    loaded_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How old a value may be, in seconds.

    Attributes:
        fresh: it is used as it is.
        stale: beyond `fresh`, it is still used at once while a new one is loaded behind the caller's back.
        error: it is used where the source can't answer (TransientError).
    """

    fresh: float
    stale: float = 0.0
    error: float = 0.0


class TtlCache(Generic[K, V]):
    """At most `size` values, the least recently used given up first. Errors are never cached."""

    def __init__(self, freshness: Freshness, *, size: int, monotonic: Callable[[], float]) -> None:
        self._freshness = freshness
        self._size = size
        self._monotonic = monotonic
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._loads: dict[K, asyncio.Task[V]] = {}

    def fresh(self, key: K) -> tuple[V, float] | None:
        """Return the value of `key` where it may be used as it is, and when it was asked for."""
        entry = self._entries.get(key)
        if entry is None or self._monotonic() - entry.loaded_at > self._freshness.fresh:
            return None
        self._entries.move_to_end(key)
        return entry.value, entry.loaded_at

    def at_hand(self, key: K) -> bool:
        """Tell whether `get` returns without waiting."""
        entry = self._entries.get(key)
        most = self._freshness.fresh + self._freshness.stale
        return entry is not None and self._monotonic() - entry.loaded_at <= most

    async def get(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        """Return the value of `key`, loading it where the one at hand is too old.

        Raises:
            TransientError: the source can't answer and the last value is too old; likewise whatever `load` raises.
        """
        entry = self._entries.get(key)
        age = self._monotonic() - entry.loaded_at if entry else float("inf")
        if entry is not None and age <= self._freshness.fresh + self._freshness.stale:
            self._entries.move_to_end(key)
            if age > self._freshness.fresh:
                _ = self._load(key, load)
            return entry.value
        try:
            return await asyncio.shield(self._load(key, load))
        except TransientError:
            if entry is not None and age <= self._freshness.error:
                return entry.value
            raise

    async def renew(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        """Load the value anew, whatever is at hand; that is kept where `load` raises, which this raises too."""
        return await asyncio.shield(self._load(key, load))

    def forget(self, key: K) -> None:
        """Drop a value that is known to be wrong."""
        self._entries.pop(key, None)

    async def aclose(self) -> None:
        """End the loads that still run."""
        loads = list(self._loads.values())
        for task in loads:
            task.cancel()
        await asyncio.gather(*loads, return_exceptions=True)

    def _load(self, key: K, load: Callable[[], Awaitable[V]]) -> "asyncio.Task[V]":
        if (running := self._loads.get(key)) is not None:
            return running
        task = asyncio.create_task(self._fill(key, load))
        self._loads[key] = task
        task.add_done_callback(lambda done: self._loaded(key, done))
        return task

    async def _fill(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        asked_at = self._monotonic()  # the value may be as old as the question
        value = await load()
        self._entries[key] = _Entry(value, asked_at)
        self._entries.move_to_end(key)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)
        return value

    def _loaded(self, key: K, done: "asyncio.Task[V]") -> None:
        self._loads.pop(key, None)
        if not done.cancelled():
            done.exception()  # of a refresh nobody waits for: the next caller past `stale` gets it
