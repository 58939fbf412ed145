"""SQLite's driver with one visit to its thread for each statement.

SQLAlchemy's adapter makes four: to open a cursor, to execute, to fetch and to close. Each is two switches between
threads and two of the interpreter's lock, which on a busy machine take far longer than the statement.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple, TypeAlias, cast

import aiosqlite
from sqlalchemy.connectors.asyncio import AsyncIODBAPIConnection, AsyncIODBAPICursor
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)

_Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]


class _Result(NamedTuple):
    """All that a statement brought."""

    description: Any = None
    rowcount: int = -1
    lastrowid: int | None = None
    rows: Sequence[Any] = ()


class _Cursor:
    """What the adapter asks of a driver's cursor; its rows are here as soon as it has executed."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._result = _Result()
        self.arraysize = 1

    @property
    def description(self) -> Any:
        return self._result.description

    @property
    def rowcount(self) -> int:
        return self._result.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._result.lastrowid

    async def execute(self, operation: str, parameters: _Parameters = ()) -> None:
        await self._visit(operation, parameters, many=False)

    async def executemany(self, operation: str, parameters: Sequence[_Parameters]) -> None:
        await self._visit(operation, parameters, many=True)

    async def fetchall(self) -> Sequence[Any]:
        return self._result.rows

    async def close(self) -> None:
        """Do nothing: the cursor in the thread is closed already."""

    async def _visit(self, operation: str, parameters: Any, *, many: bool) -> None:
        # The driver has no public way to run a function of ours in its thread; SQLAlchemy takes this one too.
        raw = self._connection._conn  # noqa: SLF001
        visit = partial(_executed, raw, operation=operation, parameters=parameters, many=many)
        self._result = await self._connection._execute(visit)  # type: ignore[no-untyped-call]  # noqa: SLF001


def _executed(connection: sqlite3.Connection, operation: str, parameters: Any, *, many: bool) -> _Result:
    with closing(connection.cursor()) as cursor:
        if many:
            cursor.executemany(operation, parameters)
        else:
            cursor.execute(operation, parameters)
        rows = cursor.fetchall() if cursor.description else ()
        return _Result(cursor.description, cursor.rowcount, cursor.lastrowid, rows)


class _AdaptedCursor(AsyncAdapt_aiosqlite_cursor):
    __slots__ = ()

    def _make_new_cursor(self, connection: AsyncIODBAPIConnection) -> AsyncIODBAPICursor:
        return cast("AsyncIODBAPICursor", _Cursor(cast("aiosqlite.Connection", connection)))

    def _aenter_cursor(self, cursor: AsyncIODBAPICursor) -> AsyncIODBAPICursor:
        return cursor


class _AdaptedConnection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ()

    _cursor_cls = _AdaptedCursor


class Driver(AsyncAdapt_aiosqlite_dbapi):
    """What `create_async_engine` takes as `module`."""

    def __init__(self) -> None:
        super().__init__(aiosqlite, sqlite3)

    def connect(self, *arguments: Any, **settings: Any) -> AsyncAdapt_aiosqlite_connection:
        """See PEP 249."""
        return _AdaptedConnection(self, super().connect(*arguments, **settings).driver_connection)
