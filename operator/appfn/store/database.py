"""Opening SQLite and PostgreSQL, and what their errors mean."""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from appfn.errors import ConfigError, TransientError
from appfn.store import pragmas, schema
from appfn.store.script import Script
from appfn.store.script_process import ScriptProcess
from appfn.store.sqlite import Driver

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_READERS = 4
_OUR_FAULT = frozenset({"22", "23", "42", "54"})
"""Classes of SQLSTATE that the same statement meets again: data, constraint, syntax or access, a limit."""


@dataclass(frozen=True, slots=True)
class Database:
    """An open database with its schema in place."""

    writer: AsyncEngine
    """For transactions that write. On SQLite one connection, whose transactions take the write lock at once."""
    reader: AsyncEngine
    """For reads, each of its own snapshot (autocommit)."""
    scripts: ScriptProcess | None = None
    """What runs scripts on SQLite."""

    async def run(self, script: Script) -> None:
        """Run statements that need no answers, in a transaction of their own."""
        if self.scripts is not None:
            await self.scripts.run(script)
            return
        async with self.writer.begin() as connection:
            for statement in script:
                await connection.exec_driver_sql(statement.sql, list(statement.parameters))

    async def close(self) -> None:
        """Close all connections; nothing must be under way."""
        if self.scripts is not None:
            await self.scripts.close()
        await self.reader.dispose()
        await self.writer.dispose()


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """Open, make or migrate the schema, and close on exit.

    Raises:
        ConfigError: the URL cannot be used, or the schema is of a newer appfn.
        TransientError: the database does not answer.
    """
    address = _address(url)
    database = await _sqlite(address) if address.get_backend_name() == "sqlite" else _postgresql(address)
    try:
        with database_errors():
            async with database.writer.begin() as connection:
                await connection.run_sync(schema.prepare)
        yield database
    finally:
        await database.close()


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn errors that time may heal into TransientError; others are bugs and stay as they are."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError, TimeoutError) as error:
        if not is_transient(error):
            raise
        raise TransientError(f"the database does not answer: {_brief(error)}") from error


def is_transient(error: BaseException) -> bool:
    """Tell whether the same statement may succeed later: no connection, locks, deadlocks, a full disk."""
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None)
        if state is not None:
            return state[:2] not in _OUR_FAULT
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    # SQLite's own come from scripts, which go past SQLAlchemy.
    return isinstance(error, OSError | TimeoutError | PoolTimeoutError | sqlite3.OperationalError)


def _brief(error: BaseException) -> str:
    """Name an error without the statement and its parameters, which are payload."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return f"{type(cause).__name__}: {cause}".splitlines()[0]


def _address(url: str) -> URL:
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise ConfigError("APPFN_DATABASE_URL: is not a URL such as sqlite:////data/executions.db") from error
    driver = _DRIVERS.get(address.drivername)
    if driver is None:
        raise ConfigError(f"APPFN_DATABASE_URL: {address.drivername} is not supported: use sqlite or postgresql")
    if address.get_backend_name() == "sqlite" and address.database in {None, "", ":memory:"}:
        raise ConfigError("APPFN_DATABASE_URL: name a file, as in sqlite:////data/executions.db")
    return address.set(drivername=driver)


async def _sqlite(address: URL) -> Database:
    assert address.database is not None
    await asyncio.to_thread(_make_file, Path(address.database))
    # hide_parameters: an error's text must not carry payloads into a log.
    settings: dict[str, Any] = {"module": Driver(), "max_overflow": 0, "hide_parameters": True}
    writer = create_async_engine(address, pool_size=1, json_serializer=_json, **settings)
    reader = create_async_engine(
        address,
        pool_size=_READERS,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        **settings,
    )
    event.listen(writer.sync_engine, "connect", _configure_writer)
    event.listen(writer.sync_engine, "begin", _begin_immediate)
    event.listen(reader.sync_engine, "connect", _configure_reader)
    return Database(writer, reader, ScriptProcess(address.database))


def _postgresql(address: URL) -> Database:
    engine = create_async_engine(
        address,
        pool_size=_READERS + 1,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,
        json_serializer=_json,
        connect_args={
            "timeout": 10,
            "command_timeout": 30,
            # A replica that hangs in a transaction holds the lock of the feed, which all replicas need.
            "server_settings": {"application_name": "appfn", "idle_in_transaction_session_timeout": "30000"},
        },
    )
    return Database(engine, engine.execution_options(isolation_level="AUTOCOMMIT"))


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _make_file(path: Path) -> None:
    """Create the file, readable for us alone: it holds payloads; SQLite gives its companions the same mode.

    Its journal mode is set here already, by one process after the other: where several that start together change it
    at once, SQLite does not let one wait for the other as it does everywhere else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(pragmas.WRITE_AHEAD)
    except sqlite3.OperationalError as error:
        raise TransientError(f"the database does not answer: {_brief(error)}") from error
    finally:
        os.close(descriptor)


def _configure_writer(connection: Any, _record: object) -> None:
    # The driver's own transaction handling would begin late and without the write lock; see _begin_immediate.
    connection.isolation_level = None
    _run_pragmas(connection, pragmas.WRITER)


def _configure_reader(connection: Any, _record: object) -> None:
    _run_pragmas(connection, pragmas.READER)


def _run_pragmas(connection: Any, pragmas: tuple[str, ...]) -> None:
    cursor = connection.cursor()
    for pragma in pragmas:
        cursor.execute(pragma)
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    # With a plain BEGIN, a transaction that reads first cannot wait for another process's write: it fails.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
