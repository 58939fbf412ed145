"""Runs what the queue holds: claim, start, finish, under a lease.

One worker per process, under a name that is new at each start, so that a successor is never taken for its predecessor.
An execution is in one of three states here. Claimed: it may be given back at any moment. Begun: marked durably right
before the function is called; from then on only its end, or the end of this process, ends it. Finished: stored.
What cannot be stored, started or renewed is left to the lease: who finds it expired decides (`ExecutionStore.reap`).
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from msgspec import structs

from appfn.api.execution import FailureReason
from appfn.core.records import ExecutionRecord, Outcome
from appfn.errors import AppfnError, QueueFullError, TransientError
from appfn.shim.callee import Callee
from appfn.shim.catalog import Catalog
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.executor import Executor, failed

IDLE_SECONDS = 1.0
"""Pause between two looks into an empty queue, for what other replicas left; our own accepts wake at once."""
RETRY_SECONDS = 1.0
"""How long an execution that found no room goes back to the queue."""
_STORE_SECONDS = 0.5
_LONGEST_STORE_SECONDS = 4.0
"""First and longest pause before the end of an execution is offered again to a store that did not answer."""
_SETTLE = timedelta(seconds=30)
"""How long an execution whose time has come waits for a deployment that our caches don't show as ready."""
_SETTLING = frozenset(
    {Problem.RUNTIME_UNSUPPORTED, Problem.DEPLOYMENT_NOT_FOUND, Problem.BUILD_NOT_FOUND, Problem.BUILD_NOT_READY}
)
_ROUND_SECONDS = 10.0
"""Longest time between two rounds of the claim loop."""
_LIVELINESS_SECONDS = 6 * _ROUND_SECONDS
_logger = logging.getLogger(__name__)


class LeaseLostError(AppfnError):
    """The execution is somebody else's now: it must not be started here."""


@dataclass(slots=True, kw_only=True)
class _Job:
    record: ExecutionRecord
    task: "asyncio.Task[None] | None" = None
    starting: bool = False
    """From just before it is marked as begun: it is not given back any more."""
    attempt: int = 0


@dataclass(slots=True, kw_only=True)
class Worker:
    """See the module. Its loops run inside `running`."""

    executor: Executor
    catalog: Catalog
    name: str
    concurrency: int
    lease_seconds: float
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    _jobs: dict[str, _Job] = field(default_factory=dict)
    _freed: asyncio.Event = field(default_factory=asyncio.Event)
    _draining: asyncio.Event = field(default_factory=asyncio.Event)
    _beat: float = 0.0

    @property
    def alive(self) -> bool:
        """Tell whether the loop has come round lately; while draining it need not."""
        return self._draining.is_set() or self.monotonic() - self._beat < _LIVELINESS_SECONDS

    @property
    def busy(self) -> int:
        """Executions in hand."""
        return len(self._jobs)

    @asynccontextmanager
    async def running(self, *, remaining: Callable[[], float]) -> AsyncIterator[None]:
        """Work while the context is open; at its end give back what has not begun, wait for the rest.

        Args:
            remaining: how many seconds the rest has, asked at the end.
        """
        self._beat = self.monotonic()
        claiming, leasing = asyncio.create_task(self._claim_loop()), asyncio.create_task(self._lease_loop())
        try:
            yield
        finally:
            self.drain()
            # A claim under way may still bring something: it has to be given back, or it waits for its lease to end.
            await asyncio.wait({claiming}, timeout=remaining())
            await self._wait_idle(remaining())
            for task in (claiming, leasing):
                task.cancel()
            await asyncio.gather(claiming, leasing, return_exceptions=True)

    def drain(self) -> None:
        """Take no more; give back at once what has not begun."""
        self._draining.set()
        for job in self._jobs.values():
            if not job.starting and job.task is not None:
                job.task.cancel()

    # ------------------------------------------------------------------ loops

    async def _claim_loop(self) -> None:
        while not self._draining.is_set():
            self._beat = self.monotonic()
            try:
                claimed = await self._claim()
                if not claimed:
                    await self._pause()
            except TransientError as error:
                _logger.warning("cannot claim executions", extra={"error": str(error)})
                await asyncio.sleep(IDLE_SECONDS)
            except Exception:
                _logger.exception("claiming executions failed")
                await asyncio.sleep(IDLE_SECONDS)

    async def _claim(self) -> bool:
        self._freed.clear()  # before looking, so that what is freed meanwhile is not missed
        room = self.concurrency - len(self._jobs)
        if room <= 0:
            return False
        free = self._free()
        records = await self.executor.store.claim(self.name, limit=room, lease_seconds=self.lease_seconds, free=free)
        if self._draining.is_set():  # meanwhile
            await asyncio.gather(*(self._release(record, delay=0.0) for record in records))
            return False
        for record in records:
            self._start(record)
        return bool(records)

    def _free(self) -> dict[str, int]:
        """Return how many more executions of each function there is any use in claiming."""
        running = Counter(job.record.request.function_uid for job in self._jobs.values())
        return {uid: max(0, limit - running[uid]) for uid, limit in self.catalog.capacities().items()}

    async def _pause(self) -> None:
        """Wait for something to claim, or for room to claim it."""
        waits: list[Coroutine[None, None, object]] = [self._freed.wait(), self._draining.wait()]
        if len(self._jobs) < self.concurrency:
            waits.append(self.executor.store.wait_claimable(within=IDLE_SECONDS * random.uniform(0.8, 1.2)))  # noqa: S311 - spreads replicas
        await _first(waits, within=_ROUND_SECONDS)

    async def _lease_loop(self) -> None:
        while True:
            await asyncio.sleep(self.lease_seconds / 3)
            try:
                await self._renew()
                await self.executor.store.reap()
            except TransientError as error:
                _logger.warning("cannot renew leases", extra={"error": str(error)})
            except Exception:
                _logger.exception("renewing leases failed")

    async def _renew(self) -> None:
        mine = list(self._jobs)
        if not mine:
            return
        kept = await self.executor.store.renew(self.name, mine, lease_seconds=self.lease_seconds)
        for id_ in mine:
            job = self._jobs.get(id_)
            if id_ not in kept and job is not None and not job.starting and job.task is not None:
                job.task.cancel()

    # ------------------------------------------------------------------ one execution

    def _start(self, record: ExecutionRecord) -> None:
        job = _Job(record=record, attempt=record.attempt)
        self._jobs[record.id] = job
        job.task = asyncio.create_task(self._run(job))
        job.task.add_done_callback(lambda task: self._done(job, task))

    def _done(self, job: _Job, task: "asyncio.Task[None]") -> None:
        del self._jobs[job.record.id]
        self._freed.set()
        self.executor.endings.ended(job.record.id)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("execution left to its lease", extra={"execution": job.record.id}, exc_info=error)

    async def _run(self, job: _Job) -> None:
        try:
            await self._attempt(job)
        except LeaseLostError:
            _logger.warning("lease lost before the start", extra={"execution": job.record.id})
        except (QueueFullError, TransientError) as error:
            if job.starting:
                raise  # marked as begun, not sent: the lease decides, as nobody can know
            await self._release(job.record, delay=getattr(error, "retry_after", None) or RETRY_SECONDS)
        except asyncio.CancelledError:
            if not job.starting:
                await self._release(job.record, delay=0.0)
            raise

    async def _attempt(self, job: _Job) -> None:
        try:
            active = self._callee(job.record)
        except AppwriteError as error:
            await self._unavailable(job, error)
            return
        if not active.capacity:  # it was claimed before the function's limits left another process alone with it
            await self._release(job.record, delay=RETRY_SECONDS)
            return
        callee = self.executor.rollouts.serving(active)
        request = job.record.request
        deployment = callee.deployment.metadata.name
        outcome = await self.executor.attempt(callee, request, on_start=lambda: self._begin(job, deployment))
        reason = outcome.failure.reason if outcome.failure else None
        if reason is FailureReason.QUEUE_TIMEOUT and not job.starting:
            await self._release(job.record, delay=RETRY_SECONDS)  # calls that do not wait in the store were faster
        elif reason is FailureReason.POD_LOST and job.attempt < request.max_attempts:
            await self._retry(job)
        else:
            await self._finish(job, outcome, deployment=deployment, memory_mb=callee.memory_mb)

    def _callee(self, record: ExecutionRecord) -> Callee:
        request = record.request
        project = self.catalog.project_of(request.namespace)
        function = self.catalog.named(request.namespace, request.function)
        if project is None or function is None or function.metadata.uid != request.function_uid:
            raise AppwriteError(Problem.FUNCTION_NOT_FOUND)
        return self.catalog.callee(project, function)

    async def _unavailable(self, job: _Job, error: AppwriteError) -> None:
        """End an execution that can't be started, unless it may still become startable."""
        due = job.record.request.not_before or job.record.created_at
        young = self.now() - due < _SETTLE
        if young and error.problem in _SETTLING:
            await self._release(job.record, delay=RETRY_SECONDS)
            return
        outcome = failed(FailureReason.FUNCTION_UNAVAILABLE, f"The function could not be run: {error.message}")
        await self._finish(job, outcome, deployment="")

    async def _begin(self, job: _Job, deployment: str) -> None:
        job.starting = True
        attempt = await self.executor.store.begin(job.record.id, self.name, deployment=deployment)
        if attempt is None:
            raise LeaseLostError(job.record.id)
        job.attempt = attempt

    async def _finish(self, job: _Job, outcome: Outcome, *, deployment: str, memory_mb: int = 0) -> None:
        async def store() -> bool:
            return await self.executor.store.finish(
                job.record.id,
                self.name,
                attempt=job.attempt,
                outcome=outcome,
                deployment=deployment,
                memory_mb=memory_mb,
            )

        if await _persistently(store):
            self.executor.metrics.finished(job.record.request, outcome)
            self.executor.listener.execution_ended(self._ended(job.record, outcome, deployment=deployment))
        else:
            _logger.warning("lease lost before the end was stored", extra={"execution": job.record.id})

    def _ended(self, record: ExecutionRecord, outcome: Outcome, *, deployment: str) -> ExecutionRecord:
        now = self.now()
        return structs.replace(
            record, phase=outcome.phase, outcome=outcome, deployment=deployment, updated_at=now, finished_at=now
        )

    async def _retry(self, job: _Job) -> None:
        """Run it again, as its function allows: whether the lost pod had finished is unknown."""
        _logger.warning("pod lost, another attempt", extra={"execution": job.record.id, "attempt": job.attempt})

        async def store() -> bool:
            return await self.executor.store.retry(job.record.id, self.name, attempt=job.attempt, delay=RETRY_SECONDS)

        await _persistently(store)

    async def _release(self, record: ExecutionRecord, *, delay: float) -> None:
        try:
            await self.executor.store.release(record.id, self.name, delay=delay)
        except TransientError:
            _logger.warning("execution left to its lease", extra={"execution": record.id})

    async def _wait_idle(self, seconds: float) -> None:
        """Wait for what has begun; what does not end in time is left to the lease."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


async def _first(waits: Iterable[Coroutine[None, None, object]], *, within: float) -> None:
    """Return when one of them does, or when the time is over; end the others."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _persistently(store: Callable[[], Awaitable[bool]]) -> bool:
    """Offer an end to the store until it answers, with growing pauses.

    However long that takes: the result is nowhere else, and what waits here keeps its slot and renews its lease.
    """
    pause = _STORE_SECONDS
    while True:
        try:
            return await store()
        except TransientError as error:
            _logger.warning("cannot store the end of an execution", extra={"error": str(error)})
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_STORE_SECONDS)
