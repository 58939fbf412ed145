"""The process that writes records into SQLite, and what becomes of them when it, or who started it, dies."""

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from appfn.store.executions import ExecutionStore
from appfn.store.script import Statement
from appfn.store.script_process import ScriptProcess, _answer
from support.executions import Clock, a_finished
from support.polling import eventually

_OWNER = """
import asyncio, sys
from appfn.store.script import Statement
from appfn.store.script_process import ScriptProcess

async def main(path):
    scripts = ScriptProcess(path)
    await scripts.run([Statement("CREATE TABLE t (a)")])
    print(scripts.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main(sys.argv[1]))
"""
_INSERT = "INSERT INTO t VALUES (?)"


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "executions.db")


@pytest.fixture
async def scripts(file: str) -> AsyncIterator[ScriptProcess]:
    process = ScriptProcess(file)
    await process.run([Statement("CREATE TABLE t (a INTEGER PRIMARY KEY)")])
    yield process
    await process.close()


def stored(file: str) -> list[int]:
    with closing(sqlite3.connect(file)) as connection:
        return [value for (value,) in connection.execute("SELECT a FROM t ORDER BY a")]


def is_there(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits to be asked about does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


async def ended(pid: int) -> None:
    async def gone() -> bool:
        return not is_there(pid)

    await eventually(gone)


async def test_a_script_is_done_whole_or_not_at_all_and_what_sqlite_says_is_told(
    scripts: ScriptProcess, file: str
) -> None:
    await scripts.run([Statement(_INSERT, [(1,)])])
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        await scripts.run([Statement(_INSERT, [(2,)]), Statement(_INSERT, [(1,)])])
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await scripts.run([Statement("DELETE FROM absent")])
    await scripts.run([Statement(_INSERT, [(3,), (4,)])])
    assert stored(file) == [1, 3, 4]


async def test_scripts_asked_for_together_are_run_one_after_the_other(scripts: ScriptProcess, file: str) -> None:
    await asyncio.gather(*(scripts.run([Statement(_INSERT, [(number,)])]) for number in range(20)))
    assert stored(file) == list(range(20))


async def test_a_process_that_was_killed_is_started_again(scripts: ScriptProcess, file: str) -> None:
    former = scripts.pid
    assert former is not None
    os.kill(former, signal.SIGKILL)
    await ended(former)
    with suppress(sqlite3.OperationalError):  # where nobody has noticed yet
        await scripts.run([Statement(_INSERT, [(1,)])])
    await scripts.run([Statement(_INSERT, [(2,)])])
    assert scripts.pid != former
    assert stored(file)[-1] == 2


async def test_of_a_process_that_dies_with_a_script_it_is_told_and_the_next_has_another(
    scripts: ScriptProcess, file: str
) -> None:
    former = scripts.pid
    assert former is not None
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # so that it waits
        waiting = asyncio.create_task(scripts.run([Statement(_INSERT, [(1,)])]))
        await asyncio.sleep(0)  # a turn, in which the script is sent
        os.kill(former, signal.SIGKILL)
        with pytest.raises(sqlite3.OperationalError, match="has ended"):
            await waiting
    await scripts.run([Statement(_INSERT, [(2,)])])
    assert stored(file) == [2]


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 50])
async def test_who_no_longer_waits_leaves_no_answer_to_the_next(scripts: ScriptProcess, file: str, turns: int) -> None:
    former = scripts.pid
    assert former is not None
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # so that it waits
        waiting = asyncio.create_task(scripts.run([Statement(_INSERT, [(1,)]), Statement("DELETE FROM absent")]))
        for _ in range(turns):  # of the loop: how far it has come
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await scripts.run([Statement(_INSERT, [(2,)])])
    assert stored(file) == [2]


async def test_neither_an_interrupt_nor_a_request_to_end_stops_it_before_its_owner_does(
    scripts: ScriptProcess, file: str
) -> None:
    pid = scripts.pid
    assert pid is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    await scripts.run([Statement(_INSERT, [(1,)])])
    assert (scripts.pid, stored(file)) == (pid, [1])
    await scripts.close()
    assert not is_there(pid)


async def test_it_does_not_outlive_an_owner_that_was_killed(file: str) -> None:
    root = Path(__file__).parents[4]
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _OWNER, file),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{root}/operator"},
    )
    assert owner.stdout is not None
    pid = int(await asyncio.wait_for(owner.stdout.readline(), 60))
    assert is_there(pid)
    owner.kill()
    await owner.wait()
    await ended(pid)


async def test_what_sqlite_cannot_hold_is_the_scripts_fault_and_ends_nothing(scripts: ScriptProcess, file: str) -> None:
    pid = scripts.pid
    with pytest.raises(RuntimeError, match="OverflowError"):
        await scripts.run([Statement(_INSERT, [(1,), (2**63,)])])
    await scripts.run([Statement(_INSERT, [(2,)])])
    assert (scripts.pid, stored(file)) == (pid, [2])


async def test_why_a_process_cannot_be_started_is_told(
    file: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(sqlite3.OperationalError, match=r"cannot be started: .*No such file"):
        await ScriptProcess(file).run([])
    assert "cannot be started" in caplog.text


async def test_records_are_stored_once_though_their_process_is_killed_all_the_time(file: str, clock: Clock) -> None:
    kills = 0
    async with ExecutionStore.open(f"sqlite:///{file}", now=clock, flush_seconds=0.001) as store:
        scripts = store._database.scripts
        assert scripts is not None
        for number in range(60):
            await store.record(a_finished(id=f"execution-{number}"))
            if number % 20 == 10:
                await store.flush()  # so that there is one to be killed
            if scripts.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(scripts.pid, signal.SIGKILL)
                    kills += 1
            await asyncio.sleep(0)  # a turn for the lane
        counts = await store.counts("uid-greet")
    assert kills >= 3
    assert (counts.total, rows(file)) == (60, (60, 60))


async def test_records_whose_commit_was_done_and_not_heard_of_are_counted_once(
    file: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    unheard = 2

    async def answer(process: asyncio.subprocess.Process, script: bytes) -> object:
        nonlocal unheard
        found = await _answer(process, script)
        if found is None and unheard:
            unheard -= 1
            raise EOFError
        return found

    monkeypatch.setattr("appfn.store.script_process._answer", answer)
    async with ExecutionStore.open(f"sqlite:///{file}", now=clock, flush_seconds=0.001) as store:
        for number in range(10):
            await store.record(a_finished(id=f"execution-{number}"))
        counts = await store.counts("uid-greet")
        [usage] = await store.usage("shop", since=clock() - timedelta(hours=2), until=clock() + timedelta(hours=2))
    assert not unheard
    assert (counts.total, usage.completed, rows(file)) == (10, 10, (10, 10))


def rows(file: str) -> tuple[int, int]:
    """Return how many executions are stored, and how many different ones."""
    with closing(sqlite3.connect(file)) as connection:
        total, different = connection.execute("SELECT COUNT(*), COUNT(DISTINCT id) FROM executions").fetchone()
        return total, different
