"""Claiming: which of the waiting executions a worker gets, fair between functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice, zip_longest
from typing import Any, ClassVar, Self

from sqlalchemy import Select, and_, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from appfn.api.execution import ExecutionPhase
from appfn.core.records import ExecutionRecord
from appfn.store.commit import Operation, Transaction
from appfn.store.rows import mappings, record_of
from appfn.store.schema import EXECUTIONS, IS_CLAIMABLE, IS_SCHEDULED

MAX_CLAIM = 200
"""Executions of one claim; its query has as many branches, and SQLite allows 500."""
_MAX_PROMOTED = 500

_c = EXECUTIONS.c


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim got."""

    records: tuple[ExecutionRecord, ...] = ()
    last_function: str = ""
    """Uid of the function whose turn was last."""
    contended: bool = False
    """Another process took some of those that were chosen; there may be more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(Operation[Claimed]):
    """Lease waiting executions to a worker."""

    worker: str
    limit: int
    lease_seconds: float
    after: str = ""
    """Uid of the function whose turn was last: the next one begins."""
    free: Mapping[str, int] = field(default_factory=dict)

    changes_phase: ClassVar[bool] = False

    @classmethod
    async def apply(cls, tx: Transaction, operations: Sequence[Self]) -> Sequence[Claimed]:
        """See `Operation`. A claim whose acknowledgement was lost ends with its lease."""
        return [await _claim(operation, tx) for operation in operations]


@dataclass(frozen=True, slots=True)
class Promote(Operation[int]):
    """Let executions wait for their turn whose own time has come."""

    @classmethod
    async def apply(cls, tx: Transaction, operations: Sequence[Self]) -> Sequence[int]:
        """See `Operation`; the first of several promotes all."""
        due = select(_c.id).where(_is_due(tx.now)).order_by(_c.available_at, _c.id).limit(_MAX_PROMOTED)
        ids = (await tx.connection.execute(due)).scalars().all()
        if ids:
            waiting = {"phase": ExecutionPhase.WAITING.value, "updated_at": tx.now, "sequence": tx.sequence}
            await tx.connection.execute(update(EXECUTIONS).where(_c.id.in_(ids)).values(waiting))
            tx.queued = True
        return [len(ids), *[0] * (len(operations) - 1)]


async def look(connection: AsyncConnection, now: datetime) -> tuple[bool, bool]:
    """Tell whether a claim could find something, and whether there is anything to promote."""
    claimable, due = select(_c.id).where(_ready(now)).exists(), select(_c.id).where(_is_due(now)).exists()
    found = (await connection.execute(select(claimable, due))).one()
    return bool(found[0]), bool(found[1])


def in_turn(functions: Sequence[str], *, after: str) -> list[str]:
    """Return sorted functions beginning with the one that follows `after`."""
    return [uid for uid in functions if uid > after] + [uid for uid in functions if uid <= after]


def alternate(waiting: Mapping[str, Sequence[str]], *, limit: int) -> list[str]:
    """Return up to `limit` executions: the first of each function, then the second of each, and so on."""
    rounds = zip_longest(*waiting.values())
    return list(islice((key for turn in rounds for key in turn if key is not None), limit))


async def _functions(connection: AsyncConnection, now: datetime) -> list[str]:
    """Return the uids of functions with something to claim, sorted: one step in the index for each."""
    first = select(_next_function(now).scalar_subquery().label("uid"))
    found = first.cte("found", recursive=True)
    following = _next_function(now).where(_c.function_uid > found.c.uid).scalar_subquery()
    found = found.union_all(select(following).where(found.c.uid.is_not(None)))
    return list((await connection.execute(select(found.c.uid).where(found.c.uid.is_not(None)))).scalars())


def _next_function(now: datetime) -> Select[Any]:
    return select(_c.function_uid).where(_ready(now)).order_by(_c.function_uid).limit(1)


async def _heads(tx: Transaction, depths: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the ids of each function's first executions, so many of each, functions in the order given."""
    branches = [
        select(
            select(_c.function_uid, _c.available_at, _c.id)
            .where(_c.function_uid == uid, _ready(tx.now))
            .order_by(_c.available_at, _c.id)
            .limit(depth)
            .subquery(),
        )
        for uid, depth in depths.items()
    ]
    heads: dict[str, list[str]] = {uid: [] for uid in depths}
    rows = await tx.connection.execute(union_all(*branches))
    for uid, _, key in sorted(rows, key=lambda row: (row.available_at, row.id)):
        heads[uid].append(key)
    return heads


def _ready(now: datetime) -> Any:
    return and_(IS_CLAIMABLE, _c.available_at <= now)


def _is_due(now: datetime) -> Any:
    return and_(IS_SCHEDULED, _c.available_at <= now)


async def _claim(operation: Claim, tx: Transaction) -> Claimed:
    functions = in_turn(await _functions(tx.connection, tx.now), after=operation.after)
    served = [uid for uid in functions if operation.free.get(uid, 1) > 0][: operation.limit]
    if not served:
        return Claimed()
    depth = 1 if len(served) == operation.limit else operation.limit
    depths = {uid: min(depth, operation.free.get(uid, depth)) for uid in served}
    chosen = alternate(await _heads(tx, depths), limit=operation.limit)
    records = await _take(operation, tx, chosen)
    last = records[-1].request.function_uid if records else served[-1]
    return Claimed(tuple(records), last, contended=len(records) < len(chosen))


async def _take(operation: Claim, tx: Transaction, chosen: Sequence[str]) -> list[ExecutionRecord]:
    # The condition again: whoever had a row locked a moment ago may have changed it since it was chosen.
    statement = select(EXECUTIONS).where(_c.id.in_(chosen), IS_CLAIMABLE).with_for_update(skip_locked=True)
    rows = {row["id"]: row for row in mappings(await tx.connection.execute(statement))}
    if rows:
        until = tx.now + timedelta(seconds=operation.lease_seconds)
        taken = update(EXECUTIONS).where(_c.id.in_(rows)).values(worker=operation.worker, lease_until=until)
        await tx.connection.execute(taken)
    return [record_of(rows[key], secrets=True) for key in chosen if key in rows]
