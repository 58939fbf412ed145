"""Deleting: what is old enough, and all that belonged to a function."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Self

from sqlalchemy import and_, delete, exists, select

from appfn.store.commit import Operation, Transaction
from appfn.store.schema import COUNTS, EXECUTIONS, IDEMPOTENCY, USAGE

_USAGE_KEPT = timedelta(days=100)
"""The longest range of usage that can be asked for is 90 days."""

_c = EXECUTIONS.c


@dataclass(frozen=True, slots=True)
class DeleteFinished(Operation[int]):
    """Delete executions that finished long ago, expired keys and old usage."""

    before: datetime
    batch: int

    changes_phase: ClassVar[bool] = False

    @classmethod
    async def apply(cls, tx: Transaction, operations: Sequence[Self]) -> Sequence[int]:
        """See `Operation`."""
        deleted = [await _delete(operation, tx) for operation in operations]
        await tx.connection.execute(delete(IDEMPOTENCY).where(IDEMPOTENCY.c.expires_at <= tx.now))
        await tx.connection.execute(delete(USAGE).where(USAGE.c.hour < tx.now - _USAGE_KEPT))
        return deleted


@dataclass(frozen=True, slots=True)
class Purge(Operation[int]):
    """Delete a batch of a function's executions, and with the last of them all else that is known of it."""

    function_uid: str
    batch: int

    @classmethod
    async def apply(cls, tx: Transaction, operations: Sequence[Self]) -> Sequence[int]:
        """See `Operation`. The feed's lock keeps it apart from what adds to the counts."""
        return [await _purge(operation, tx) for operation in operations]


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
    old = (
        select(_c.id)
        .where(_c.finished_at < operation.before, ~still_promised)
        .order_by(_c.finished_at)
        .limit(operation.batch)
        # On PostgreSQL, replicas that do this at the same time take different ones.
        .with_for_update(skip_locked=True, of=EXECUTIONS)
    )
    result = await tx.connection.execute(delete(EXECUTIONS).where(_c.id.in_(old)).returning(_c.id))
    return len(result.all())


async def _purge(operation: Purge, tx: Transaction) -> int:
    some = select(_c.id).where(_c.function_uid == operation.function_uid).limit(operation.batch)
    result = await tx.connection.execute(delete(EXECUTIONS).where(_c.id.in_(some)).returning(_c.id))
    deleted = len(result.all())
    if deleted < operation.batch:
        for table in (IDEMPOTENCY, COUNTS, USAGE):
            await tx.connection.execute(delete(table).where(table.c.function_uid == operation.function_uid))
    return deleted
