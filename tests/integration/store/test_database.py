"""Opening databases, and databases that go away."""

import asyncio
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, select, text, update

from appfn.errors import ConfigError, TransientError
from appfn.store import schema
from appfn.store.database import Database, open_database
from appfn.store.executions import ExecutionStore
from support.executions import Clock, a_finished, a_request
from support.polling import eventually
from support.postgres import postgres_server


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("not a url with a password", "is not a URL"),
        ("mysql://root:password@db/x", "mysql is not supported"),
        ("sqlite://", "name a file"),
        ("sqlite+aiosqlite:///:memory:", "name a file"),
    ],
)
async def test_a_url_that_cannot_be_used_is_refused_without_being_repeated(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        async with open_database(url):
            pass
    assert "password" not in str(refused.value)


async def test_an_sqlite_file_is_made_for_us_alone_and_uses_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "new" / "executions.db"
    async with open_database(f"sqlite:///{path}") as database:
        for engine, writable in ((database.writer, 0), (database.reader, 1)):
            async with engine.connect() as connection:
                pragmas = ("journal_mode", "synchronous", "busy_timeout", "query_only")
                values = [(await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one() for name in pragmas]
                assert values == ["wal", 2, 5000, writable]
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_database_that_does_not_answer_is_a_passing_error(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="does not answer") as failed:
        async with open_database(f"postgresql://user:password@/x?host={tmp_path}"):
            pass
    assert "password" not in str(failed.value)


async def test_a_database_of_a_newer_appfn_is_refused(url: str) -> None:
    async with open_database(url) as database, database.writer.begin() as connection:
        await connection.execute(update(schema.SCHEMA_VERSION).values(version=99))
    with pytest.raises(ConfigError, match="schema version 99"):
        async with open_database(url):
            pass


async def test_an_older_schema_is_taken_up_step_by_step_and_once(url: str) -> None:
    def add(name: str) -> schema.Migration:
        def migrate(connection: Connection) -> None:
            connection.execute(text(f"CREATE TABLE {name} (x INTEGER)"))

        return migrate

    steps = [add("one"), add("two")]
    async with open_database(url) as database:
        async with database.writer.begin() as connection:
            await connection.execute(update(schema.SCHEMA_VERSION).values(version=1))
        for known in (steps[:1], steps, steps):
            async with database.writer.begin() as connection:
                await connection.run_sync(schema.prepare, known)
        async with database.reader.connect() as connection:
            assert (await connection.execute(select(schema.SCHEMA_VERSION.c.version))).scalars().all() == [3]


_FIRST = """
DELETE FROM usage WHERE function_uid = '';
ALTER TABLE usage DROP COLUMN compute_mb_ms;
ALTER TABLE usage DROP COLUMN builds_ready;
ALTER TABLE usage DROP COLUMN builds_failed;
ALTER TABLE usage DROP COLUMN build_ms;
ALTER TABLE usage DROP COLUMN build_mb_ms;
DROP TABLE builds;
DROP TABLE deleted;
DROP INDEX executions_scheduled;
DROP INDEX executions_delayed;
ALTER TABLE executions DROP COLUMN replay_of;
ALTER TABLE executions DROP COLUMN memory_mb;
DROP INDEX executions_by_status;
DROP INDEX executions_listing;
CREATE INDEX executions_listing ON executions (function_uid, created_at, id, phase, "trigger", status_code);
UPDATE schema_version SET version = 1;
"""


async def test_a_database_of_the_first_version_comes_to_be_as_a_new_one(url: str) -> None:
    async with open_database(url) as database:
        new = await _shape(database)
        async with database.writer.begin() as connection:
            for statement in filter(str.strip, _FIRST.split(";")):
                await connection.execute(text(statement))
        assert await _shape(database) != new
    async with open_database(url) as database:
        assert await _shape(database) == new


async def test_what_an_older_version_stored_is_read_after_the_migration(url: str, clock: Clock) -> None:
    async with ExecutionStore.open(url, now=clock) as store:
        record = a_finished()
        await store.record(record)
        await store.flush()
        async with store._database.writer.begin() as connection:
            for statement in filter(str.strip, _FIRST.split(";")):
                await connection.execute(text(statement))
    async with ExecutionStore.open(url, now=clock) as store:
        found = await store.get("shop", record.id)
        assert found is not None
        assert (found.request.replay_of, found.memory_mb) == ("", 0)
        (used,) = await store.usage("shop", since=clock.at - timedelta(days=1), until=clock.at)
        assert (used.completed, used.compute_mb_ms, used.build_ms) == (1, 0, 0)
        assert (await store.accept(a_request(replay_of=record.id), queue_limit=10))[1]


async def _shape(database: Database) -> dict[str, tuple[object, object]]:
    """Return indexes and columns of each table, columns without their order."""

    def read(connection: Connection) -> dict[str, tuple[object, object]]:
        looked = inspect(connection)
        return {
            table: (
                sorted((str(index["name"]), index["column_names"]) for index in looked.get_indexes(table)),
                sorted(
                    (column["name"], str(column["type"]), column["nullable"]) for column in looked.get_columns(table)
                ),
            )
            for table in looked.get_table_names()
        }

    async with database.writer.connect() as connection:
        return await connection.run_sync(read)


async def test_replicas_that_start_together_make_one_schema(url: str, clock: Clock) -> None:
    async def start() -> None:
        async with ExecutionStore.open(url, now=clock) as store:
            await store.accept(a_request(), queue_limit=100)

    await asyncio.gather(*(start() for _ in range(4)))
    async with ExecutionStore.open(url, now=clock) as store:
        assert (await store.counts("uid-greet")).total == 4


async def test_records_outlive_a_restart_of_the_database(clock: Clock) -> None:
    with postgres_server() as server:
        async with ExecutionStore.open(server.create_database(), now=clock) as store:
            record = a_finished()
            server.stop()
            await store.record(record)
            with pytest.raises(TransientError):
                await store.accept(a_request(), queue_limit=10)
            assert await store.get("shop", record.id) is not None
            server.start()

            async def stored() -> bool:
                try:
                    return (await store.counts("uid-greet")).total == 1
                except TransientError:
                    return False

            assert await eventually(stored, within=20)
            assert (await store.accept(a_request(), queue_limit=10))[1]
