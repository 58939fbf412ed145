"""Records to rows and back; what the databases cannot hold is made fit here."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, cast

from msgspec import structs
from sqlalchemy import CursorResult

from appfn.api.execution import ExecutionPhase, Failure, Trigger
from appfn.core.records import MAX_OUTPUT, ExecutionRecord, ExecutionRequest, Origin, Outcome, Times

Row = dict[str, Any]
"""Values to be written, by column."""
Stored = Mapping[str, Any]
"""Values that were read, by column."""

_UNFIT = re.compile("[\x00\ud800-\udfff]")
_READER = re.compile(r'read\("user:([^"/]+)(?:/(?:un)?verified)?"\)')
_MAX_UTF8 = 4


def clean(text: str) -> str:
    """Replace what PostgreSQL refuses in text (NUL) and no UTF-8 can hold (lone surrogates) by U+FFFD."""
    if not text or (text.isascii() and "\0" not in text):  # nearly all, and the looks are cheap
        return text
    return _UNFIT.sub("\ufffd", text)


def cut(text: str) -> str:
    """Return `clean(text)`, at most MAX_OUTPUT bytes of it."""
    fit = clean(text)
    if len(fit) * _MAX_UTF8 <= MAX_OUTPUT:
        return fit
    return fit.encode()[:MAX_OUTPUT].decode(errors="ignore")


def mappings(result: CursorResult[*tuple[Any, ...]]) -> list[Stored]:
    """Return all rows of a result."""
    return cast("list[Stored]", result.mappings().all())


def row_of_request(request: ExecutionRequest, *, now: datetime, sequence: int) -> Row:
    """Return the row of a request that is accepted now."""
    due = request.not_before if request.not_before and request.not_before > now else now
    return _request_columns(request) | {
        "jwt": clean(request.jwt),
        "phase": (ExecutionPhase.SCHEDULED if due > now else ExecutionPhase.WAITING).value,
        "sequence": sequence,
        "created_at": now,
        "updated_at": now,
        "available_at": due,
    }


def row_of_record(record: ExecutionRecord, *, sequence: int) -> Row:
    """Return the row of an execution that has ended."""
    assert record.outcome is not None
    row = _request_columns(record.request)
    row.update(outcome_columns(record.outcome))
    row["jwt"] = ""
    row["sequence"] = sequence
    row["created_at"] = row["available_at"] = record.created_at
    row["updated_at"] = record.updated_at
    row["started_at"] = record.started_at
    row["finished_at"] = record.finished_at or record.updated_at
    row["deployment"] = clean(record.deployment)
    row["attempt"] = record.attempt
    row["memory_mb"] = record.memory_mb
    return row


def outcome_columns(outcome: Outcome) -> Row:
    """Return the columns that the end of an execution sets."""
    response, stdout, stderr = fit_texts(outcome)
    return {
        "phase": outcome.phase.value,
        "status_code": outcome.status_code,
        "response": response,
        "stdout": stdout,
        "stderr": stderr,
        "duration": outcome.duration,
        "cold_start": outcome.cold_start,
        "times": outcome.times.to_json(),
        "failure": None if outcome.failure is None else clean_texts(outcome.failure.to_json()),
    }


def fit_texts(outcome: Outcome) -> tuple[str, str, str]:
    """Return response, stdout and stderr as the databases hold them."""
    response, stdout, stderr = outcome.response, outcome.stdout, outcome.stderr
    if _is_plain(response, stdout, stderr) and len(response) + len(stdout) + len(stderr) <= MAX_OUTPUT:
        return response, stdout, stderr
    return cut(response), cut(stdout), cut(stderr)


def record_of(row: Stored, *, secrets: bool = False) -> ExecutionRecord:
    """Return the record of a row; its request has a `jwt` only with `secrets`."""
    phase = ExecutionPhase(row["phase"])
    return ExecutionRecord(
        request=_request_of(row, jwt=row["jwt"] if secrets else ""),
        phase=phase,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deployment=row["deployment"],
        attempt=row["attempt"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        memory_mb=row["memory_mb"],
        outcome=_outcome_of(row, phase) if phase.terminal else None,
        sequence=row["sequence"],
    )


def fit_request(request: ExecutionRequest) -> ExecutionRequest:
    """Return a request whose texts, but for the headers, are as the databases hold them."""
    key = request.idempotency_key
    texts = request.path, request.data, request.event_data, request.event, request.user_id, request.replay_of
    plain = _is_plain(request.id, request.method, key or "", *texts, *request.permissions)
    return request if plain else _cleaned(request)


def _request_columns(request: ExecutionRequest) -> Row:
    headers, request = request.headers, fit_request(request)
    permissions = list(request.permissions)
    return {
        "id": request.id,
        "namespace": request.namespace,
        "function": request.function,
        "function_uid": request.function_uid,
        "origin": request.origin.value,
        "trigger": request.trigger.value,
        "max_attempts": request.max_attempts,
        "scheduled_at": request.scheduled_at,
        "replay_of": request.replay_of,
        "user_id": request.user_id,
        "reader": reader_of(permissions),
        "event": request.event,
        "path": request.path,
        "method": request.method,
        "idempotency_key": request.idempotency_key,
        "body_hash": request.body_hash,
        "permissions": permissions,
        "headers": clean_texts(headers) if headers else {},
        "data": request.data,
        "event_data": request.event_data,
    }


def _is_plain(*texts: str) -> bool:
    """Tell whether nothing in the texts can need to be replaced, as with nearly all: one look for all of them."""
    together = "".join(texts)
    return together.isascii() and "\0" not in together


def _cleaned(request: ExecutionRequest) -> ExecutionRequest:
    key = request.idempotency_key
    return structs.replace(
        request,
        id=clean(request.id),
        method=clean(request.method),
        path=clean(request.path),
        data=clean(request.data),
        event=clean(request.event),
        event_data=clean(request.event_data),
        user_id=clean(request.user_id),
        replay_of=clean(request.replay_of),
        idempotency_key=None if key is None else clean(key),
        permissions=tuple(clean(permission) for permission in request.permissions),
    )


def reader_of(permissions: Iterable[str]) -> str:
    """Return the one user that may read the execution: Appwrite gives its caller, or nobody, the right."""
    for permission in permissions:
        match = _READER.fullmatch(permission)
        if match:
            return match.group(1)
    return ""


def clean_texts(texts: Mapping[str, str]) -> dict[str, str]:
    """Return names and values as the databases hold them."""
    return {clean(key): clean(value) for key, value in texts.items()}


def _request_of(row: Stored, *, jwt: str) -> ExecutionRequest:
    return ExecutionRequest(
        id=row["id"],
        namespace=row["namespace"],
        function=row["function"],
        function_uid=row["function_uid"],
        origin=Origin(row["origin"]),
        trigger=Trigger(row["trigger"]),
        data=row["data"],
        headers=row["headers"],
        path=row["path"],
        method=row["method"],
        user_id=row["user_id"],
        jwt=jwt,
        event=row["event"],
        event_data=row["event_data"],
        permissions=tuple(row["permissions"]),
        scheduled_at=row["scheduled_at"],
        replay_of=row["replay_of"],
        idempotency_key=row["idempotency_key"],
        body_hash=row["body_hash"],
        max_attempts=row["max_attempts"],
    )


def _outcome_of(row: Stored, phase: ExecutionPhase) -> Outcome:
    return Outcome(
        phase=phase,
        status_code=row["status_code"],
        response=row["response"],
        stdout=row["stdout"],
        stderr=row["stderr"],
        duration=row["duration"],
        cold_start=row["cold_start"],
        times=Times.of(row["times"] or {}),
        failure=None if row["failure"] is None else Failure.model_validate(row["failure"]),
    )
