"""Group commit: writes that come together share one transaction, and so one flush of the disk."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, Generic, Self, TypeVar, cast

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from appfn.errors import AppfnError, TransientError
from appfn.store.buffer import MAX_BATCH, PATIENCE, RecordBuffer
from appfn.store.database import Database, database_errors
from appfn.store.schema import FEED

R = TypeVar("R")

_log = logging.getLogger(__name__)

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


class _Entry:
    __slots__ = ("done", "operation")

    def __init__(self, operation: Operation[Any]) -> None:
        self.operation = operation
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def settle(self, result: object) -> None:
        """Tell whoever waits, unless they have gone or been told."""
        if self.done.done():
            return
        if isinstance(result, Exception) and not isinstance(result, AppfnError):
            self.done.set_exception(result)
        else:
            self.done.set_result(result)


class GroupCommit:
    """The one lane of all writes of a process. `run` must run as long as anything is submitted or recorded."""

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], datetime],
        delay: float,
        committed: Callable[[Transaction], None],
        recorded: Callable[[], None],
    ) -> None:
        """Make a lane.

        `delay` is how long records may wait; `committed` hears of each commit but of those of records, of
        which `recorded` does.
        """
        self._database = database
        self._now = now
        self._committed = committed
        self._recorded = recorded
        self._entries: deque[_Entry] = deque()
        self._wake = asyncio.Event()
        self._pause = _FIRST_PAUSE
        self._closing = False
        self.records: Final = RecordBuffer(database, delay=delay, wake=self._wake.set)
        """What nobody waits for."""

    async def submit(self, operation: Operation[R]) -> R:
        """Do it in the next transaction; return when that is durable.

        Raises:
            AppfnError: as the operation refuses; TransientError when the database does not answer.
        """
        entry = _Entry(operation)
        self._entries.append(entry)
        self._wake.set()
        result = await entry.done
        if isinstance(result, AppfnError):
            raise result
        return cast("R", result)

    async def run(self) -> None:
        """Commit until `close` is called and nothing is left."""
        while not (self._closing and not self._entries and not self.records):
            if not self._closing:
                await self._wake.wait()
            self._wake.clear()
            recorded = await self._record()
            if await self._round(len(self._entries)) and recorded:
                continue
            if self._entries or self.records.due:
                self._wake.set()
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    async def _record(self) -> bool:
        """Write records where it is time to; in a transaction of their own, as their counts are found by its number."""
        if not self.records or not (self.records.due or self._closing):
            return True
        if not await self.records.write():
            return False
        self._pause = _FIRST_PAUSE
        self._recorded()
        return True

    async def _round(self, count: int) -> bool:
        """Commit the first so many. What comes meanwhile has a round of its own, or each would be of a few only."""
        while count > 0:
            batch = [self._entries.popleft() for _ in range(min(count, MAX_BATCH))]
            count -= len(batch)
            try:
                await self._commit([entry for entry in batch if not entry.done.cancelled()])
            except TransientError as error:
                for entry in batch:  # they decide themselves whether to try again
                    entry.settle(TransientError(str(error)))
                return False
            self._pause = _FIRST_PAUSE
        return True

    async def close(self, task: asyncio.Task[None]) -> None:
        """End `run`, which is that task: write what is left, for 10 s at most."""
        self._closing = True
        self._wake.set()
        done, _ = await asyncio.wait([task], timeout=PATIENCE)
        if not done:
            _log.error("executions lost: the database does not answer", extra={"lost": len(self.records)})
            task.cancel()
            await asyncio.wait([task])
        for entry in self._entries:
            entry.done.cancel()

    async def _commit(self, entries: Sequence[_Entry]) -> None:
        """Commit, and tell each its result or why there is none; TransientError when the database does not answer."""
        try:
            with database_errors():
                results = await self._transact([entry.operation for entry in entries])
        except TransientError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to those who wait, and the lane goes on
            if len(entries) > 1:  # one of them is at fault; without it, the others succeed
                half = len(entries) // 2
                await self._commit(entries[:half])
                await self._commit(entries[half:])
                return
            results = [error]
        for entry, result in zip(entries, results, strict=True):
            entry.settle(result)

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


async def _next_sequence(connection: AsyncConnection) -> int:
    statement = update(FEED).values(sequence=FEED.c.sequence + 1).returning(FEED.c.sequence)
    return int((await connection.execute(statement)).scalar_one())


def _by_kind(operations: Iterable[Operation[Any]]) -> Mapping[type[Operation[Any]], list[Operation[Any]]]:
    groups: dict[type[Operation[Any]], list[Operation[Any]]] = {}
    for operation in operations:
        groups.setdefault(type(operation), []).append(operation)
    return groups
