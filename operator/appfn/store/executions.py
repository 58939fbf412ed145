"""The execution store: queue, results, history, change feed and usage, in SQLite or PostgreSQL."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Self

from appfn.api.function import ExecutionCounts
from appfn.core.records import ExecutionRecord, ExecutionRequest, Origin, Outcome
from appfn.store.model import ChangePage, ExecutionPage, ExecutionQuery, Reaped, Tick, UsageHour

MIRRORED_ORIGINS = (Origin.API, Origin.SCHEDULE, Origin.EVENT)


class ExecutionStore:
    """Executions, durable. Every method may raise TransientError when the database does not answer.

    A *worker* is one process of a shim: its name must be new at each start (replica name and a random part), so that a
    process that hangs is never mistaken for its successor. All times are UTC-aware, from the clock given to `open`;
    the clocks of replicas that share a database must agree to well under the length of a lease.

    Text is stored with NUL and lone surrogates replaced by U+FFFD, as PostgreSQL holds neither; response, stdout and
    stderr are cut to MAX_OUTPUT bytes. A request's `jwt` is given to `claim` alone and erased when the execution ends.
    """

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, now: Callable[[], datetime], flush_seconds: float = 0.05) -> AsyncIterator[Self]:
        """Open the database at an SQLAlchemy URL, make or migrate its schema; on exit, flush and close.

        Raises:
            ConfigError: when the URL is of another database, or the schema of a newer appfn.
        """
        raise NotImplementedError
        yield

    # ------------------------------------------------------------------ accept and record

    async def accept(self, request: ExecutionRequest, *, queue_limit: int) -> tuple[ExecutionRecord, bool]:
        """Store an execution to be run (phase waiting); durable when this returns.

        Returns:
            The record, and True where it is new. False: the idempotency key (kept 24 h) or the id was seen before
            with the same `body_hash`; the record is the earlier one as it stands now.

        Raises:
            IdempotencyError: the key, or the id, was used with another body.
            QueueFullError: `queue_limit` executions of the function wait already; nothing was accepted.
        """
        raise NotImplementedError

    async def record(self, record: ExecutionRecord) -> None:
        """Store a finished execution that was never queued (sync); returns at once, durable within `flush_seconds`.

        Waits only while the buffer is full. `get` and every list of this process see it immediately.

        Raises:
            TransientError: the buffer stayed full for 10 s because the database does not answer.
        """
        raise NotImplementedError

    async def flush(self) -> None:
        """Return when everything given to `record` before is durable."""
        raise NotImplementedError

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
        raise NotImplementedError

    async def wait_claimable(self, *, within: float) -> bool:
        """Wait until `claim` may find something; False when `within` seconds passed without a sign.

        Signs come from this process only: claim after a False too, for what other replicas accepted or left.
        """
        raise NotImplementedError

    async def begin(self, execution_id: str, worker: str, *, deployment: str = "") -> int | None:
        """Mark durably that the code of a claimed execution is about to be started (phase processing).

        Returns:
            The number of this attempt, counted from 1. None: the lease is lost, the code must not be started.
        """
        raise NotImplementedError

    async def finish(
        self,
        execution_id: str,
        worker: str,
        *,
        attempt: int,
        outcome: Outcome,
        deployment: str = "",
    ) -> bool:
        """End an execution with its outcome (phase completed or failed).

        `attempt` is what `begin` returned; for one that was claimed and cannot be begun (function gone) the record's
        own. Repeating it is harmless.

        Returns:
            False: the execution is not the worker's any more (lease lost, or purged); the outcome was not stored.
        """
        raise NotImplementedError

    async def release(self, execution_id: str, worker: str, *, delay: float = 0.0) -> bool:
        """Give a claimed execution that was not begun back to the queue, to be claimed again after `delay` seconds.

        Returns:
            False: it was not the worker's (any more), or it has begun.
        """
        raise NotImplementedError

    async def renew(self, worker: str, execution_ids: Collection[str], *, lease_seconds: float) -> frozenset[str]:
        """Extend the worker's leases on executions it has in hand, to `lease_seconds` from now.

        Returns:
            Those that still are the worker's; work on others is to be given up.
        """
        raise NotImplementedError

    async def reap(self) -> Reaped:
        """Take executions from workers whose leases ran out: see `Reaped`. Any replica may call it at any time."""
        raise NotImplementedError

    # ------------------------------------------------------------------ reads

    async def get(self, namespace: str, execution_id: str) -> ExecutionRecord | None:
        """Return an execution of a namespace; None where there is none."""
        raise NotImplementedError

    async def list(self, query: ExecutionQuery) -> ExecutionPage:
        """Return a page of a function's executions.

        Raises:
            CursorError: `after` or `before` names no execution of the function.
        """
        raise NotImplementedError

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
        raise NotImplementedError

    async def counts(self, function_uid: str) -> ExecutionCounts:
        """Return how many executions the function ever had; retention does not lower it."""
        raise NotImplementedError

    async def ticks(self, function_uid: str, *, since: datetime, limit: int = 10_000) -> Sequence[Tick]:
        """Return the schedule's ticks accepted for times from `since` on, in order of scheduled time."""
        raise NotImplementedError

    async def usage(
        self,
        namespace: str,
        *,
        since: datetime,
        until: datetime,
        function_uid: str | None = None,
    ) -> Sequence[UsageHour]:
        """Return the hours from `since` up to `until` in which something finished, of one function or of all."""
        raise NotImplementedError

    # ------------------------------------------------------------------ change feed

    async def changes(self, after: int, *, limit: int = 500) -> ChangePage:
        """Return what changed behind position `after`, oldest first.

        About `limit` changes: those of one commit are never parted. -1: no changes, `next` is the present end.
        A `next` below `after` means that the database was replaced: start anew.
        """
        raise NotImplementedError

    async def wait_change(self, after: int, *, within: float) -> bool:
        """Wait until `changes(after)` has something; False when `within` seconds passed.

        At once for changes of this process, within a second for those of other replicas.
        """
        raise NotImplementedError

    # ------------------------------------------------------------------ housekeeping

    async def delete_finished_before(self, moment: datetime, *, batch: int = 1000) -> int:
        """Delete up to `batch` executions that finished before `moment`, and what else has expired.

        Those whose idempotency key still lives are kept until it has expired.

        Returns:
            How many executions were deleted; call again while it is `batch`.
        """
        raise NotImplementedError

    async def purge_function(self, function_uid: str) -> None:
        """Delete all that is known of a function: executions in any phase, keys, counts, usage."""
        raise NotImplementedError
