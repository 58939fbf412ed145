"""How executions come in that are still to be run."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from sqlalchemy import Select, func, insert, select, tuple_

from appfn.api.execution import ExecutionPhase
from appfn.core.records import ExecutionRecord, ExecutionRequest
from appfn.errors import AppfnError, IdempotencyError, QueueFullError
from appfn.store.commit import Operation, Transaction
from appfn.store.model import KEY_LIFETIME
from appfn.store.rows import Row, Stored, clean, mappings, record_of, row_of_request
from appfn.store.schema import DELETED, EXECUTIONS, IDEMPOTENCY, IS_SCHEDULED, IS_WAITING
from appfn.store.tallies import Tallies, upsert

_RETRY_AFTER = 1.0

_c = EXECUTIONS.c


@dataclass(frozen=True, slots=True)
class Accept(Operation[tuple[ExecutionRecord, bool]]):
    """Store an execution to be run."""

    request: ExecutionRequest
    queue_limit: int

    @classmethod
    async def apply(
        cls,
        tx: Transaction,
        operations: Sequence[Self],
    ) -> Sequence[tuple[ExecutionRecord, bool] | AppfnError]:
        """See `Operation`. The feed's lock makes it exact: nobody else accepts between the looks and the writes."""
        requests = [operation.request for operation in operations]
        keys = await _keys(tx, requests)
        ids = {clean(request.id) for request in requests} | {key["execution_id"] for key in keys.values()}
        known = await _rows(tx, ids)
        intake = _Intake(
            tx,
            keys=keys,
            rows=known,
            deleted=set((await tx.connection.execute(deleted_of(ids - known.keys()))).scalars()),
            waiting=await _waiting(tx, requests),
        )
        answers = [intake.accept(operation) for operation in operations]
        await intake.write()
        return answers


@dataclass(slots=True)
class _Intake:
    """The decisions about a batch of requests, and what they leave to be written."""

    tx: Transaction
    keys: dict[tuple[str, str], Stored]
    rows: dict[str, Stored]
    deleted: set[str]
    waiting: Counter[tuple[str, bool]]
    """By uid of the function, and whether for a time of their own."""
    new_rows: list[Row] = field(default_factory=list)
    new_keys: list[Row] = field(default_factory=list)

    def accept(self, operation: Accept) -> tuple[ExecutionRecord, bool] | AppfnError:
        request = operation.request
        earlier = self._earlier(request)
        if earlier is not None:
            if not _same(earlier, request):
                return IdempotencyError("the idempotency key was used with another request before")
            return record_of(earlier), False
        if self._is_of_deleted(request):
            return IdempotencyError("the execution that the idempotency key stands for was deleted")
        if self.waiting[request.function_uid, _is_delayed(request, self.tx)] >= operation.queue_limit:
            return QueueFullError(
                f"{operation.queue_limit} executions of function {request.function!r} wait already",
                retry_after=_RETRY_AFTER,
            )
        return record_of(self._add(request)), True

    def _earlier(self, request: ExecutionRequest) -> Stored | None:
        if request.idempotency_key is not None:
            key = self.keys.get((request.namespace, clean(request.idempotency_key)))
            if key is not None and key["execution_id"] in self.rows:
                return self.rows[key["execution_id"]]
        return self.rows.get(clean(request.id))

    def _is_of_deleted(self, request: ExecutionRequest) -> bool:
        """Tell whether it repeats what was deleted: it ran, or was not to run, and must not run again."""
        key = None
        if request.idempotency_key is not None:
            key = self.keys.get((request.namespace, clean(request.idempotency_key)))
        return clean(request.id) in self.deleted or (key is not None and key["execution_id"] in self.deleted)

    def _add(self, request: ExecutionRequest) -> Row:
        row = _DEFAULTS | row_of_request(request, now=self.tx.now, sequence=self.tx.sequence)
        delayed = row["phase"] == ExecutionPhase.SCHEDULED
        self.waiting[request.function_uid, delayed] += 1
        self.tx.queued = self.tx.queued or not delayed
        self.new_rows.append(row)
        self.rows[row["id"]] = row
        if row["idempotency_key"] is not None:
            self._add_key(row)
        return row

    def _add_key(self, row: Row) -> None:
        key = {
            "namespace": row["namespace"],
            "key": row["idempotency_key"],
            "function_uid": row["function_uid"],
            "execution_id": row["id"],
            "body_hash": row["body_hash"],
            "expires_at": self.tx.now + KEY_LIFETIME,
        }
        self.new_keys.append(key)
        self.keys[row["namespace"], row["idempotency_key"]] = key

    async def write(self) -> None:
        if not self.new_rows:
            return
        await self.tx.connection.execute(insert(EXECUTIONS), self.new_rows)
        if self.new_keys:
            await self.tx.connection.execute(_remember_key(self.tx), self.new_keys)
        tallies = Tallies()
        for row in self.new_rows:
            tallies.accepted(row["function_uid"])
        await tallies.write(self.tx)


_DEFAULTS: Row = {
    "status_code": 0,
    "attempt": 0,
    "started_at": None,
    "finished_at": None,
    "deployment": "",
    "memory_mb": 0,
}


def _same(earlier: Stored, request: ExecutionRequest) -> bool:
    """Tell whether a request repeats an earlier one; an id alone proves nothing to another function or tenant."""
    asked = (request.namespace, request.function_uid, request.body_hash)
    return (earlier["namespace"], earlier["function_uid"], earlier["body_hash"]) == asked


async def _keys(tx: Transaction, requests: Sequence[ExecutionRequest]) -> dict[tuple[str, str], Stored]:
    wanted = {
        (request.namespace, clean(request.idempotency_key))
        for request in requests
        if request.idempotency_key is not None
    }
    if not wanted:
        return {}
    k = IDEMPOTENCY.c
    statement = select(IDEMPOTENCY).where(tuple_(k.namespace, k.key).in_(wanted), k.expires_at > tx.now)
    return {(row["namespace"], row["key"]): row for row in mappings(await tx.connection.execute(statement))}


async def _rows(tx: Transaction, ids: Collection[str]) -> dict[str, Stored]:
    found = await tx.connection.execute(select(EXECUTIONS).where(_c.id.in_(ids)))
    return {row["id"]: row for row in mappings(found)}


def deleted_of(ids: Collection[str]) -> Select[str]:
    """Return the statement that tells which of these executions were deleted."""
    return select(DELETED.c.id).where(DELETED.c.id.in_(ids))


def _is_delayed(request: ExecutionRequest, tx: Transaction) -> bool:
    return request.not_before is not None and request.not_before > tx.now


async def _waiting(tx: Transaction, requests: Sequence[ExecutionRequest]) -> Counter[tuple[str, bool]]:
    counts: Counter[tuple[str, bool]] = Counter()
    for delayed, state in ((False, IS_WAITING), (True, IS_SCHEDULED)):
        uids = {request.function_uid for request in requests if _is_delayed(request, tx) is delayed}
        if not uids:
            continue
        statement = (
            select(_c.function_uid, func.count().label("waiting"))
            .where(state, _c.function_uid.in_(uids))
            .group_by(_c.function_uid)
        )
        found = await tx.connection.execute(statement)
        counts.update({(row.function_uid, delayed): row.waiting for row in found})
    return counts


def _remember_key(tx: Transaction) -> Any:
    statement = upsert(tx, IDEMPOTENCY)
    changed = {name: statement.excluded[name] for name in ("function_uid", "execution_id", "body_hash", "expires_at")}
    return statement.on_conflict_do_update(index_elements=["namespace", "key"], set_=changed)
