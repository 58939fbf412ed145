"""The execution store: queue, results, history, change feed and usage, in SQLite or PostgreSQL."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Self

from sqlalchemy.ext.asyncio import AsyncConnection

from appfn.api.execution import ExecutionPhase
from appfn.api.function import ExecutionCounts
from appfn.core.records import ExecutionRecord, ExecutionRequest, Origin, Outcome
from appfn.store import queries
from appfn.store.claims import MAX_CLAIM, Claim, Promote, look
from appfn.store.commit import GroupCommit, Transaction
from appfn.store.database import Database, database_errors, open_database
from appfn.store.intake import Accept
from appfn.store.leases import Begin, Finish, Reap, Release, Renew, Retry
from appfn.store.model import (
    ChangePage,
    Deletion,
    EndedBuild,
    ExecutionPage,
    ExecutionQuery,
    Reaped,
    Tick,
    Usage,
)
from appfn.store.recording import Record
from appfn.store.retention import Delete, DeleteFinished, Purge
from appfn.store.rows import clean, record_of, row_of_record
from appfn.store.signals import Bell, wait_event
from appfn.store.usage import AddBuilds

MIRRORED_ORIGINS = (Origin.API, Origin.SCHEDULE, Origin.EVENT)

_POLL = 1.0
"""Seconds between two looks for changes of other replicas."""
_CLAIM_ROUNDS = 3
_PURGE_BATCH = 500


class ExecutionStore:
    """Executions, durable. Every method may raise TransientError when the database does not answer.

    A *worker* is one process of a shim: its name must be new at each start (replica name and a random part), so that a
    process that hangs is never mistaken for its successor. All times are UTC-aware, from the clock given to `open`;
    the clocks of replicas that share a database must agree to well under the length of a lease.

    Text is stored with NUL and lone surrogates replaced by U+FFFD, as PostgreSQL holds neither; response, stdout and
    stderr are cut to MAX_OUTPUT bytes. A request's `jwt` is given to `claim` alone and erased when the execution ends.
    """

    def __init__(self, database: Database, *, now: Callable[[], datetime], flush_seconds: float) -> None:
        self._database = database
        self._now = now
        self._changed = Bell()
        self._commits = GroupCommit(
            database, now=now, delay=flush_seconds, committed=self._committed, recorded=self._changed.ring
        )
        self._claimable = asyncio.Event()
        self._turn = ""

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, now: Callable[[], datetime], flush_seconds: float = 0.05) -> AsyncIterator[Self]:
        """Open the database at an SQLAlchemy URL, make or migrate its schema; on exit, flush and close.

        Raises:
            ConfigError: when the URL is of another database, or the schema of a newer appfn.
        """
        async with open_database(url) as database:
            store = cls(database, now=now, flush_seconds=flush_seconds)
            commits = asyncio.create_task(store._commits.run(), name="group commit")
            try:
                yield store
            finally:
                await store._commits.close(commits)

    # ------------------------------------------------------------------ accept and record

    async def accept(self, request: ExecutionRequest, *, queue_limit: int) -> tuple[ExecutionRecord, bool]:
        """Store an execution to be run; durable when this returns.

        It is waiting, or scheduled where it is not to run before a time that is still to come. Each function may have
        `queue_limit` of either.

        Returns:
            The record, and True where it is new. False: the idempotency key (kept 24 h) or the id was seen before
            with the same `body_hash`; the record is the earlier one as it stands now.

        Raises:
            IdempotencyError: the key, or the id, was used with another body, or is of an execution that was deleted.
            QueueFullError: as many executions of the function wait already; nothing was accepted.
        """
        return await self._commits.submit(Accept(request, queue_limit))

    def record(self, record: ExecutionRecord) -> Awaitable[None]:
        """Store a finished execution that was never queued (sync); returns at once, durable within `flush_seconds`.

        Waits only while the buffer is full. `get` and every list of this process see it immediately.

        Raises:
            TransientError: the buffer stayed full for 10 s because the database does not answer.
        """
        if not record.phase.terminal or record.outcome is None:
            raise ValueError("only an execution that has ended can be recorded")
        return self._commits.records.put(
            Record(record)
        )  # not a coroutine around another, as this is done for each call

    async def flush(self) -> None:
        """Return when everything given to `record` before is durable."""
        await self._commits.records.flush()

    # ------------------------------------------------------------------ work

    async def claim(
        self,
        worker: str,
        *,
        limit: int,
        lease_seconds: float,
        free: Mapping[str, int] | None = None,
    ) -> Sequence[ExecutionRecord]:
        """Lease up to `limit` waiting executions to a worker: one of each function in turn, oldest first.

        Args:
            worker: name of the worker, see the class.
            limit: most to take.
            lease_seconds: how long they are the worker's without `renew`.
            free: most to take of a function (by uid); functions not named have no cap of their own.
        """
        # Cleared before the look, so that what comes during it is not missed.
        self._claimable.clear()
        records: list[ExecutionRecord] = []
        for _ in range(_CLAIM_ROUNDS):
            async with self._reading() as connection:
                claimable, due = await look(connection, self._now())
            if due:
                await self._commits.submit(Promote())
            elif not claimable:
                break
            claim = Claim(
                worker=worker,
                limit=min(limit - len(records), MAX_CLAIM),
                lease_seconds=lease_seconds,
                after=self._turn,
                free=_left(free or {}, records),
            )
            claimed = await self._commits.submit(claim)
            self._turn = claimed.last_function or self._turn
            records += claimed.records
            if len(records) >= limit or not claimed.contended:
                break
        if len(records) >= limit:
            self._claimable.set()
        return records

    async def wait_claimable(self, *, within: float) -> bool:
        """Wait until `claim` may find something; False when `within` seconds passed without a sign.

        Signs come from this process only: claim after a False too, for what other replicas accepted or left.
        """
        return await wait_event(self._claimable, within)

    async def begin(self, execution_id: str, worker: str, *, deployment: str = "") -> int | None:
        """Mark durably that the code of a claimed execution is about to be started (phase processing).

        Returns:
            The number of this attempt, counted from 1. None: the lease is lost, the code must not be started.
        """
        return await self._commits.submit(Begin(execution_id, worker, deployment))

    async def finish(
        self,
        execution_id: str,
        worker: str,
        *,
        attempt: int,
        outcome: Outcome,
        deployment: str = "",
        memory_mb: int = 0,
    ) -> bool:
        """End an execution with its outcome (phase completed or failed).

        `attempt` is what `begin` returned; for one that was claimed and cannot be begun (function gone) the record's
        own. `memory_mb` is the memory of its function's pods, for the usage. Repeating it is harmless.

        Returns:
            False: the execution is not the worker's any more (lease lost, or purged); the outcome was not stored.
        """
        if not outcome.phase.terminal:
            raise ValueError("an outcome is completed or failed")
        return await self._commits.submit(Finish(execution_id, worker, attempt, outcome, deployment, memory_mb))

    async def release(self, execution_id: str, worker: str, *, delay: float = 0.0) -> bool:
        """Give a claimed execution that was not begun back to the queue, to be claimed again after `delay` seconds.

        Returns:
            False: it was not the worker's (any more), or it has begun.
        """
        return await self._commits.submit(Release(execution_id, worker, delay))

    async def retry(self, execution_id: str, worker: str, *, attempt: int, delay: float = 0.0) -> bool:
        """Give a begun execution back to the queue, for another attempt after `delay` seconds.

        Returns:
            False: it is not the worker's any more; whoever has it decides.
        """
        return await self._commits.submit(Retry(execution_id, worker, attempt, delay))

    async def renew(self, worker: str, execution_ids: Collection[str], *, lease_seconds: float) -> frozenset[str]:
        """Extend the worker's leases on executions it has in hand, to `lease_seconds` from now.

        Returns:
            Those that still are the worker's; work on others is to be given up.
        """
        if not execution_ids:
            return frozenset()
        return await self._commits.submit(Renew(worker, frozenset(execution_ids), lease_seconds))

    async def reap(self) -> Reaped:
        """Take executions from workers whose leases ran out: see `Reaped`. Any replica may call it at any time."""
        async with self._reading() as connection:
            if not await queries.is_lease_over(connection, self._now()):
                return Reaped()
        return await self._commits.submit(Reap())

    # ------------------------------------------------------------------ reads

    async def get(self, namespace: str, execution_id: str) -> ExecutionRecord | None:
        """Return an execution of a namespace; None where there is none."""
        written_soon = self._commits.records.get(execution_id)
        if written_soon is not None and written_soon.record.request.namespace == namespace:
            return record_of(row_of_record(written_soon.record, sequence=0))
        async with self._reading() as connection:
            return await queries.get(connection, namespace, clean(execution_id))

    async def list(self, query: ExecutionQuery) -> ExecutionPage:
        """Return a page of a function's executions.

        Raises:
            CursorError: `after` or `before` names no execution of the function.
        """
        await self.flush()
        async with self._reading() as connection:
            return await queries.page(connection, query)

    async def recent(
        self,
        namespace: str,
        function_uid: str,
        *,
        completed: int,
        failed: int,
        origins: Collection[Origin] = MIRRORED_ORIGINS,
    ) -> Sequence[ExecutionRecord]:
        """Return the newest finished executions, newest first: so many completed, so many failed.

        By default without those that came from an Execution resource, as they are shown by it.
        """
        await self.flush()
        limits = {ExecutionPhase.COMPLETED: completed, ExecutionPhase.FAILED: failed}
        async with self._reading() as connection:
            return await queries.recent(connection, namespace, function_uid, limits=limits, origins=origins)

    async def counts(self, function_uid: str) -> ExecutionCounts:
        """Return how many executions the function ever had; retention does not lower it."""
        await self.flush()
        async with self._reading() as connection:
            return await queries.counts(connection, function_uid)

    async def ticks(self, function_uid: str, *, since: datetime, limit: int = 10_000) -> Sequence[Tick]:
        """Return the schedule's ticks accepted for times from `since` on, in order of scheduled time."""
        async with self._reading() as connection:
            return await queries.ticks(connection, function_uid, since=since, limit=limit)

    async def usage(
        self,
        namespace: str,
        *,
        since: datetime,
        until: datetime,
        step: timedelta = timedelta(hours=1),
        function_uid: str | None = None,
    ) -> Sequence[Usage]:
        """Return what finished from `since` up to `until`, of one function or of all of the namespace together.

        One for each `step` (whole hours, counted from 1970) in which something did, in order; an hour counts as a whole
        where its start is in the range. Kept for 100 days, or until the function is purged.
        """
        await self.flush()
        asked = queries.UsageQuery(namespace, since, until, step, function_uid)
        async with self._reading() as connection:
            return await queries.usage(connection, asked)

    async def add_builds(self, builds: Sequence[EndedBuild]) -> None:
        """Add builds to the usage, each once; those that ended too long ago to be kept are left out."""
        if builds:
            await self._commits.submit(AddBuilds(tuple(builds)))

    # ------------------------------------------------------------------ change feed

    async def changes(self, after: int, *, limit: int = 500) -> ChangePage:
        """Return what changed behind position `after`, oldest first.

        About `limit` changes: those of one commit are never parted. -1: no changes, `next` is the present end.
        A `next` below `after` means that the database was replaced: start anew.
        """
        async with self._reading() as connection:
            return await queries.changes(connection, after, limit=limit)

    async def wait_change(self, after: int, *, within: float) -> bool:
        """Wait until `changes(after)` has something; False when `within` seconds passed.

        At once for changes of this process, within a second for those of other replicas.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while True:
            ring = self._changed.next_ring
            async with self._reading() as connection:
                if await queries.feed_end(connection) != after:
                    return True
            left = deadline - loop.time()
            if left <= 0:
                return False
            await wait_event(ring, min(left, _POLL))

    # ------------------------------------------------------------------ housekeeping

    async def delete(self, namespace: str, function_uid: str, execution_id: str) -> Deletion:
        """Delete an execution of a function that has ended, or whose own time has not come; durable when this returns.

        What is said of it later, by whomever, does not bring it back. Counts and usage keep it.
        """
        await self.flush()
        return await self._commits.submit(Delete(namespace, function_uid, clean(execution_id)))

    async def delete_finished_before(self, moment: datetime, *, batch: int = 1000) -> int:
        """Delete up to `batch` executions that finished before `moment`, as many expired keys and hours of old usage.

        Executions whose idempotency key still lives are kept until it has expired.

        Returns:
            The most that were deleted of one kind; call again while it is `batch`.
        """
        return await self._commits.submit(DeleteFinished(moment, batch))

    async def functions(self) -> set[str]:
        """Return the uids of all functions of which anything is known."""
        async with self._reading() as connection:
            return await queries.functions(connection)

    async def purge_function(self, function_uid: str) -> None:
        """Delete all that is known of a function: executions in any phase, keys, counts, usage."""
        await self.flush()
        while await self._commits.submit(Purge(function_uid, _PURGE_BATCH)) == _PURGE_BATCH:
            pass

    def _committed(self, tx: Transaction) -> None:
        if tx.sequence:
            self._changed.ring()
        if tx.queued:
            self._claimable.set()

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        with database_errors():
            async with self._database.reader.connect() as connection:
                yield connection


def _left(free: Mapping[str, int], taken: Iterable[ExecutionRecord]) -> dict[str, int]:
    """Return the caps that remain when these are taken."""
    counts = Counter(record.request.function_uid for record in taken)
    return {uid: cap - counts[uid] for uid, cap in free.items()}
