"""Work in hand: claims, leases and their fencing.

An execution is a worker's while the row names the worker. `reap` takes it away; from then on nothing the worker writes
about it is accepted, as begin, finish, release and renew all look at the row, locked, in the transaction that writes.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Self

from sqlalchemy import bindparam, select, update

from appfn.api.execution import Component, ExecutionPhase, Failure, FailureReason
from appfn.core.records import Outcome
from appfn.store.commit import Operation, Transaction
from appfn.store.model import Reaped
from appfn.store.rows import Row, Stored, clean, mappings, outcome_columns
from appfn.store.schema import EXECUTIONS
from appfn.store.tallies import Tallies

_REAP_BATCH = 500
_LOST_STATUS = 500

_c = EXECUTIONS.c
_STATE = (
    _c.id,
    _c.namespace,
    _c.function_uid,
    _c.phase,
    _c.attempt,
    _c.max_attempts,
    _c.worker,
    _c.lease_until,
    _c.available_at,
)
_FREE: Row = {"worker": None, "lease_until": None}


@dataclass(frozen=True, slots=True)
class Begin(Operation[int | None]):
    """Mark that the code is about to be started."""

    execution_id: str
    worker: str
    deployment: str = ""

    @classmethod
    async def apply(cls, tx: Transaction, operations: Sequence[Self]) -> Sequence[int | None]:
        """See `Operation`. A repeat after a lost acknowledgement is refused, which leaves the execution to `reap`."""
        states = await _states(tx, [operation.execution_id for operation in operations])
        answers = [_begin(states.get(operation.execution_id), operation, tx) for operation in operations]
        changes = [
            {
                "key": operation.execution_id,
                "phase": ExecutionPhase.PROCESSING.value,
                "attempt": attempt,
                "deployment": clean(operation.deployment),
                "started_at": tx.now,
                "updated_at": tx.now,
                "sequence": tx.sequence,
            }
            for operation, attempt in zip(operations, answers, strict=True)
            if attempt is not None
        ]
        await _change(tx, changes)
        return answers


@dataclass(frozen=True, slots=True)
class Finish(Operation[bool]):
    """End an execution with its outcome."""

    execution_id: str
    worker: str
    attempt: int
    outcome: Outcome
    deployment: str = ""
    memory_mb: int = 0

    @classmethod
    async def apply(cls, tx: Transaction, operations: Sequence[Self]) -> Sequence[bool]:
        """See `Operation`."""
        states = await _states(tx, [operation.execution_id for operation in operations])
        answers, changes, tallies = [], [], Tallies()
        for operation in operations:
            state = states.get(operation.execution_id)
            ours = _is_attempt_of(state, operation.worker, operation.attempt)
            answers.append(ours)
            if not ours or state is None or ExecutionPhase(state["phase"]).terminal:
                continue
            ran = {"deployment": clean(operation.deployment), "memory_mb": operation.memory_mb}
            changes.append(_ending(state, operation.outcome, tx, tallies, memory_mb=operation.memory_mb) | ran)
            states[operation.execution_id] = {**state, "phase": operation.outcome.phase.value}
        await _change(tx, changes)
        await tallies.write(tx)
        return answers


@dataclass(frozen=True, slots=True)
class Release(Operation[bool]):
    """Give back what was claimed and not begun."""

    execution_id: str
    worker: str
    delay: float

    changes_phase: ClassVar[bool] = False

    @classmethod
    async def apply(cls, tx: Transaction, operations: Sequence[Self]) -> Sequence[bool]:
        """See `Operation`."""
        states = await _states(tx, [operation.execution_id for operation in operations])
        answers, changes = [], []
        for operation in operations:
            state = states.pop(operation.execution_id, None)
            ours = state is not None and _is_claimed_by(state, operation.worker)
            answers.append(ours)
            if state is None or not ours:
                continue
            # Without a delay it keeps its turn.
            again = tx.now + timedelta(seconds=operation.delay) if operation.delay else state["available_at"]
            changes.append({"key": operation.execution_id, "available_at": again} | _FREE)
        await _change(tx, changes)
        tx.queued = tx.queued or bool(changes)
        return answers


@dataclass(frozen=True, slots=True)
class Retry(Operation[bool]):
    """Give back what was begun and is to be begun again; its attempt is over."""

    execution_id: str
    worker: str
    attempt: int
    delay: float

    @classmethod
    async def apply(cls, tx: Transaction, operations: Sequence[Self]) -> Sequence[bool]:
        """See `Operation`. A repeat after a lost acknowledgement is refused, which is what the worker asked for."""
        states = await _states(tx, [operation.execution_id for operation in operations])
        answers, changes = [], []
        for operation in operations:
            state = states.pop(operation.execution_id, None)
            ours = state is not None and _is_running(state, operation.worker, operation.attempt)
            answers.append(ours)
            if state is not None and ours:
                again = tx.now + timedelta(seconds=operation.delay)
                changes.append(_retry(state, tx, Tallies()) | {"available_at": again})
        await _change(tx, changes)
        tx.queued = tx.queued or bool(changes)
        return answers


@dataclass(frozen=True, slots=True)
class Renew(Operation[frozenset[str]]):
    """Extend leases."""

    worker: str
    execution_ids: frozenset[str]
    lease_seconds: float

    changes_phase: ClassVar[bool] = False

    @classmethod
    async def apply(cls, tx: Transaction, operations: Sequence[Self]) -> Sequence[frozenset[str]]:
        """See `Operation`."""
        states = await _states(tx, [key for operation in operations for key in operation.execution_ids])
        answers, changes = [], []
        for operation in operations:
            kept = frozenset(key for key in operation.execution_ids if _is_held_by(states.get(key), operation.worker))
            until = tx.now + timedelta(seconds=operation.lease_seconds)
            changes += [{"key": key, "lease_until": until} for key in kept]
            answers.append(kept)
        await _change(tx, changes)
        return answers


@dataclass(frozen=True, slots=True)
class Reap(Operation[Reaped]):
    """Take executions from workers that did not renew their leases."""

    @classmethod
    async def apply(cls, tx: Transaction, operations: Sequence[Self]) -> Sequence[Reaped]:
        """See `Operation`; the first of several reaps all."""
        statement = select(*_STATE).where(_c.lease_until <= tx.now).limit(_REAP_BATCH).with_for_update(skip_locked=True)
        states = mappings(await tx.connection.execute(statement))
        tallies, counted = Tallies(), Counter[str]()
        for kind, states_of_kind in _by_fate(states).items():
            counted[kind] = len(states_of_kind)
            await _change(tx, [_FATES[kind](state, tx, tallies) for state in states_of_kind])
        await tallies.write(tx)
        tx.queued = tx.queued or bool(counted["requeued"] or counted["retried"])
        return [Reaped(**counted), *[Reaped()] * (len(operations) - 1)]


def _by_fate(states: Sequence[Stored]) -> dict[str, list[Stored]]:
    fates: dict[str, list[Stored]] = {}
    for state in states:
        fates.setdefault(fate(state["phase"], state["attempt"], state["max_attempts"]), []).append(state)
    return fates


def fate(phase: str, attempt: int, max_attempts: int) -> str:
    """Return what becomes of an execution whose lease ran out: `requeued`, `retried` or `lost` (fields of Reaped)."""
    if phase == ExecutionPhase.WAITING:
        return "requeued"
    return "retried" if attempt < max_attempts else "lost"


def _requeue(state: Stored, _tx: Transaction, _tallies: Tallies) -> Row:
    return {"key": state["id"]} | _FREE


def _retry(state: Stored, tx: Transaction, _tallies: Tallies) -> Row:
    waiting = {"phase": ExecutionPhase.WAITING.value, "updated_at": tx.now, "sequence": tx.sequence}
    return {"key": state["id"]} | waiting | _FREE


def _lose(state: Stored, tx: Transaction, tallies: Tallies) -> Row:
    message = (
        "The process that ran this execution died after the code had been started: whether it finished is unknown."
    )
    failure = Failure(component=Component.EXECUTOR, reason=FailureReason.EXECUTOR_LOST, message=message)
    outcome = Outcome(phase=ExecutionPhase.FAILED, status_code=_LOST_STATUS, stderr=message, failure=failure)
    # Without its name on the row, the worker's own finish, should it come, is told from a repeat and refused.
    return _ending(state, outcome, tx, tallies) | {"worker": None}


_FATES = {"requeued": _requeue, "retried": _retry, "lost": _lose}


def _begin(state: Stored | None, operation: Begin, tx: Transaction) -> int | None:
    if state is None or not _is_claimed_by(state, operation.worker) or state["lease_until"] <= tx.now:
        return None
    return int(state["attempt"]) + 1


def _is_held_by(state: Stored | None, worker: str) -> bool:
    return state is not None and state["worker"] == worker and not ExecutionPhase(state["phase"]).terminal


def _is_claimed_by(state: Stored, worker: str) -> bool:
    return _is_held_by(state, worker) and state["phase"] == ExecutionPhase.WAITING


def _is_running(state: Stored, worker: str, attempt: int) -> bool:
    return _is_attempt_of(state, worker, attempt) and state["phase"] == ExecutionPhase.PROCESSING


def _is_attempt_of(state: Stored | None, worker: str, attempt: int) -> bool:
    return state is not None and state["worker"] == worker and state["attempt"] == attempt


def _ending(state: Stored, outcome: Outcome, tx: Transaction, tallies: Tallies, *, memory_mb: int = 0) -> Row:
    tallies.ended(
        state["namespace"],
        state["function_uid"],
        phase=outcome.phase,
        at=tx.now,
        duration=outcome.duration,
        memory_mb=memory_mb,
    )
    ended = {"finished_at": tx.now, "updated_at": tx.now, "sequence": tx.sequence, "lease_until": None, "jwt": ""}
    return {"key": state["id"]} | outcome_columns(outcome) | ended


async def _states(tx: Transaction, ids: Collection[str]) -> dict[str, Stored]:
    """Return and lock the rows of these executions, in one order for all, so that nobody waits crosswise."""
    statement = select(*_STATE).where(_c.id.in_(set(ids))).order_by(_c.id).with_for_update()
    return {row["id"]: row for row in mappings(await tx.connection.execute(statement))}


async def _change(tx: Transaction, changes: Sequence[Row]) -> None:
    """Update the row of each `key` with the other items; all changes have the same items."""
    if not changes:
        return
    await tx.connection.execute(update(EXECUTIONS).where(_c.id == bindparam("key")), list(changes))
