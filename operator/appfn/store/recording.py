"""How executions come in that have ended already: the record of a sync call, which nobody waits for.

The statements of a batch need no answers, so that all of them go to the database at once: a commit costs the event
loop little more than its rows. What the batch adds to counts and usage the database finds out itself, by the number of
the commit, which no other row has yet.
"""

from collections.abc import Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Dialect, select

from appfn.core.records import ExecutionRecord
from appfn.store.bulk import insert
from appfn.store.rows import clean, clean_texts, fit_request, fit_texts, reader_of
from appfn.store.schema import EXECUTIONS, FEED, microseconds
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
COLUMNS: Final = tuple(each.name for each in EXECUTIONS.c if each.name not in {"sequence", "worker", "lease_until"})
"""What of an execution that has ended is given to the database."""


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


def row(record: ExecutionRecord) -> tuple[Any, ...]:
    """Return an execution that has ended as both drivers take it, in the order of COLUMNS.

    As `row_of_record`, which says the same by name, but for thousands a second.
    """
    outcome, request = record.outcome, fit_request(record.request)
    assert outcome is not None
    response, stdout, stderr = fit_texts(outcome)
    permissions, failure, headers = request.permissions, outcome.failure, request.headers
    created, updated, finished = microseconds(record.created_at), microseconds(record.updated_at), record.finished_at
    return (
        request.id,
        request.namespace,
        request.function,
        request.function_uid,
        str(request.origin),
        str(request.trigger),
        str(outcome.phase),
        outcome.status_code,
        record.attempt,
        request.max_attempts,
        created,
        updated,
        created,
        request.scheduled_at and microseconds(request.scheduled_at),
        record.started_at and microseconds(record.started_at),
        updated if finished is None or finished is record.updated_at else microseconds(finished),
        clean(record.deployment),
        request.user_id,
        reader_of(permissions) if permissions else "",
        request.event,
        request.path,
        request.method,
        request.idempotency_key,
        request.body_hash,
        outcome.duration,
        outcome.cold_start,
        _json(outcome.times.to_json()),
        None if failure is None else _json(clean_texts(failure.to_json())),
        _json(permissions) if permissions else "[]",
        _json(clean_texts(headers)) if headers else "{}",
        request.replay_of,
        record.memory_mb,
        "",  # its JWT is of no more use
        request.data,
        request.event_data,
        stdout,
        stderr,
        response,
    )


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def script(stored: Sequence[tuple[Any, ...]], dialect: Dialect) -> Script:
    """Return what stores records, given as their rows, in a transaction of its own; may be repeated.

    A record that is there already stays as it is, and one that was deleted meanwhile gone.
    """
    into = insert(dialect, EXECUTIONS, COLUMNS, sequence=_SEQUENCE)
    return [_NEXT_SEQUENCE, Statement(into, stored), _WITHOUT_DELETED, _COUNTS, _USAGE]
