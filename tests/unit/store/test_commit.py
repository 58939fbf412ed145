import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self, cast

import pytest
from sqlalchemy import Dialect
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncEngine

from appfn.errors import TransientError
from appfn.store.commit import GroupCommit, Operation, Transaction
from appfn.store.database import Database
from appfn.store.recording import Record
from support.clock import on_virtual_clock
from support.executions import Clock, a_finished


@dataclass
class Away:
    """A database that does not answer, and how often it was asked."""

    dialect: Dialect = field(default_factory=lambda: sqlite.dialect(paramstyle="qmark"))
    asked: int = 0

    def begin(self) -> None:
        self.asked += 1
        raise OSError("no database")


class Nothing(Operation[None]):
    """A write of nothing."""

    @classmethod
    async def apply(cls, tx: Transaction, operations: Sequence[Self]) -> Sequence[None]:
        return [None for _ in operations]


def a_lane(away: Away) -> GroupCommit:
    database = Database(cast("AsyncEngine", away), cast("AsyncEngine", None))
    return GroupCommit(database, now=Clock(), delay=0.05, committed=lambda _: None, recorded=lambda: None)


@on_virtual_clock
async def test_a_flush_does_not_wait_for_ever_for_a_database_that_is_away() -> None:
    commits = a_lane(Away())
    running = asyncio.create_task(commits.run())
    await commits.records.put(Record(a_finished()))
    async with asyncio.timeout(60):
        with pytest.raises(TransientError, match="does not answer"):
            await commits.records.flush()
    await commits.close(running)


@on_virtual_clock
@pytest.mark.parametrize("pause", [0.0, 0.5, 1.5])
async def test_a_database_that_is_away_is_asked_less_and_less_often_whoever_wants_something(pause: float) -> None:
    away, loop = Away(), asyncio.get_running_loop()
    commits = a_lane(away)
    running = asyncio.create_task(commits.run())
    while loop.time() < 40:
        with pytest.raises(TransientError, match="no database"):
            await commits.submit(Nothing())
        await asyncio.sleep(pause)  # of the virtual clock: how often somebody wants something
    assert away.asked < 30
    await commits.close(running)
