"""Many rows of one table in few statements, with what SQLAlchemy works out for each row worked out once.

The driver of SQLite runs each statement in a thread and takes the interpreter's lock back after it. An event loop that
is busy gives the lock away every 5 ms only: with a statement a row, a batch of 500 takes seconds, and the loop is
interrupted as often. So rows go in by the dozen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import orjson
from sqlalchemy import JSON, Boolean, Dialect, Table, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from appfn.store.rows import Row
from appfn.store.schema import Instant, microseconds

_SIZES = (128, 16, 1)
"""Rows of one statement on SQLite: few sizes, so that statements are prepared once."""


_EMPTY: Mapping[type, str | None] = {type(None): None, list: "[]", dict: "{}"}


@dataclass(frozen=True, slots=True)
class _Insert:
    head: str
    """INSERT INTO … VALUES, and one row's parameters."""
    group: str
    columns: tuple[tuple[str, Callable[[Any], Any] | None], ...]
    """In the order of the parameters, with what turns a value into the driver's."""

    def parameters(self, row: Row) -> tuple[Any, ...]:
        # A list comprehension: a generator costs twice as much, 37 times a row.
        return tuple([row[name] if into is None else into(row[name]) for name, into in self.columns])

    def statement(self, rows: int) -> str:
        return self.head + self.group + f", {self.group}" * (rows - 1)


async def insert_rows(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows that have the same columns, those with a default among them."""
    prepared = _prepared(connection.dialect, table, tuple(rows[0]))
    values = [prepared.parameters(row) for row in rows]
    if connection.dialect.name != "sqlite":  # asyncpg sends all of them before it waits
        await connection.exec_driver_sql(prepared.statement(1), values)
        return
    start = 0
    for size in _SIZES:
        end = len(values) - (len(values) - start) % size
        parts = [tuple(chain.from_iterable(values[at : at + size])) for at in range(start, end, size)]
        if parts:
            await connection.exec_driver_sql(prepared.statement(size), parts)
        start = end


def _converter(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """Return what turns a column's values into the driver's, without SQLAlchemy's detours where there are some."""
    match type_:
        case Instant():
            return microseconds
        case JSON():
            return _json
        case Boolean():
            return None  # both drivers know Python's
        case _:
            return type_.dialect_impl(dialect).bind_processor(dialect)


def _json(value: object) -> str | None:
    """Return a value as the databases hold it; most are None or empty."""
    if not value:
        return _EMPTY[type(value)]
    return orjson.dumps(value).decode()


@lru_cache(maxsize=16)
def _prepared(dialect: Dialect, table: Table, columns: tuple[str, ...]) -> _Insert:
    compiled = insert(table).values(dict.fromkeys(columns)).compile(dialect=dialect)
    order = compiled.positiontup
    assert order is not None, "both drivers take parameters by position"
    into = {name: _converter(table.c[name].type, dialect) for name in columns}
    head, values, group = str(compiled).partition(" VALUES ")
    return _Insert(head + values, group, tuple((name, into[name]) for name in order))
