"""The work queue on a virtual clock: every delay is exact."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from appfn.errors import ConflictError, TransientError
from appfn.reconcile.queue import BACKOFF_BASE, BACKOFF_CAP, RUN_SECONDS, WorkQueue
from support.clock import on_virtual_clock

Handler = Callable[[str], Awaitable[float | None]]


def now() -> float:
    return asyncio.get_running_loop().time()


class Recorder:
    """A handler that notes when which key ran, takes `seconds` each and does what `then` says."""

    def __init__(self, *, seconds: float = 0.0, then: Callable[[str], float | None] = lambda _: None) -> None:
        self.runs: list[tuple[float, str]] = []
        self.at_once = 0
        self.most_at_once = 0
        self._seconds = seconds
        self._then = then

    async def __call__(self, key: str) -> float | None:
        self.runs.append((now(), key))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await pause(self._seconds)
        finally:
            self.at_once -= 1
        return self._then(key)


async def pause(seconds: float) -> None:
    """Let virtual time pass."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, done.set_result, None)
    await done


@asynccontextmanager
async def running(queue: WorkQueue[str], handler: Handler, *, workers: int = 4) -> AsyncIterator[None]:
    """Run the queue around a test, then close it and see it end."""
    task = asyncio.create_task(queue.run(handler, workers=workers))
    try:
        yield
    finally:
        queue.close()
        await task


@on_virtual_clock
async def test_marks_of_a_waiting_key_coalesce_into_one_run() -> None:
    queue, handler = WorkQueue[str](), Recorder()
    for _ in range(10):
        queue.add("a")
    async with running(queue, handler):
        await pause(1)
    assert handler.runs == [(0, "a")]


@on_virtual_clock
async def test_keys_run_in_the_order_they_were_marked() -> None:
    queue, handler = WorkQueue[str](), Recorder(seconds=1)
    for key in "abc":
        queue.add(key)
    async with running(queue, handler, workers=1):
        await pause(10)
    assert handler.runs == [(0, "a"), (1, "b"), (2, "c")]


@on_virtual_clock
async def test_a_key_marked_many_times_while_it_runs_runs_once_more() -> None:
    queue, handler = WorkQueue[str](), Recorder(seconds=1)
    async with running(queue, handler):
        queue.add("a")
        await pause(0.5)
        queue.add("a")
        queue.add("a")
        await pause(10)
    assert handler.runs == [(0, "a"), (1, "a")]
    assert handler.most_at_once == 1


@on_virtual_clock
async def test_no_more_keys_run_at_once_than_there_are_workers() -> None:
    queue, handler = WorkQueue[str](), Recorder(seconds=1)
    async with running(queue, handler, workers=3):
        for number in range(9):
            queue.add(str(number))
        await pause(0.5)
        assert (queue.running, queue.depth) == (3, 6)
        await pause(10)
    assert handler.most_at_once == 3
    assert [at for at, _ in handler.runs] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@on_virtual_clock
async def test_of_two_delayed_marks_the_earlier_counts() -> None:
    queue, handler = WorkQueue[str](), Recorder()
    async with running(queue, handler):
        queue.add_after("a", 5)
        queue.add_after("a", 3)
        queue.add_after("a", 8)
        assert queue.delayed == 1
        await pause(20)
    assert handler.runs == [(3, "a")]


@on_virtual_clock
async def test_a_run_makes_an_older_timer_of_its_key_moot() -> None:
    queue, handler = WorkQueue[str](), Recorder()
    async with running(queue, handler):
        queue.add_after("a", 5)
        await pause(1)
        queue.add("a")
        await pause(20)
    assert handler.runs == [(1, "a")]


@on_virtual_clock
async def test_a_number_returned_by_the_handler_is_when_it_runs_again() -> None:
    answers = iter([10.0, 20.0, None])
    queue, handler = WorkQueue[str](), Recorder(then=lambda _: next(answers))
    async with running(queue, handler):
        queue.add("a")
        await pause(100)
    assert handler.runs == [(0, "a"), (10, "a"), (30, "a")]
    assert (queue.processed, queue.failures) == (3, 0)


@on_virtual_clock
async def test_a_timer_set_during_a_run_survives_the_run() -> None:
    queue = WorkQueue[str]()

    def then(_: str) -> None:
        if now() == 0:
            queue.add_after("a", 7)

    handler = Recorder(then=then)
    async with running(queue, handler):
        queue.add("a")
        await pause(100)
    assert handler.runs == [(0, "a"), (7, "a")]


def fail(_: str) -> None:
    raise ConflictError("somebody else was faster")


@on_virtual_clock
async def test_failures_back_off_exponentially_up_to_the_cap() -> None:
    queue, handler = WorkQueue[str](random=lambda: 1.0), Recorder(then=fail)
    async with running(queue, handler):
        queue.add("a")
        await pause(1000)
    times = [at for at, _ in handler.runs]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses[:4] == [BACKOFF_BASE, BACKOFF_BASE * 2, BACKOFF_BASE * 4, BACKOFF_BASE * 8]
    assert pauses[-1] == BACKOFF_CAP
    assert queue.failures == len(times)


@on_virtual_clock
async def test_the_backoff_is_jittered_over_its_whole_range() -> None:
    queue, handler = WorkQueue[str](random=lambda: 0.5), Recorder(then=fail)
    async with running(queue, handler):
        queue.add("a")
        await pause(BACKOFF_BASE)
    assert [at for at, _ in handler.runs] == [0, BACKOFF_BASE / 2]


@on_virtual_clock
async def test_success_forgets_earlier_failures() -> None:
    outcomes = iter([True, True, False, True, False])

    def then(_: str) -> None:
        if next(outcomes):
            raise ConflictError("once more")

    queue, handler = WorkQueue[str](random=lambda: 1.0), Recorder(then=then)
    async with running(queue, handler):
        queue.add("a")
        await pause(10)
        queue.add("a")
        await pause(10)
    times = [at for at, _ in handler.runs]
    assert times[4] - times[3] == BACKOFF_BASE


@on_virtual_clock
async def test_a_transient_error_is_not_retried_before_the_time_it_names() -> None:
    def then(_: str) -> None:
        if now() == 0:
            raise TransientError("busy", retry_after=30)

    queue, handler = WorkQueue[str](), Recorder(then=then)
    async with running(queue, handler):
        queue.add("a")
        await pause(100)
    assert handler.runs == [(0, "a"), (30, "a")]


@on_virtual_clock
async def test_a_mark_does_not_wait_for_the_backoff() -> None:
    def then(_: str) -> None:
        if now() == 0:
            raise TransientError("busy", retry_after=30)

    queue, handler = WorkQueue[str](), Recorder(then=then)
    async with running(queue, handler):
        queue.add("a")
        await pause(5)
        queue.add("a")
        await pause(100)
    assert handler.runs == [(0, "a"), (5, "a")]


@on_virtual_clock
async def test_a_failing_key_does_not_hold_up_the_others() -> None:
    def then(key: str) -> None:
        if key == "bad":
            raise RuntimeError("a bug")

    queue, handler = WorkQueue[str](), Recorder(then=then)
    async with running(queue, handler, workers=1):
        queue.add("bad")
        queue.add("good")
        await pause(0.001)
        assert ("good" in [key for _, key in handler.runs]) is True


@on_virtual_clock
async def test_a_run_that_hangs_is_cancelled_and_tried_again() -> None:
    queue, handler = WorkQueue[str](random=lambda: 0.0), Recorder(seconds=10_000)
    async with running(queue, handler):
        queue.add("a")
        await pause(RUN_SECONDS + 1)
        assert [at for at, _ in handler.runs] == [0, RUN_SECONDS]
        assert queue.failures == 1


@on_virtual_clock
async def test_a_cancellation_inside_a_handler_does_not_end_the_worker() -> None:
    def then(_: str) -> None:
        if now() == 0:
            raise asyncio.CancelledError

    queue, handler = WorkQueue[str](random=lambda: 1.0), Recorder(then=then)
    async with running(queue, handler, workers=1):
        queue.add("a")
        await pause(10)
    assert handler.runs == [(0, "a"), (BACKOFF_BASE, "a")]


@on_virtual_clock
async def test_closing_finishes_what_runs_and_forgets_the_rest() -> None:
    queue, handler = WorkQueue[str](), Recorder(seconds=5, then=lambda _: 1.0)
    task = asyncio.create_task(queue.run(handler, workers=1))
    queue.add("running")
    queue.add("waiting")
    queue.add_after("delayed", 1)
    await pause(0.5)
    queue.close()
    queue.add("late")
    await task
    assert now() == 5
    assert handler.runs == [(0, "running")]
    assert (queue.depth, queue.running, queue.delayed) == (0, 0, 0)


@on_virtual_clock
async def test_cancelling_the_queue_cancels_its_handlers() -> None:
    queue, handler = WorkQueue[str](), Recorder(seconds=1000)
    task = asyncio.create_task(queue.run(handler, workers=2))
    queue.add("a")
    await pause(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert handler.at_once == 0


@on_virtual_clock
async def test_it_counts_as_stalled_only_while_keys_wait_and_nothing_moves() -> None:
    queue, handler = WorkQueue[str](run_seconds=500), Recorder(seconds=100)
    async with running(queue, handler, workers=1):
        await pause(1000)
        assert queue.stalled_seconds() == 0
        queue.add("a")
        assert queue.stalled_seconds() == 0
        await pause(40)
        assert queue.stalled_seconds() == 0, "a run alone is no stall: its own bound ends it"
        queue.add("b")
        await pause(50)
        assert queue.stalled_seconds() == 50
        await pause(20)
        assert queue.stalled_seconds() == 0


@on_virtual_clock
async def test_expected_errors_are_logged_without_a_traceback_and_bugs_with_one() -> None:
    records: list[logging.LogRecord] = []

    class Capture(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    capture = Capture()
    log = logging.getLogger("appfn.reconcile.queue")
    log.addHandler(capture)

    def then(key: str) -> None:
        raise {"conflict": ConflictError("taken"), "bug": ValueError("oops")}[key]

    queue, handler = WorkQueue[str](random=lambda: 1.0), Recorder(then=then)
    try:
        async with running(queue, handler, workers=1):
            queue.add("conflict")
            queue.add("bug")
            await pause(0.01)
    finally:
        log.removeHandler(capture)
    assert [(record.levelname, bool(record.exc_info)) for record in records] == [("WARNING", False), ("ERROR", True)]
