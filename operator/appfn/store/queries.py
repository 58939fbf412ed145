"""Reads. Each function runs its statements on a connection that is given to it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    and_,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
    text,
    true,
    type_coerce,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from appfn.api.execution import ExecutionPhase
from appfn.api.function import ExecutionCounts
from appfn.core.records import ExecutionRecord, Origin
from appfn.store.model import (
    MAX_TOTAL,
    Change,
    ChangePage,
    Comparison,
    CursorError,
    ExecutionPage,
    ExecutionQuery,
    Field,
    Filter,
    Tick,
    Usage,
)
from appfn.store.rows import clean, mappings, record_of
from appfn.store.schema import ALL_FUNCTIONS, COUNTS, EXECUTIONS, FEED, HAS_READER, IS_UNUSUAL, USAGE, Instant

_c = EXECUTIONS.c
_USUAL = 200
_TEXTS = ("data", "event_data", "response", "stdout", "stderr")
_FIELDS: Mapping[Field, ColumnElement[Any]] = {
    Field.PHASE: _c.phase,
    Field.TRIGGER: _c.trigger,
    Field.STATUS_CODE: _c.status_code,
    Field.DURATION: _c.duration,
    Field.CREATED_AT: _c.created_at,
    Field.UPDATED_AT: _c.updated_at,
    Field.ID: _c.id,
    Field.DEPLOYMENT: _c.deployment,
    Field.METHOD: _c.method,
    Field.PATH: _c.path,
}


async def get(connection: AsyncConnection, namespace: str, execution_id: str) -> ExecutionRecord | None:
    """See `ExecutionStore.get`."""
    statement = select(EXECUTIONS).where(_c.id == execution_id, _c.namespace == namespace)
    rows = mappings(await connection.execute(statement))
    return record_of(rows[0]) if rows else None


async def page(connection: AsyncConnection, query: ExecutionQuery) -> ExecutionPage:
    """See `ExecutionStore.list`."""
    # A page before a cursor is read backwards from it.
    descending = query.descending != (query.before is not None)
    cursor = query.before if query.after is None else query.after
    behind = None
    if cursor is not None:
        behind = await _behind(connection, query, clean(cursor), descending=descending)
    rows = mappings(await connection.execute(listing(query, descending=descending, behind=behind)))
    if query.before is not None:
        rows = rows[::-1]
    if not query.count:
        return ExecutionPage(tuple(record_of(row) for row in rows), 0)
    is_all = cursor is None and not query.offset and len(rows) < query.limit  # counted by having been read
    total = len(rows) if is_all else (await connection.execute(counting(query))).scalar_one()
    return ExecutionPage(tuple(record_of(row) for row in rows), total)


def listing(query: ExecutionQuery, *, descending: bool, behind: ColumnElement[bool] | None = None) -> Select[Any]:
    """Return the statement of a page, of what lies behind its cursor where it has one."""
    columns: list[ColumnElement[Any]] = [
        func.substr(column, 1, query.text_limit).label(column.name)
        if query.text_limit is not None and column.name in _TEXTS
        else column
        for column in EXECUTIONS.columns
    ]
    order = [column.desc() if descending else column.asc() for column in _ordering(query)]
    mine = _c.namespace == query.namespace
    found = and_(_matches(query), true() if behind is None else behind)
    if query.order is Field.CREATED_AT:
        return select(*columns).where(mine, found).order_by(*order).limit(query.limit).offset(query.offset)
    # All that match are sorted, but as ids and out of an index: see `counting` why without the namespace.
    page = select(_c.id).where(found).order_by(*order).limit(query.limit).offset(query.offset)
    return select(*columns).where(_c.id.in_(page), mine).order_by(*order)


def counting(query: ExecutionQuery) -> Select[int]:
    """Return the statement that counts all pages, as far as MAX_TOTAL.

    Without the namespace, which is no part of the indexes: thousands of rows would be read to check what a uid implies.
    """
    some = select(_c.id).where(_matches(query)).limit(MAX_TOTAL).subquery()
    return select(func.count()).select_from(some)


async def recent(
    connection: AsyncConnection,
    namespace: str,
    function_uid: str,
    *,
    limits: Mapping[ExecutionPhase, int],
    origins: Collection[Origin],
) -> Sequence[ExecutionRecord]:
    """See `ExecutionStore.recent`."""
    found: list[ExecutionRecord] = []
    for phase, limit in limits.items():
        if not limit:
            continue  # what only asks for the counts, as the operator does for each function, costs no more than that
        statement = (
            select(EXECUTIONS)
            .where(
                _c.function_uid == function_uid,
                _c.namespace == namespace,
                _c.phase == phase.value,
                _c.origin.in_(sorted(origins)),
            )
            .order_by(_c.created_at.desc(), _c.id.desc())
            .limit(limit)
        )
        found += [record_of(row) for row in mappings(await connection.execute(statement))]
    return sorted(found, key=attrgetter("created_at", "id"), reverse=True)


async def counts(connection: AsyncConnection, function_uid: str) -> ExecutionCounts:
    """See `ExecutionStore.counts`."""
    statement = select(COUNTS.c.total, COUNTS.c.completed, COUNTS.c.failed).where(COUNTS.c.function_uid == function_uid)
    rows = mappings(await connection.execute(statement))
    return ExecutionCounts(**rows[0]) if rows else ExecutionCounts()


async def functions(connection: AsyncConnection) -> set[str]:
    """See `ExecutionStore.functions`: whatever is accepted or recorded is counted, and the counts are purged last."""
    return set((await connection.execute(select(COUNTS.c.function_uid))).scalars())


async def ticks(connection: AsyncConnection, function_uid: str, *, since: datetime, limit: int) -> Sequence[Tick]:
    """See `ExecutionStore.ticks`."""
    statement = (
        select(_c.scheduled_at, _c.created_at)
        .where(_c.function_uid == function_uid, _c.scheduled_at >= since, _c.origin == Origin.SCHEDULE.value)
        .order_by(_c.scheduled_at)
        .limit(limit)
    )
    return [Tick(scheduled, created) for scheduled, created in await connection.execute(statement)]


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """See `ExecutionStore.usage`."""

    namespace: str
    since: datetime
    until: datetime
    step: timedelta
    function_uid: str | None


async def usage(connection: AsyncConnection, query: UsageQuery) -> Sequence[Usage]:
    """See `ExecutionStore.usage`."""
    u = USAGE.c
    step = query.step // timedelta(microseconds=1)
    start = type_coerce(type_coerce(u.hour, BigInteger) // step * step, Instant).label("start")
    # PostgreSQL's sum of big integers is a decimal number.
    sums = [cast(func.sum(column), BigInteger).label(column.name) for column in u if not column.primary_key]
    statement = select(start, *sums).where(
        u.namespace == query.namespace,
        u.function_uid == (query.function_uid or ALL_FUNCTIONS),
        u.hour >= query.since,
        u.hour < query.until,
    )
    rows = mappings(await connection.execute(statement.group_by(text("1")).order_by(text("1"))))
    return [Usage(**row) for row in rows]


async def feed_end(connection: AsyncConnection) -> int:
    """Return the number of the last commit in the feed."""
    return int((await connection.execute(select(FEED.c.sequence))).scalar_one())


_TOLD_APART = case((_c.origin == literal_column(f"'{Origin.RESOURCE}'"), _c.id), else_="").label("execution")
"""A busy function makes thousands of changes a second that all say the same, but for Executions to be looked at."""


async def changes(connection: AsyncConnection, after: int, *, limit: int) -> ChangePage:
    """See `ExecutionStore.changes`."""
    # The end first: a commit between the two reads is then in both or comes with the next page.
    end = await feed_end(connection)
    if after < 0 or after >= end:
        return ChangePage(end, ())
    behind = select(_c.sequence).where(_c.sequence > after).order_by(_c.sequence).limit(limit).subquery()
    last = select(func.max(behind.c.sequence)).scalar_subquery()
    same = _c.namespace, _c.function, _c.function_uid, _c.origin, _c.phase, _TOLD_APART
    newest = func.max(_c.sequence).label("sequence")
    statement = select(newest, *same).where(_c.sequence > after, _c.sequence <= last).group_by(*same).order_by(newest)
    found = tuple(
        Change(
            sequence=row.sequence,
            namespace=row.namespace,
            function=row.function,
            function_uid=row.function_uid,
            execution=row.execution,
            origin=Origin(row.origin),
            phase=ExecutionPhase(row.phase),
        )
        for row in await connection.execute(statement)
    )
    # Without any: what changed behind `after` is deleted, up to the end that was read first.
    return ChangePage(found[-1].sequence if found else end, found)


async def is_lease_over(connection: AsyncConnection, now: datetime) -> bool:
    """Tell whether a reap would find something."""
    return (await connection.execute(select(_c.id).where(_c.lease_until <= now).limit(1))).first() is not None


def _matches(query: ExecutionQuery) -> ColumnElement[bool]:
    conditions = [_c.function_uid == query.function_uid]
    if query.search:
        conditions.append(_c.id.contains(clean(query.search), autoescape=True))
    if query.reader is not None:
        conditions += [_c.reader == clean(query.reader), HAS_READER]
    return and_(*conditions, *map(_condition, query.filters))


def _condition(item: Filter) -> ColumnElement[bool]:
    column = _FIELDS[item.field]
    values = [clean(value) if isinstance(value, str) else value for value in item.values]
    value = values[0]
    match item.comparison:
        case Comparison.EQUAL if item.field is Field.STATUS_CODE and _USUAL not in values:
            return and_(column.in_(values), IS_UNUSUAL)  # so that the partial index can be used
        case Comparison.EQUAL:
            return column.in_(values)
        case Comparison.NOT_EQUAL:
            return column.not_in(values)
        case Comparison.LESS:
            return column < value
        case Comparison.LESS_EQUAL:
            return column <= value
        case Comparison.GREATER:
            return column > value
        case Comparison.GREATER_EQUAL:
            return column >= value


async def _behind(
    connection: AsyncConnection,
    query: ExecutionQuery,
    cursor: str,
    *,
    descending: bool,
) -> ColumnElement[bool]:
    columns = _ordering(query)
    statement = select(*columns).where(
        _c.id == cursor,
        _c.function_uid == query.function_uid,
        _c.namespace == query.namespace,
    )
    at = (await connection.execute(statement)).first()
    if at is None:
        raise CursorError(f"execution {cursor!r} does not exist")
    # Without the first comparison by itself SQLite would not begin in the index where the cursor is.
    first = columns[0] <= at[0] if descending else columns[0] >= at[0]
    return and_(first, _beyond(columns, at, descending=descending))


def _ordering(query: ExecutionQuery) -> tuple[ColumnElement[Any], ...]:
    """Return the columns that a list is ordered by, all in one direction."""
    made = (_c.created_at, _c.id)
    return made if query.order is Field.CREATED_AT else (_FIELDS[query.order], *made)


def _beyond(columns: Sequence[ColumnElement[Any]], at: Sequence[Any], *, descending: bool) -> ColumnElement[bool]:
    column, value = columns[0], at[0]
    further: ColumnElement[bool] = column < value if descending else column > value
    if len(columns) == 1:
        return further
    return or_(further, and_(column == value, _beyond(columns[1:], at[1:], descending=descending)))
