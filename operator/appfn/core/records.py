"""Values that dispatch, store and shim exchange about executions."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Self

from appfn.api.base import Json
from appfn.api.execution import ExecutionPhase, Failure, Trigger
from appfn.api.runtime import Architecture

MAX_OUTPUT = 1_000_000
"""Bytes of a response, of stdout and of stderr: Appwrite's documented 1 MB."""


class Origin(StrEnum):
    """Who asked for an execution; decides whether and how it is shown as an Execution resource."""

    API = "api"
    RESOURCE = "resource"
    SCHEDULE = "schedule"
    EVENT = "event"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRequest:
    """An execution to be accepted.

    `idempotency_key` is unique within the namespace; `body_hash` tells a repeat from a misuse of the key.
    """

    id: str
    namespace: str
    function: str
    """Resource name of the Function."""
    function_uid: str
    origin: Origin
    trigger: Trigger
    data: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    path: str = "/"
    method: str = "POST"
    user_id: str = ""
    jwt: str = field(default="", repr=False)
    """What the token of the user who calls says of them, unsigned; a token is made of it when the function starts."""
    event: str = ""
    event_data: str = field(default="", repr=False)
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
    return replace(
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


class Times(NamedTuple):
    """Where the time of an attempt went, in milliseconds, as `PhaseTimes`; made for each call, and so a tuple."""

    queue_ms: int = 0
    claim_ms: int = 0
    load_ms: int = 0
    boot_ms: int = 0
    run_ms: int = 0

    @classmethod
    def of(cls, wire: Mapping[str, int]) -> Self:
        """Return what `to_json` wrote; 0 for what it does not have."""
        return cls(*[wire.get(name, 0) for name in _TIMES])

    def to_json(self) -> Json:
        """Return the wire form of `PhaseTimes`."""
        return dict(zip(_TIMES, self, strict=True))


_TIMES = ("queueMs", "claimMs", "loadMs", "bootMs", "runMs")
_NO_TIMES = Times()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one attempt ended."""

    phase: ExecutionPhase
    status_code: int = 0
    response: str = field(default="", repr=False)
    stdout: str = field(default="", repr=False)
    stderr: str = field(default="", repr=False)
    duration: float = 0.0
    """Seconds of the function's own run."""
    cold_start: bool = False
    times: Times = _NO_TIMES
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRecord:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """Everything the dispatcher needs to run one attempt; fully resolved, so that dispatch looks nothing up."""

    execution_id: str
    namespace: str
    function: str
    function_uid: str
    deployment: str
    deployment_uid: str
    entrypoint: str
    artifacts: Mapping[Architecture, str]
    """Digest of the built artifact per architecture that is ready."""
    variables: Mapping[str, str] = field(repr=False)
    payload: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    timeout: int
    """Seconds the function itself may run."""
