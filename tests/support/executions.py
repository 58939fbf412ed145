"""Builders of executions, and a clock that stands until it is told to go on."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from msgspec import structs

from appfn.api.execution import ExecutionPhase, Trigger
from appfn.core.records import ExecutionRecord, ExecutionRequest, Origin, Outcome, Times

START = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
_ids = count(1)


@dataclass(slots=True)
class Clock:
    """A clock for `now=`."""

    at: datetime = START

    def __call__(self) -> datetime:
        """Return the time."""
        return self.at

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)


def a_request(**changes: Any) -> ExecutionRequest:
    """Return a request with an id of its own."""
    fields: dict[str, Any] = {
        "id": f"execution-{next(_ids):06}",
        "namespace": "shop",
        "function": "greet",
        "function_uid": "uid-greet",
        "origin": Origin.API,
        "trigger": Trigger.HTTP,
    }
    return ExecutionRequest(**(fields | changes))


def an_outcome(**changes: Any) -> Outcome:
    """Return the outcome of a run that went well."""
    fields: dict[str, Any] = {
        "phase": ExecutionPhase.COMPLETED,
        "status_code": 200,
        "response": "hello",
        "stdout": "out",
        "stderr": "err",
        "duration": 0.25,
        "times": Times(queue_ms=1, run_ms=250),
    }
    return Outcome(**(fields | changes))


def a_finished(*, at: datetime = START, outcome: Outcome | None = None, **changes: Any) -> ExecutionRecord:
    """Return the record of a sync execution that ended at a time."""
    ended = outcome or an_outcome()
    return ExecutionRecord(
        request=a_request(**changes),
        phase=ended.phase,
        created_at=at,
        updated_at=at,
        started_at=at,
        finished_at=at,
        attempt=1,
        deployment="greet-1",
        outcome=ended,
    )


def failed(**changes: Any) -> Outcome:
    """Return the outcome of a run that failed."""
    return structs.replace(an_outcome(**({"status_code": 500, "response": ""} | changes)), phase=ExecutionPhase.FAILED)
