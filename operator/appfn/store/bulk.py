"""Many rows of one table in few statements, with what SQLAlchemy works out for each row worked out once.

The driver of SQLite runs each statement in a thread and takes the interpreter's lock back after it. An event loop that
is busy gives the lock away every 5 ms only: with a statement a row, a batch of 500 takes seconds, and the loop is
interrupted as often. So rows go in by the dozen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Dialect, Table, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from appfn.store.rows import Row

_SIZES = (128, 16, 1)
"""Rows of one statement on SQLite: few sizes, so that statements are prepared once."""


@dataclass(frozen=True, slots=True)
class _Insert:
    head: str
    """INSERT INTO … VALUES, and one row's parameters."""
    group: str
    columns: tuple[tuple[str, Callable[[Any], Any] | None], ...]
    """In the order of the parameters, with what turns a value into the driver's."""

    def parameters(self, row: Row) -> tuple[Any, ...]:
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


@lru_cache(maxsize=16)
def _prepared(dialect: Dialect, table: Table, columns: tuple[str, ...]) -> _Insert:
    compiled = insert(table).values(dict.fromkeys(columns)).compile(dialect=dialect)
    order = compiled.positiontup
    assert order is not None, "both drivers take parameters by position"
    into = {name: table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in columns}
    head, values, group = str(compiled).partition(" VALUES ")
    return _Insert(head + values, group, tuple((name, into[name]) for name in order))
