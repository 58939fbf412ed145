"""Deleting: what is old enough, and all that belonged to a function."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Self

from sqlalchemy import Column, ColumnElement, Table, and_, delete, exists, select, tuple_

from appfn.api.execution import ExecutionPhase
from appfn.store.commit import Operation, Transaction
from appfn.store.model import KEY_LIFETIME, Deletion
from appfn.store.rows import Stored, mappings
from appfn.store.schema import BUILDS, COUNTS, DELETED, EXECUTIONS, IDEMPOTENCY, USAGE
from appfn.store.tallies import forget_usage, upsert

USAGE_KEPT = timedelta(days=100)
"""The longest range of usage that can be asked for is 90 days."""

_c = EXECUTIONS.c


@dataclass(frozen=True, slots=True)
class Delete(Operation[Deletion]):
    """Delete one execution that nothing is done about."""

    namespace: str
    function_uid: str
    execution_id: str

    @classmethod
    async def apply(cls, tx: Transaction, operations: Sequence[Self]) -> Sequence[Deletion]:
        """See `Operation`. The feed's lock keeps it apart from what would begin the execution meanwhile."""
        ids = {operation.execution_id for operation in operations}
        statement = select(_c.id, _c.namespace, _c.function_uid, _c.phase).where(_c.id.in_(ids))
        found = {row["id"]: row for row in mappings(await tx.connection.execute(statement))}
        answers = [_deletion(found.pop(item.execution_id, None), item) for item in operations]
        gone = {item.execution_id for item, answer in zip(operations, answers, strict=True) if answer is Deletion.DONE}
        if gone:
            await tx.connection.execute(delete(EXECUTIONS).where(_c.id.in_(gone)))
            remembered = [{"id": id_, "expires_at": tx.now + KEY_LIFETIME} for id_ in sorted(gone)]
            await tx.connection.execute(upsert(tx, DELETED).on_conflict_do_nothing(), remembered)
        return answers


@dataclass(frozen=True, slots=True)
class DeleteFinished(Operation[int]):
    """Delete executions that finished long ago, expired keys and old usage."""

    before: datetime
    batch: int

    changes_phase: ClassVar[bool] = False

    @classmethod
    async def apply(cls, tx: Transaction, operations: Sequence[Self]) -> Sequence[int]:
        """See `Operation`."""
        return [await _delete(operation, tx) for operation in operations]


@dataclass(frozen=True, slots=True)
class Purge(Operation[int]):
    """Delete a batch of a function's executions, and with the last of them all else that is known of it."""

    function_uid: str
    batch: int

    @classmethod
    async def apply(cls, tx: Transaction, operations: Sequence[Self]) -> Sequence[int]:
        """See `Operation`. The feed's lock keeps it apart from what adds to the counts."""
        return [await _purge(operation, tx) for operation in operations]


def _deletion(state: Stored | None, operation: Delete) -> Deletion:
    asked = (operation.namespace, operation.function_uid)
    if state is None or (state["namespace"], state["function_uid"]) != asked:
        return Deletion.MISSING
    phase = ExecutionPhase(state["phase"])
    return Deletion.DONE if phase.terminal or phase is ExecutionPhase.SCHEDULED else Deletion.IN_PROGRESS


async def _delete(operation: DeleteFinished, tx: Transaction) -> int:
    key = IDEMPOTENCY.c
    still_promised = exists().where(
        and_(
            key.namespace == _c.namespace,
            key.key == _c.idempotency_key,
            key.execution_id == _c.id,
            key.expires_at > tx.now,
        ),
    )
    deleted = (
        await _delete_some(tx, _c.finished_at, operation.batch, _c.finished_at < operation.before, ~still_promised),
        await _delete_some(tx, key.expires_at, operation.batch, key.expires_at <= tx.now),
        await _delete_some(tx, USAGE.c.hour, operation.batch, USAGE.c.hour < tx.now - USAGE_KEPT),
        await _delete_some(tx, BUILDS.c.hour, operation.batch, BUILDS.c.hour < tx.now - USAGE_KEPT),
        await _delete_some(tx, DELETED.c.expires_at, operation.batch, DELETED.c.expires_at <= tx.now),
    )
    return max(deleted)


async def _delete_some(
    tx: Transaction,
    age: Column[datetime],
    batch: int,
    *conditions: ColumnElement[bool],
) -> int:
    """Delete the oldest rows of the column's table that meet the conditions; return how many."""
    table = age.table
    assert isinstance(table, Table)
    identity = tuple_(*table.primary_key)
    # On PostgreSQL, replicas that do this at the same time take different rows.
    oldest = select(*table.primary_key).where(*conditions).order_by(age).limit(batch)
    locked = oldest.with_for_update(skip_locked=True, of=table)
    return (await tx.connection.execute(delete(table).where(identity.in_(locked)))).rowcount


async def _purge(operation: Purge, tx: Transaction) -> int:
    some = select(_c.id).where(_c.function_uid == operation.function_uid).limit(operation.batch)
    deleted = (await tx.connection.execute(delete(EXECUTIONS).where(_c.id.in_(some)))).rowcount
    if deleted < operation.batch:
        await forget_usage(tx, operation.function_uid)
        for table in (IDEMPOTENCY, COUNTS):
            await tx.connection.execute(delete(table).where(table.c.function_uid == operation.function_uid))
    return deleted
