"""Many rows of one table in one statement, with what SQLAlchemy works out for each row worked out once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Dialect, Table, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from appfn.store.rows import Row

_Processor = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Insert:
    sql: str
    columns: tuple[tuple[str, _Processor | None], ...]
    """In the order of the statement's parameters, with what turns a value into the driver's."""

    def parameters(self, row: Row) -> tuple[Any, ...]:
        return tuple([row[name] if into is None else into(row[name]) for name, into in self.columns])


async def insert_rows(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows that have the same columns, those with a default among them."""
    statement = _compiled(connection.dialect, table, tuple(rows[0]))
    await connection.exec_driver_sql(statement.sql, [statement.parameters(row) for row in rows])


@lru_cache(maxsize=16)
def _compiled(dialect: Dialect, table: Table, columns: tuple[str, ...]) -> _Insert:
    compiled = insert(table).values(dict.fromkeys(columns)).compile(dialect=dialect)
    order = compiled.positiontup
    assert order is not None, "both drivers take parameters by position"
    into = {name: table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in columns}
    return _Insert(str(compiled), tuple((name, into[name]) for name in order))
