"""Several processes that open one database at the same moment and write to it at the same time."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Self

from sqlalchemy import func, select

from appfn.store import schema
from appfn.store.database import open_database

RECORDS = 1000
ROUNDS = 100

_WRITER = """
import asyncio, sys
from appfn.store.executions import ExecutionStore
from support.executions import Clock, a_finished, a_request

async def main(url, name, count):
    print("here", flush=True)
    input()
    async with ExecutionStore.open(url, now=Clock(), flush_seconds=0.005) as store:
        for number in range(count):
            await store.record(a_finished(id=f"{name}-sync-{number}", function_uid="uid-greet"))
            if not number % 4:
                await store.accept(a_request(id=f"{name}-async-{number}", function_uid=name), queue_limit=count)
    print("done")

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""

_OPENER = """
import sys
from pathlib import Path
from appfn.store.database import _make_file
print("here", flush=True)
for name in sys.stdin:
    _make_file(Path(sys.argv[1], name.strip()))
    print("made", flush=True)
"""


class Process:
    """A Python process that is spoken with by lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout

    @classmethod
    async def start(cls, script: str, *arguments: str) -> Self:
        """Start one; return when it says that it is here."""
        root = Path(__file__).parents[3]
        made = cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", script, *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": f"{root}/operator:{root}/tests"},
            )
        )
        assert await made.hear() == "here"
        return made

    def say(self, text: str) -> None:
        self._stdin.write(f"{text}\n".encode())

    async def hear(self) -> str:
        return (await self._stdout.readline()).decode().rstrip("\n")

    async def rest(self) -> str:
        """Say no more; return all that it still has to say."""
        self._stdin.close()
        said = (await self._stdout.read()).decode()
        await self._process.wait()
        return said


async def write(url: str, *, processes: int, records: int) -> None:
    """Let processes that start together write so many records each."""
    names = [f"writer-{number}" for number in range(processes)]
    writers = await asyncio.gather(*(Process.start(_WRITER, url, name, str(records)) for name in names))
    for writer in writers:
        writer.say("go")
    assert list(await asyncio.gather(*(writer.rest() for writer in writers))) == ["done\n"] * processes


async def test_two_processes_write_a_thousand_records_each_and_more(url: str) -> None:
    await write(url, processes=2, records=RECORDS)

    async with open_database(url) as database, database.reader.connect() as connection:
        phases = schema.EXECUTIONS.c.phase
        found = await connection.execute(select(phases, func.count()).group_by(phases))
        assert {row[0]: row[1] for row in found} == {"completed": 2 * RECORDS, "waiting": RECORDS // 2}
        counts = await connection.execute(select(schema.COUNTS.c.function_uid, schema.COUNTS.c.total))
        assert {row[0]: row[1] for row in counts} == {
            "uid-greet": 2 * RECORDS,
            "writer-0": RECORDS // 4,
            "writer-1": RECORDS // 4,
        }


async def test_processes_that_open_a_new_file_together_do_not_fail_each_other(tmp_path: Path) -> None:
    # Without one waiting for the other, about one round in ten fails.
    openers = await asyncio.gather(*(Process.start(_OPENER, str(tmp_path)) for _ in range(4)))
    for number in range(ROUNDS):
        for opener in openers:
            opener.say(f"{number}.db")
        assert [await opener.hear() for opener in openers] == ["made"] * 4
    assert [await opener.rest() for opener in openers] == [""] * 4


async def test_of_processes_that_start_together_one_makes_the_schema(url: str) -> None:
    await write(url, processes=4, records=1)

    async with open_database(url) as database, database.reader.connect() as connection:
        for table in (schema.FEED, schema.SCHEMA_VERSION):
            assert (await connection.execute(select(func.count()).select_from(table))).scalar_one() == 1
