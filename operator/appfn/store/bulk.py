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
from sqlalchemy import JSON, Boolean, Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from appfn.store.rows import Row
from appfn.store.schema import Instant, microseconds
from appfn.store.script import Script, Statement

_SIZES = (128, 16, 1)
"""Rows of one statement on SQLite: few sizes, so that statements are prepared once."""
_UPSERT = " ON CONFLICT DO NOTHING"

_EMPTY: Mapping[type, str | None] = {type(None): None, list: "[]", dict: "{}"}


@dataclass(frozen=True, slots=True)
class _Insert:
    head: str
    """INSERT INTO … VALUES."""
    group: str
    """One row's parameters."""
    values: Callable[[Row], tuple[Any, ...]]
    """Picks the columns in the order of the parameters."""
    converters: Sequence[tuple[int, Callable[[Any], Any]]]
    """What turns values into the driver's, by place; most are there as they are."""

    def parameters(self, row: Row) -> list[Any]:
        values = list(self.values(row))
        for place, into in self.converters:
            values[place] = into(values[place])
        return values

    def statement(self, rows: int) -> str:
        return self.head + self.group + f", {self.group}" * (rows - 1) + _UPSERT


def inserts(dialect: Dialect, table: Table, rows: Sequence[Row], *, computed: Mapping[str, Any]) -> Script:
    """Return what inserts rows that have the same columns, those with a default among them, unless they are there.

    `computed`: columns that the database finds itself, and how; what rows have of them is not looked at.
    """
    prepared = _prepared(
        dialect, table, tuple(name for name in rows[0] if name not in computed), tuple(computed.items())
    )
    values = [prepared.parameters(row) for row in rows]
    if dialect.name != "sqlite":  # asyncpg sends all of them before it waits
        return [Statement(prepared.statement(1), [tuple(each) for each in values])]
    script, start = [], 0
    for size in _SIZES:
        end = len(values) - (len(values) - start) % size
        parts = [tuple(chain.from_iterable(values[at : at + size])) for at in range(start, end, size)]
        if parts:
            script.append(Statement(prepared.statement(size), parts))
        start = end
    return script


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
def _prepared(
    dialect: Dialect, table: Table, columns: tuple[str, ...], computed: tuple[tuple[str, Any], ...]
) -> _Insert:
    insert = postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)
    statement = insert.values(dict.fromkeys(columns) | dict(computed)).on_conflict_do_nothing()
    compiled = statement.compile(dialect=dialect)
    order = compiled.positiontup
    assert order is not None, "both drivers take parameters by position"
    head, values, group = str(compiled).removesuffix(_UPSERT).partition(" VALUES ")
    into = {name: _converter(table.c[name].type, dialect) for name in columns}
    converters = [(place, found) for place, name in enumerate(order) if (found := into[name]) is not None]
    return _Insert(head + values, group, itemgetter(*order), converters)
