"""Records that nobody waits for: kept for a moment, so that many go into one transaction."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

from appfn.errors import TransientError
from appfn.store.database import Database, database_errors
from appfn.store.recording import Record, row, script
from appfn.store.signals import Bell

_log = logging.getLogger(__name__)

MAX_BATCH: Final = 500
"""Records, or other writes, in a transaction: bounds its length, and the parameters of its statements."""
_MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""Likewise, so that a transaction of large records does not need as much memory again as the whole buffer."""
_SLICE: Final = 32
"""Records made into rows at once."""
_MAX_RECORDS: Final = 10_000
_MAX_BYTES: Final = 64 * 1024 * 1024
PATIENCE: Final = 10.0
"""Seconds that a full buffer is waited for, and that a flush and closing wait for the database."""


class RecordBuffer:
    """Records to be written, in the order in which they came."""

    def __init__(self, database: Database, *, delay: float, wake: Callable[[], None]) -> None:
        """`wake` is called when records are `due`: `delay` seconds after the first that waits, or sooner."""
        self._database = database
        self._delay = delay
        self._wake = wake
        self.due = False
        """Whether it is time to write: others' writes that come sooner are no reason to."""
        self._records: dict[str, Record] = {}
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._written = Bell()

    def __len__(self) -> int:
        return len(self._records)

    def get(self, execution_id: str) -> Record | None:
        """Return one that is not durable yet."""
        return self._records.get(execution_id)

    async def put(self, record: Record) -> None:
        """Keep it, unless the same is kept already; wait only for room.

        Raises:
            TransientError: there was none for 10 s.
        """
        if not self._room.is_set():
            await self._wait_for_room()
        if record.key in self._records:
            return
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay, self._ask)
        self._records[record.key] = record
        self._bytes += record.size
        if self._full:
            self._room.clear()
            self._ask()

    async def flush(self) -> None:
        """Return when all that is kept now is durable.

        Raises:
            TransientError: it still was not after 10 s.
        """
        waiting = set(self._records)
        if not waiting:
            return
        self._ask()
        try:
            async with asyncio.timeout(PATIENCE):
                while not waiting.isdisjoint(self._records):
                    await self._written.next_ring.wait()
        except TimeoutError:
            raise TransientError("executions wait to be stored: the database does not answer") from None

    async def write(self) -> bool:
        """Write what is kept now, not what comes meanwhile; False when the database does not answer."""
        self.due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        count = len(self._records)
        while count > 0:
            batch = self._batch(min(count, MAX_BATCH))
            count -= len(batch)
            if not await self._commit(batch):
                self.due = True
                return False
        return True

    def _batch(self, most: int) -> list[Record]:
        """Return the first records: one, or no more than `most` and no more bytes than a batch may have."""
        batch, size = list[Record](), 0
        for record in islice(self._records.values(), most):
            size += record.size
            if batch and size > _MAX_BATCH_BYTES:
                break
            batch.append(record)
        return batch

    def _ask(self) -> None:
        self.due = True
        self._wake()

    async def _wait_for_room(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not self._room.is_set():  # others that waited may have taken it already
                    await self._room.wait()
        except TimeoutError:
            message = "the buffer of executions to be stored is full: the database does not answer"
            raise TransientError(message) from None

    @property
    def _full(self) -> bool:
        return len(self._records) >= _MAX_RECORDS or self._bytes >= _MAX_BYTES

    async def _commit(self, batch: Sequence[Record]) -> bool:
        """Commit; False when the database does not answer, and the batch stays."""
        try:
            with database_errors():
                await self._database.run(script(await self._rows(batch), self._database.writer.dialect))
        except TransientError:
            return False
        except Exception as error:  # noqa: BLE001 - what cannot be written is no reason not to write the rest
            if len(batch) > 1:  # one of them is at fault; without it, the others succeed
                half = len(batch) // 2
                return await self._commit(batch[:half]) and await self._commit(batch[half:])
            context = {"execution": batch[0].key, "error": type(error).__name__}
            _log.error("execution not stored", extra=context)
        self._forget(batch)
        return True

    async def _rows(self, batch: Sequence[Record]) -> list[tuple[Any, ...]]:
        """Return the rows of records, made a few at a time: calls that come meanwhile are not to wait for all."""
        found: list[tuple[Any, ...]] = []
        for start in range(0, len(batch), _SLICE):
            found += [row(each.record) for each in batch[start : start + _SLICE]]
            await asyncio.sleep(0)
        return found

    def _forget(self, batch: Sequence[Record]) -> None:
        for record in batch:
            del self._records[record.key]
            self._bytes -= record.size
        if not self._full:
            self._room.set()
        self._written.ring()
