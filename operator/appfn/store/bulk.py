"""Many rows of one table in few statements, with what SQLAlchemy works out for each row worked out once.

The driver of SQLite takes the interpreter's lock back after each statement. An event loop that is busy gives the lock
away every 5 ms only: with a statement a row, a batch of 500 takes seconds. So rows go in by the dozen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import JSON, Boolean, ColumnElement, Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from appfn.store.rows import Row
from appfn.store.schema import Instant, microseconds
from appfn.store.script import Script, Statement

_SIZES = (128, 16, 1)
"""Rows of one statement on SQLite: few sizes, so that statements are prepared once."""
_UNLESS_THERE = " ON CONFLICT DO NOTHING"

_EMPTY: Mapping[type, str | None] = {type(None): None, list: "[]", dict: "{}"}


@dataclass(frozen=True, slots=True)
class Insert:
    """What inserts rows of the same columns, those with a default among them, unless they are there."""

    dialect: str
    head: str
    """INSERT INTO … VALUES."""
    group: str
    """One row's parameters."""
    values: Callable[[Row], tuple[Any, ...]]
    """Picks the columns in the order of the parameters."""
    converters: Sequence[tuple[int, Callable[[Any], Any]]]
    """What turns values into the driver's, by place; most are there as they are."""

    def parameters(self, row: Row) -> tuple[Any, ...]:
        """Return a row as the driver takes it."""
        values = list(self.values(row))
        for place, into in self.converters:
            values[place] = into(values[place])
        return tuple(values)

    def script(self, rows: Sequence[tuple[Any, ...]]) -> Script:
        """Return what inserts rows, given as their parameters."""
        if self.dialect != "sqlite":  # asyncpg sends all of them before it waits
            return [Statement(self._statement(1), rows)]
        script, start = [], 0
        for size in _SIZES:
            end = len(rows) - (len(rows) - start) % size
            parts = [tuple(chain.from_iterable(rows[at : at + size])) for at in range(start, end, size)]
            if parts:
                script.append(Statement(self._statement(size), parts))
            start = end
        return script

    def _statement(self, rows: int) -> str:
        return self.head + self.group + f", {self.group}" * (rows - 1) + _UNLESS_THERE


@lru_cache(maxsize=16)
def insert(dialect: Dialect, table: Table, columns: tuple[str, ...], *, sequence: ColumnElement[int]) -> Insert:
    """Return what inserts rows that have these columns; the database finds the column `sequence` itself."""
    into = insert_into(dialect.name, table)
    statement = into.values({**dict.fromkeys(columns), "sequence": sequence}).on_conflict_do_nothing()
    compiled = statement.compile(dialect=dialect)
    order = compiled.positiontup
    assert order is not None, "both drivers take parameters by position"
    head, values, group = str(compiled).removesuffix(_UNLESS_THERE).partition(" VALUES ")
    converters = [
        (place, found) for place, name in enumerate(order) if (found := _converter(table.c[name].type, dialect))
    ]
    return Insert(dialect.name, head + values, group, itemgetter(*order), converters)


def insert_into(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that knows ON CONFLICT, of a dialect by its name."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


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
