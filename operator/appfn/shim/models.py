"""Response models of the API in each format, pure: a record in, JSON out."""

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import assert_never

import orjson

from appfn.api.base import Json
from appfn.api.execution import ExecutionPhase
from appfn.core.records import ExecutionRecord, Outcome
from appfn.shim.formats import Format

SHOWN_REQUEST_HEADERS = frozenset({"content-type", "content-length", "host", "user-agent"})
"""What a model shows of the headers given to a function: none that could hold a credential."""
_READ_PERMISSION = re.compile(r'read\("(.+)"\)')


def execution(
    record: ExecutionRecord,
    format_: Format,
    *,
    function_id: str,
    deployment_id: str,
    logs: bool,
) -> Json:
    """Return the Execution model.

    Args:
        record: the execution.
        format_: the client's dialect.
        function_id: Appwrite id of the function.
        deployment_id: Appwrite id of the deployment that ran it, empty while none has.
        logs: whether the caller may see stdout and stderr; they are blank for others.
    """
    match format_:
        case Format.V0:
            return _execution_v0(record, function_id=function_id, logs=logs)
        case Format.V1_0:
            return _execution_v1_0(record, function_id=function_id, logs=logs)
        case Format.V1_4 | Format.V1_6 | Format.V1_7:
            model = _execution_v1_4(record, function_id=function_id, deployment_id=deployment_id, logs=logs)
            return model | {"status": _status(record, format_)}
        case _:
            assert_never(format_)


def execution_list(executions: list[Json], *, total: int) -> Json:
    """Return the ExecutionList model, the same in every format."""
    return {"total": total, "executions": executions}


def server_timing(outcome: Outcome) -> str:
    """Return the value of the header Server-Timing: where the time went, in milliseconds; `cold` for a cold start."""
    times = outcome.times
    phases = (
        f"queue;dur={times.queue_ms}, claim;dur={times.claim_ms}, load;dur={times.load_ms}, "
        f"boot;dur={times.boot_ms}, run;dur={outcome.duration * 1000:.3f}"
    )
    return f"{phases}, cold" if outcome.cold_start else phases


def timestamp(moment: datetime) -> str:
    """Return a date as the API of 1.0 and later writes it: `2020-10-15T06:38:00.000+00:00`."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    if not moment.microsecond:
        return moment.isoformat(timespec="milliseconds")
    # Twice as fast, with `…678901+00:00` of which the milliseconds are to stay.
    return f"{orjson.dumps(moment)[1:24].decode()}+00:00"


def _execution_v0(record: ExecutionRecord, *, function_id: str, logs: bool) -> Json:
    outcome = _outcome(record)
    return {
        "$id": record.id,
        "$createdAt": int(record.created_at.timestamp()),
        "$updatedAt": int(record.updated_at.timestamp()),
        "$read": [_READ_PERMISSION.sub(r"\1", permission) for permission in record.request.permissions],
        "functionId": function_id,
        "trigger": record.request.trigger.value,
        "status": _status(record, Format.V0),
        "statusCode": outcome.status_code,
        "response": outcome.response,
        "stderr": _stderr(outcome) if logs else "",
        "time": outcome.duration,
    }


def _execution_v1_0(record: ExecutionRecord, *, function_id: str, logs: bool) -> Json:
    outcome = _outcome(record)
    return _envelope(record, function_id) | {
        "status": _status(record, Format.V1_0),
        "statusCode": outcome.status_code,
        "response": outcome.response,
        "stdout": outcome.stdout if logs else "",
        "stderr": _stderr(outcome) if logs else "",
        "duration": outcome.duration,
    }


def _execution_v1_4(record: ExecutionRecord, *, function_id: str, deployment_id: str, logs: bool) -> Json:
    outcome, request = _outcome(record), record.request
    shown = {name: value for name, value in request.headers.items() if name.lower() in SHOWN_REQUEST_HEADERS}
    return _envelope(record, function_id) | {
        "resourceId": function_id,  # what SDKs of format 2 read instead of functionId
        "resourceType": "functions",
        "deploymentId": deployment_id,
        "requestMethod": request.method,
        "requestPath": request.path,
        "requestHeaders": [{"name": name, "value": value} for name, value in shown.items()],
        "responseStatusCode": outcome.status_code,
        "responseBody": outcome.response,
        "responseHeaders": [],
        "logs": outcome.stdout if logs else "",
        "errors": _stderr(outcome) if logs else "",
        "duration": outcome.duration,
        "scheduledAt": timestamp(request.scheduled_at) if request.scheduled_at else "",
        "replayOf": request.replay_of,  # ours: the execution that this one repeats
    }


def _envelope(record: ExecutionRecord, function_id: str) -> Json:
    return {
        "$id": record.id,
        "$createdAt": timestamp(record.created_at),
        "$updatedAt": timestamp(record.updated_at),
        "$permissions": list(record.request.permissions),
        "functionId": function_id,
        "trigger": str(record.request.trigger),
    }


def _status(record: ExecutionRecord, format_: Format) -> str:
    """Return the word of the format: old ones have none for a time to come, and 1.4 took 4xx for a failure."""
    phase = record.phase
    if phase is ExecutionPhase.SCHEDULED and format_ < Format.V1_4:
        return ExecutionPhase.WAITING.value
    refused = format_ is Format.V1_4 and _outcome(record).status_code >= HTTPStatus.BAD_REQUEST
    if phase is ExecutionPhase.COMPLETED and refused:
        return ExecutionPhase.FAILED.value
    return str(phase)


def _outcome(record: ExecutionRecord) -> Outcome:
    return record.outcome or Outcome(phase=record.phase)


def _stderr(outcome: Outcome) -> str:
    """What the function wrote; where it never came to that, why not."""
    if outcome.stderr or outcome.failure is None:
        return outcome.stderr
    return outcome.failure.message
