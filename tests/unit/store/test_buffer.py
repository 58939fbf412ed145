"""The buffer of records: its bound, and what waits for room in it."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from sqlalchemy.dialects import sqlite

from appfn.errors import TransientError
from appfn.store.buffer import RecordBuffer
from appfn.store.database import Database
from appfn.store.recording import Record
from appfn.store.script import Script
from support.clock import on_virtual_clock
from support.executions import a_finished

_HUGE = 64 * 1024 * 1024


async def _run(_script: Script) -> None:
    return


def a_buffer() -> RecordBuffer:
    dialect = sqlite.dialect(paramstyle="qmark")
    database = cast("Database", SimpleNamespace(run=_run, writer=SimpleNamespace(dialect=dialect)))
    return RecordBuffer(database, delay=0.05, wake=lambda: None)


def huge() -> Record:
    """Return a record that leaves no room for another."""
    record = Record(a_finished())
    record.size = _HUGE
    return record


@on_virtual_clock
async def test_who_waits_for_room_that_another_takes_waits_on() -> None:
    buffer = a_buffer()
    await buffer.put(huge())
    waiting = [asyncio.create_task(buffer.put(huge())) for _ in range(3)]
    for left in (2, 1, 0):
        await asyncio.sleep(1)
        await buffer.write()
        await asyncio.sleep(1)
        assert sum(not task.done() for task in waiting) == left
    await asyncio.gather(*waiting)


@on_virtual_clock
async def test_who_waits_for_room_in_vain_is_told_so_after_a_while() -> None:
    buffer = a_buffer()
    await buffer.put(huge())
    begun = asyncio.get_running_loop().time()
    with pytest.raises(TransientError, match="buffer of executions to be stored is full"):
        await buffer.put(huge())
    assert asyncio.get_running_loop().time() - begun == pytest.approx(10)
