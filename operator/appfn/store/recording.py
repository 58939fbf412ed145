"""How executions come in that have ended already: the record of a sync call, which nobody waits for.

The statements of a batch need no answers, so that all of them go to the database at once: a commit costs the event
loop little more than its rows. What the batch adds to counts and usage the database finds out itself, by the number of
the commit, which no other row has yet.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Dialect, select

from appfn.core.records import ExecutionRecord
from appfn.store.bulk import Insert, insert
from appfn.store.rows import row_of_record
from appfn.store.schema import EXECUTIONS, FEED
from appfn.store.script import Script, Statement

_OVERHEAD = 1024
"""Bytes of a record besides its long texts, roughly."""
_HOUR = 3_600_000_000
"""In microseconds."""
_NEXT_SEQUENCE = Statement("UPDATE feed SET sequence = sequence + 1")
_NEW = "sequence = (SELECT sequence FROM feed)"
_WITHOUT_DELETED = Statement(
    f"DELETE FROM executions WHERE {_NEW} AND EXISTS (SELECT 1 FROM deleted WHERE deleted.id = executions.id)"  # noqa: S608 - all of it is ours
)
_COMPLETED = "SUM(CASE phase WHEN 'completed' THEN 1 ELSE 0 END)"
_FAILED = "SUM(CASE phase WHEN 'completed' THEN 0 ELSE 1 END)"
_COUNTS = Statement(
    f"""
    INSERT INTO counts (function_uid, total, completed, failed)
    SELECT function_uid, COUNT(*), {_COMPLETED}, {_FAILED} FROM executions WHERE {_NEW} GROUP BY function_uid
    ON CONFLICT (function_uid) DO UPDATE SET
        total = counts.total + excluded.total,
        completed = counts.completed + excluded.completed,
        failed = counts.failed + excluded.failed
    """  # noqa: S608 - all of it is ours
)
_MILLISECONDS = "CAST(ROUND(duration * 1000) AS BIGINT)"
_USED = f"{_COMPLETED}, {_FAILED}, SUM({_MILLISECONDS}), SUM({_MILLISECONDS} * memory_mb)"
_AT = f"finished_at - finished_at % {_HOUR}"
_USAGE = Statement(
    f"""
    INSERT INTO usage (namespace, function_uid, hour, completed, failed, compute_ms, compute_mb_ms)
    SELECT namespace, function_uid, {_AT}, {_USED} FROM executions WHERE {_NEW} GROUP BY 1, 2, 3
    UNION ALL
    SELECT namespace, '', {_AT}, {_USED} FROM executions WHERE {_NEW} GROUP BY 1, 2, 3
    ON CONFLICT (namespace, function_uid, hour) DO UPDATE SET
        completed = usage.completed + excluded.completed,
        failed = usage.failed + excluded.failed,
        compute_ms = usage.compute_ms + excluded.compute_ms,
        compute_mb_ms = usage.compute_mb_ms + excluded.compute_mb_ms
    """  # noqa: S608 - all of it is ours
)
_SEQUENCE = select(FEED.c.sequence).scalar_subquery()
_COLUMNS = tuple(column.name for column in EXECUTIONS.c if column.name not in {"sequence", "worker", "lease_until"})


class Record:
    """An execution that has ended and never waited; `key` is its id, `size` the bytes it holds, roughly."""

    __slots__ = ("key", "record", "size")

    def __init__(self, record: ExecutionRecord) -> None:
        outcome, request = record.outcome, record.request
        assert outcome is not None
        self.record = record
        self.key = request.id
        texts = len(outcome.response) + len(outcome.stdout) + len(outcome.stderr)
        self.size = _OVERHEAD + texts + len(request.data) + len(request.event_data)


def rows(records: Iterable[Record], dialect: Dialect) -> list[tuple[Any, ...]]:
    """Return the rows of records, as the driver takes them."""
    into = _into(dialect)
    return [into.parameters(row_of_record(each.record, sequence=0)) for each in records]


def script(stored: Sequence[tuple[Any, ...]], dialect: Dialect) -> Script:
    """Return what stores `rows` of records, in a transaction of its own; may be repeated.

    A record that is there already stays as it is, and one that was deleted meanwhile gone.
    """
    return [_NEXT_SEQUENCE, *_into(dialect).script(stored), _WITHOUT_DELETED, _COUNTS, _USAGE]


def _into(dialect: Dialect) -> Insert:
    return insert(dialect, EXECUTIONS, _COLUMNS, sequence=_SEQUENCE)
