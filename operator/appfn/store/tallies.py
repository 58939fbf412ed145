"""Counts since a function was made, and its usage by the hour: added to in the transaction of what they count."""

from collections import defaultdict
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import lru_cache
from typing import Any, Self

from sqlalchemy import Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from appfn.api.execution import ExecutionPhase
from appfn.store.bulk import insert_into
from appfn.store.commit import Transaction
from appfn.store.model import EndedBuild
from appfn.store.schema import ALL_FUNCTIONS, COUNTS, USAGE


@dataclass(slots=True)
class _Count:
    total: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(slots=True)
class _Usage:
    completed: int = 0
    failed: int = 0
    compute_ms: int = 0
    compute_mb_ms: int = 0
    builds_ready: int = 0
    builds_failed: int = 0
    build_ms: int = 0
    build_mb_ms: int = 0

    def add(self, other: Self) -> None:
        """Add what another has."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))


class Tallies:
    """What one transaction adds."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, _Count] = defaultdict(_Count)
        self._usage: defaultdict[tuple[str, str, datetime], _Usage] = defaultdict(_Usage)

    def accepted(self, function_uid: str) -> None:
        """Count one more execution."""
        self._counts[function_uid].total += 1

    def ended(
        self,
        namespace: str,
        function_uid: str,
        *,
        phase: ExecutionPhase,
        at: datetime,
        duration: float,
        memory_mb: int,
    ) -> None:
        """Count the end of an execution whose function ran `duration` seconds in pods of `memory_mb` MiB."""
        usage = self._usage[namespace, function_uid, hour_of(at)]
        milliseconds = round(duration * 1000)
        usage.compute_ms += milliseconds
        usage.compute_mb_ms += milliseconds * memory_mb
        for tally in (self._counts[function_uid], usage):
            if phase is ExecutionPhase.COMPLETED:
                tally.completed += 1
            else:
                tally.failed += 1

    def built(self, build: EndedBuild) -> None:
        """Count the end of a build."""
        usage = self._usage[build.namespace, build.function_uid, hour_of(build.ended_at)]
        milliseconds = round(build.seconds * 1000)
        usage.build_ms += milliseconds
        usage.build_mb_ms += milliseconds * build.memory_mb
        usage.builds_ready += build.ready
        usage.builds_failed += not build.ready

    async def write(self, tx: Transaction) -> None:
        """Add it all; needs the feed's lock, which keeps transactions from waiting for each other crosswise."""
        assert tx.sequence
        counts = [
            {"function_uid": uid, "total": count.total, "completed": count.completed, "failed": count.failed}
            for uid, count in self._counts.items()
        ]
        for (namespace, _, hour), used in list(self._usage.items()):
            self._usage[namespace, ALL_FUNCTIONS, hour].add(used)
        usage = [
            {"namespace": namespace, "function_uid": uid, "hour": hour} | asdict(used)
            for (namespace, uid, hour), used in self._usage.items()
        ]
        await _add(tx, COUNTS, counts)
        await _add(tx, USAGE, usage)


async def forget_usage(tx: Transaction, function_uid: str) -> None:
    """Delete what a function used, and take it from what all functions did; needs the feed's lock."""
    mine = USAGE.c.function_uid == function_uid
    rows = (await tx.connection.execute(select(USAGE).where(mine))).mappings().all()
    less = [{name: -value if isinstance(value, int) else value for name, value in row.items()} for row in rows]
    await _add(tx, USAGE, [row | {"function_uid": ALL_FUNCTIONS} for row in less])
    await tx.connection.execute(delete(USAGE).where(mine))
    nothing = [column == 0 for column in USAGE.c if not column.primary_key]
    places = {row["namespace"] for row in rows}
    await tx.connection.execute(
        delete(USAGE).where(USAGE.c.function_uid == ALL_FUNCTIONS, USAGE.c.namespace.in_(places), *nothing)
    )


def hour_of(moment: datetime) -> datetime:
    """Return the start of the hour that a moment is in."""
    return moment.replace(minute=0, second=0, microsecond=0)


async def _add(tx: Transaction, table: Table, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    await tx.connection.execute(_adding(tx.connection.dialect.name, table), rows)


@lru_cache(maxsize=4)  # each transaction has one for each table
def _adding(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    statement = insert_into(dialect, table)
    added = {
        column.name: column + statement.excluded[column.name] for column in table.columns if not column.primary_key
    }
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=added)


def upsert(tx: Transaction, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT of the transaction's dialect, to be completed by `on_conflict_do_update`."""
    return insert_into(tx.connection.dialect.name, table)
