"""Group commit: writes that come together share one transaction, and so one flush of the disk."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from appfn.errors import AppfnError, TransientError
from appfn.store.database import Database, database_errors
from appfn.store.schema import FEED

R = TypeVar("R")

_log = logging.getLogger(__name__)

_MAX_BATCH = 500
"""Operations in a transaction: bounds its length, and the parameters of its statements."""
_MAX_DEFERRED = 10_000
_MAX_DEFERRED_BYTES = 64 * 1024 * 1024
_PATIENCE = 10.0
"""Seconds that a full buffer is waited for, and that a flush and closing wait for the database."""
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


@dataclass(slots=True)
class Transaction:
    """A transaction under way."""

    connection: AsyncConnection
    now: datetime
    sequence: int = 0
    """Number of this commit in the change feed; 0 when nothing in it changes a phase."""
    queued: bool = False
    """Set by operations that made something claimable."""


class Operation(ABC, Generic[R]):
    """A write that can share a transaction with others."""

    changes_phase: ClassVar[bool] = True
    """Whether it needs the number of the commit; the feed's lock is then taken before any row's."""

    @classmethod
    @abstractmethod
    async def apply(cls, tx: Transaction, operations: Sequence[Self]) -> Sequence[R | AppfnError]:
        """Do all of them, with few statements; return the result of each, or the error it is refused with.

        Must be harmless when repeated: a commit whose acknowledgement was lost is tried again.
        """


class Deferred(Operation[None]):
    """A write nobody waits for."""

    key: str
    """What it is found by as long as it is not written."""
    size: int
    """Bytes it holds, roughly."""


class _Entry:
    __slots__ = ("done", "operation")

    def __init__(self, operation: Operation[Any]) -> None:
        self.operation = operation
        self.done: asyncio.Future[Any] | None = None
        """Made where somebody waits: most of what is deferred is never waited for."""

    def waited(self) -> asyncio.Future[Any]:
        """Return what is done when the operation is."""
        if self.done is None:
            self.done = asyncio.get_running_loop().create_future()
        return self.done

    @property
    def abandoned(self) -> bool:
        """Tell whether whoever waited has gone."""
        return self.done is not None and self.done.cancelled()


class GroupCommit:
    """The one lane of all writes of a process. `run` must run as long as anything is submitted."""

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], datetime],
        delay: float,
        committed: Callable[[Transaction], None],
    ) -> None:
        """Make a lane; `delay` is how long deferred writes may wait, `committed` hears of each commit."""
        self._database = database
        self._now = now
        self._delay = delay
        self._committed = committed
        self._entries: deque[_Entry] = deque()
        self._deferred: dict[str, _Entry] = {}
        self._deferred_bytes = 0
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        """Wakes for what was deferred since the last round; set by the first of it."""
        self._pause = _FIRST_PAUSE
        self._room = asyncio.Event()
        self._room.set()
        self._closing = False

    async def submit(self, operation: Operation[R]) -> R:
        """Do it in the next transaction; return when that is durable.

        Raises:
            AppfnError: as the operation refuses; TransientError when the database does not answer.
        """
        entry = _Entry(operation)
        self._entries.append(entry)
        self._wake.set()
        result = await entry.waited()
        if isinstance(result, AppfnError):
            raise result
        return cast("R", result)

    async def defer(self, operation: Deferred) -> None:
        """Do it within `delay` seconds, unless the same is deferred already; wait only for room in the buffer.

        Raises:
            TransientError: there was none for 10 s.
        """
        if not self._room.is_set():
            await self._wait_for_room()
        key = operation.key
        if key in self._deferred:
            return
        entry = _Entry(operation)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay, self._wake.set)
        self._entries.append(entry)
        self._deferred[key] = entry
        self._count(operation.size)

    async def _wait_for_room(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._room.wait(), _PATIENCE)
        if not self._room.is_set():
            raise TransientError("the buffer of executions to be stored is full: the database does not answer")

    def deferred(self, key: str) -> Deferred | None:
        """Return a deferred write that is not durable yet."""
        entry = self._deferred.get(key)
        return None if entry is None else cast("Deferred", entry.operation)

    async def flush(self) -> None:
        """Return when all that was deferred before is durable.

        Raises:
            TransientError: it still was not after 10 s.
        """
        if not self._deferred:
            return
        self._wake.set()
        _, late = await asyncio.wait([entry.waited() for entry in self._deferred.values()], timeout=_PATIENCE)
        if late:
            raise TransientError("executions wait to be stored: the database does not answer")

    async def run(self) -> None:
        """Commit until `close` is called and nothing is left."""
        while not (self._closing and not self._entries):
            if not self._closing:
                await self._wake.wait()
            self._wake.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            await self._round(len(self._entries))

    async def _round(self, count: int) -> None:
        """Commit the first so many. What comes meanwhile has a round of its own, or each would be of a few only."""
        while count > 0:
            batch = [self._entries.popleft() for _ in range(min(count, _MAX_BATCH))]
            count -= len(batch)
            if not await self._commit([entry for entry in batch if not entry.abandoned]):
                self._wake.set()  # for what is back in the line
                await asyncio.sleep(self._pause)
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
                return
            self._pause = _FIRST_PAUSE

    async def close(self, task: asyncio.Task[None]) -> None:
        """End `run`, which is that task: write what is left, for 10 s at most."""
        self._closing = True
        self._wake.set()
        done, _ = await asyncio.wait([task], timeout=_PATIENCE)
        if not done:
            _log.error("executions lost: the database does not answer", extra={"lost": len(self._deferred)})
            task.cancel()
            await asyncio.wait([task])
        for entry in self._entries:
            entry.waited().cancel()

    async def _commit(self, entries: Sequence[_Entry]) -> bool:
        """Commit, or tell each why not; False when the database does not answer."""
        try:
            with database_errors():
                results = await self._transact([entry.operation for entry in entries])
        except TransientError as error:
            self._postpone(entries, error)
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to those who wait, and the lane goes on
            if len(entries) == 1:
                self._settle(entries[0], error)
                return True
            # One of them is at fault; alone, the others succeed.
            return all([await self._commit([entry]) for entry in entries])
        for entry, result in zip(entries, results, strict=True):
            self._settle(entry, result)
        return True

    async def _transact(self, operations: Sequence[Operation[Any]]) -> Sequence[object]:
        results: dict[int, object] = {}
        async with self._database.writer.begin() as connection:
            tx = Transaction(connection, self._now())
            if any(operation.changes_phase for operation in operations):
                tx.sequence = await _next_sequence(connection)
            for kind, group in _by_kind(operations).items():
                answers = await kind.apply(tx, group)
                results |= {id(operation): answer for operation, answer in zip(group, answers, strict=True)}
        self._committed(tx)
        return [results[id(operation)] for operation in operations]

    def _settle(self, entry: _Entry, result: object) -> None:
        operation = entry.operation
        if isinstance(operation, Deferred):
            self._forget(operation)
            if isinstance(result, Exception):
                _log.error(
                    "execution not stored",
                    extra={"execution": operation.key, "error": type(result).__name__},
                )
                result = None
        if entry.done is None or entry.done.cancelled():
            return
        if isinstance(result, Exception) and not isinstance(result, AppfnError):
            entry.done.set_exception(result)
        else:
            entry.done.set_result(result)

    def _postpone(self, entries: Iterable[_Entry], error: TransientError) -> None:
        """Keep what nobody waits for, in its order; the others decide themselves whether to try again."""
        kept = [entry for entry in entries if isinstance(entry.operation, Deferred)]
        for entry in entries:
            if not isinstance(entry.operation, Deferred):
                self._settle(entry, TransientError(str(error)))
        self._entries.extendleft(reversed(kept))

    def _forget(self, operation: Deferred) -> None:
        del self._deferred[operation.key]
        self._count(-operation.size)

    def _count(self, size: int) -> None:
        self._deferred_bytes += size
        if len(self._deferred) < _MAX_DEFERRED and self._deferred_bytes < _MAX_DEFERRED_BYTES:
            self._room.set()
            return
        self._room.clear()
        self._wake.set()


async def _next_sequence(connection: AsyncConnection) -> int:
    statement = update(FEED).values(sequence=FEED.c.sequence + 1).returning(FEED.c.sequence)
    return int((await connection.execute(statement)).scalar_one())


def _by_kind(operations: Iterable[Operation[Any]]) -> Mapping[type[Operation[Any]], list[Operation[Any]]]:
    groups: dict[type[Operation[Any]], list[Operation[Any]]] = {}
    for operation in operations:
        groups.setdefault(type(operation), []).append(operation)
    return groups
