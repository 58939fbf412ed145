import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncEngine

from appfn.errors import TransientError
from appfn.store.commit import GroupCommit
from appfn.store.database import Database
from appfn.store.recording import Record
from support.clock import on_virtual_clock
from support.executions import Clock, a_finished


def _away() -> None:
    raise OSError("no database")


@on_virtual_clock
async def test_a_flush_does_not_wait_for_ever_for_a_database_that_is_away() -> None:
    writer = SimpleNamespace(begin=_away, dialect=sqlite.dialect(paramstyle="qmark"))
    database = Database(cast("AsyncEngine", writer), cast("AsyncEngine", None))
    commits = GroupCommit(database, now=Clock(), delay=0.05, committed=lambda _: None, recorded=lambda: None)
    running = asyncio.create_task(commits.run())
    await commits.records.put(Record(a_finished()))
    async with asyncio.timeout(60):
        with pytest.raises(TransientError, match="does not answer"):
            await commits.records.flush()
    await commits.close(running)
