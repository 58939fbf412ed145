"""Values that dispatch, store and shim exchange about executions."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Self

import msgspec

from appfn.api.base import Json
from appfn.api.execution import ExecutionPhase, Failure, Trigger
from appfn.api.runtime import Architecture
from appfn.core.values import Value

MAX_OUTPUT = 1_000_000
"""Bytes of a response, of stdout and of stderr: Appwrite's documented 1 MB."""


class Origin(StrEnum):
    """Who asked for an execution; decides whether and how it is shown as an Execution resource."""

    API = "api"
    RESOURCE = "resource"
    SCHEDULE = "schedule"
    EVENT = "event"


class ExecutionRequest(Value, frozen=True, kw_only=True):
    """An execution to be accepted.

    `idempotency_key` is unique within the namespace; `body_hash` tells a repeat from a misuse of the key.
    """

    hidden = frozenset({"jwt", "event_data"})

    id: str
    namespace: str
    function: str
    """Resource name of the Function."""
    function_uid: str
    origin: Origin
    trigger: Trigger
    data: str = ""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    path: str = "/"
    method: str = "POST"
    user_id: str = ""
    jwt: str = ""
    """What the token of the user who calls says of them, unsigned; a token is made of it when the function starts."""
    event: str = ""
    event_data: str = ""
    permissions: tuple[str, ...] = ()
    scheduled_at: datetime | None = None
    """The tick of a schedule; of any other origin, the time not to run it before."""
    replay_of: str = ""
    """Id of the execution whose request this is again; empty where it is the first."""
    idempotency_key: str | None = None
    body_hash: str = ""
    max_attempts: int = 1

    @property
    def not_before(self) -> datetime | None:
        """The time it has to wait for."""
        return None if self.origin is Origin.SCHEDULE else self.scheduled_at


def repeated(original: ExecutionRequest, *, id_: str, origin: Origin, max_attempts: int) -> ExecutionRequest:
    """Return the request that runs an execution again: the same for the function but for its id and the JWT."""
    return msgspec.structs.replace(
        original,
        id=id_,
        origin=origin,
        jwt="",
        scheduled_at=None,
        replay_of=original.id,
        idempotency_key=None,
        body_hash=f"replay:{original.id}",
        max_attempts=max_attempts,
    )


class Times(Value, frozen=True, kw_only=True):
    """Where the time of an attempt went, in milliseconds, as `PhaseTimes`."""

    queue_ms: int = 0
    claim_ms: int = 0
    load_ms: int = 0
    boot_ms: int = 0
    run_ms: int = 0

    @classmethod
    def of(cls, wire: Mapping[str, int]) -> Self:
        """Return what `to_json` wrote; 0 for what it does not have."""
        return cls(
            queue_ms=wire.get("queueMs", 0),
            claim_ms=wire.get("claimMs", 0),
            load_ms=wire.get("loadMs", 0),
            boot_ms=wire.get("bootMs", 0),
            run_ms=wire.get("runMs", 0),
        )

    def to_json(self) -> Json:
        """Return the wire form of `PhaseTimes`."""
        return {
            "queueMs": self.queue_ms,
            "claimMs": self.claim_ms,
            "loadMs": self.load_ms,
            "bootMs": self.boot_ms,
            "runMs": self.run_ms,
        }


_NO_TIMES = Times()


class Outcome(Value, frozen=True, kw_only=True):
    """How one attempt ended."""

    hidden = frozenset({"response", "stdout", "stderr"})

    phase: ExecutionPhase
    status_code: int = 0
    response: str = ""
    stdout: str = ""
    stderr: str = ""
    duration: float = 0.0
    """Seconds of the function's own run."""
    cold_start: bool = False
    times: Times = _NO_TIMES
    failure: Failure | None = None


class ExecutionRecord(Value, frozen=True, kw_only=True):
    """An execution as the store keeps it."""

    request: ExecutionRequest
    phase: ExecutionPhase
    created_at: datetime
    updated_at: datetime
    deployment: str = ""
    """Resource name of the Deployment that ran it."""
    attempt: int = 0
    """Attempts begun; 0 while waiting for the first."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    memory_mb: int = 0
    """Memory of the pods of its function when it ended, in MiB; 0 where none is known."""
    outcome: Outcome | None = None
    sequence: int = 0
    """Position in the change feed of its last change."""

    @property
    def id(self) -> str:
        """The execution's id."""
        return self.request.id


class Invocation(Value, frozen=True, kw_only=True):
    """Everything the dispatcher needs to run one attempt; fully resolved, so that dispatch looks nothing up."""

    hidden = frozenset({"variables", "payload", "headers"})

    execution_id: str
    namespace: str
    function: str
    function_uid: str
    deployment: str
    deployment_uid: str
    entrypoint: str
    artifacts: Mapping[Architecture, str]
    """Digest of the built artifact per architecture that is ready."""
    variables: Mapping[str, str]
    payload: str
    headers: Mapping[str, str]
    timeout: int
    """Seconds the function itself may run."""
