"""The buffer of records: its bound, and what waits for room in it."""

import asyncio
from collections.abc import Awaitable, Callable
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


def a_buffer(run: Callable[[Script], Awaitable[None]] = _run) -> RecordBuffer:
    dialect = sqlite.dialect(paramstyle="qmark")
    database = cast("Database", SimpleNamespace(run=run, writer=SimpleNamespace(dialect=dialect)))
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
        await asyncio.sleep(1)  # of the virtual clock: whoever can go on has done so
        await buffer.write()
        await asyncio.sleep(1)  # likewise
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


async def test_of_many_records_the_one_that_cannot_be_stored_is_found_with_few_tries() -> None:
    bad, scripts = Record(a_finished()), list[Script]()

    async def run(script: Script) -> None:
        scripts.append(script)
        if any(bad.key in values for statement in script for values in statement.parameters):
            raise ValueError("it does not fit")

    buffer = a_buffer(run)
    for record in [Record(a_finished()) for _ in range(300)] + [bad] + [Record(a_finished()) for _ in range(199)]:
        await buffer.put(record)
    assert await buffer.write()
    assert not buffer
    assert len(scripts) <= 2 * 9 + 1


async def test_a_database_that_goes_while_a_bad_record_is_looked_for_is_not_asked_for_each() -> None:
    answers = iter([ValueError("it does not fit")])
    tries = 0

    async def run(_script: Script) -> None:
        nonlocal tries
        tries += 1
        raise next(answers, OSError("no database"))

    buffer = a_buffer(run)
    for _ in range(500):
        await buffer.put(Record(a_finished()))
    assert not await buffer.write()
    assert (len(buffer), tries, buffer.due) == (500, 2, True)


@on_virtual_clock
async def test_large_records_are_written_a_few_at_a_time_and_one_that_is_larger_alone() -> None:
    written: list[int] = []

    async def run(script: Script) -> None:
        written.append(len(script[1].parameters))

    buffer = a_buffer(run)
    for mebibytes in (3, 3, 1, 9, 1, 1):
        record = Record(a_finished())
        record.size = mebibytes * 1024 * 1024
        await buffer.put(record)
    await buffer.write()
    assert (written, len(buffer)) == ([1, 2, 1, 2], 0)
