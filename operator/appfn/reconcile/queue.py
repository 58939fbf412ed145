"""The keyed work queue: what was marked dirty is reconciled once, never twice at the same time.

Concurrency model: one event loop. Every method but `run` is synchronous, so all state changes happen between two awaits
and need no lock. A key is in at most one of three places: waiting, running (then `again` remembers that it was marked
meanwhile), or nowhere; besides, it may have one timer.
"""

import asyncio
import logging
import random as random_module
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from appfn.errors import AppfnError, TransientError
from appfn.kube.backoff import full_jitter

logger = logging.getLogger(__name__)

BACKOFF_BASE = 0.25
BACKOFF_CAP = 120.0
RUN_SECONDS = 50.0
"""A run that takes longer is cancelled and counts as failed, so that a hanging call cannot hold a worker for ever."""


K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Runs one handler per marked key.

    Marks of a key that waits coalesce; a mark of a key that runs lets it run once more afterwards. A handler that
    raises is tried again after a backoff with full jitter, never earlier than a TransientError asks; a handler that
    returns a number is run again after so many seconds. When a run starts, the key's timer is dropped: the run sees
    everything the timer was set for, and its own result says when to look again.

    Attributes:
        processed: runs that ended well.
        failures: runs that raised.
    """

    def __init__(
        self,
        *,
        random: Callable[[], float] = random_module.random,
        run_seconds: float = RUN_SECONDS,
    ) -> None:
        self.processed = 0
        self.failures = 0
        self._random = random
        self._run_seconds = run_seconds
        self._waiting: OrderedDict[K, None] = OrderedDict()
        self._running: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failed_in_a_row: dict[K, int] = {}
        self._ready = asyncio.Semaphore(0)  # holds as many permits as keys wait
        self._workers = 0
        self._closed = False
        self._progress = 0.0

    @property
    def depth(self) -> int:
        """Keys that wait for a worker."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Keys being reconciled now."""
        return len(self._running)

    @property
    def delayed(self) -> int:
        """Keys with a timer."""
        return len(self._timers)

    def stalled_seconds(self) -> float:
        """Return how long keys have been waiting without any run starting or ending; 0 while none waits."""
        return asyncio.get_running_loop().time() - self._progress if self._waiting else 0.0

    def add(self, key: K) -> None:
        """Reconcile the key as soon as a worker is free."""
        if self._closed or key in self._waiting:
            return
        if key in self._running:
            self._again.add(key)
            return
        if not self._waiting:
            self._note_progress()  # the time nothing waited is not a stall
        self._waiting[key] = None
        self._ready.release()

    def add_after(self, key: K, seconds: float) -> None:
        """Reconcile the key in so many seconds; of several such wishes the earliest counts."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due, self._on_timer, key)

    async def run(self, handler: Callable[[K], Awaitable[float | None]], *, workers: int) -> None:
        """Reconcile marked keys, `workers` at once, until `close`; then finish those that run and return.

        Cancelled, it cancels the handlers and returns when they have ended.
        """
        self._workers = workers
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(self._work(handler), name=f"queue worker {number}")

    def close(self) -> None:
        """Let what runs finish and forget the rest: whoever starts next looks at everything anyway."""
        self._closed = True
        self._waiting.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for _ in range(self._workers):
            self._ready.release()

    async def _work(self, handler: Callable[[K], Awaitable[float | None]]) -> None:
        while True:
            await self._ready.acquire()
            if self._closed:
                return
            key, _ = self._waiting.popitem(last=False)
            self._running.add(key)
            self._drop_timer(key)
            self._note_progress()
            try:
                await self._attempt(key, handler)
            finally:
                self._running.discard(key)
                self._note_progress()
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    async def _attempt(self, key: K, handler: Callable[[K], Awaitable[float | None]]) -> None:
        try:
            async with asyncio.timeout(self._run_seconds):
                seconds = await handler(key)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._retry(key, error)  # something the handler awaited was cancelled, not this worker
            return
        except Exception as error:  # noqa: BLE001 - whatever a handler raises concerns its key alone
            self._retry(key, error)
            return
        self.processed += 1
        self._failed_in_a_row.pop(key, None)
        if seconds is not None:
            self.add_after(key, seconds)

    def _retry(self, key: K, error: BaseException) -> None:
        self.failures += 1
        count = self._failed_in_a_row[key] = self._failed_in_a_row.get(key, 0) + 1
        delay = full_jitter(count, base=BACKOFF_BASE, cap=BACKOFF_CAP, random=self._random)
        if isinstance(error, TransientError) and error.retry_after is not None:
            delay = max(delay, error.retry_after)
        expected = isinstance(error, AppfnError)
        logger.log(
            logging.WARNING if expected else logging.ERROR,
            "reconcile failed, will try again",
            extra={"key": str(key), "error": f"{type(error).__name__}: {error}", "retry_seconds": round(delay, 2)},
            exc_info=None if expected else error,
        )
        self.add_after(key, delay)

    def _on_timer(self, key: K) -> None:
        del self._timers[key]
        self.add(key)

    def _drop_timer(self, key: K) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _note_progress(self) -> None:
        self._progress = asyncio.get_running_loop().time()
