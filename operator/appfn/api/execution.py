"""`Execution`: one run of a function and its result."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from appfn.api.base import Model, Resource
from appfn.api.conditions import Condition
from appfn.api.deployment import NameReference


class ExecutionPhase(StrEnum):
    """The Appwrite words for the state of an execution."""

    SCHEDULED = "scheduled"
    """Accepted, to wait for its turn at a time of its own."""
    WAITING = "waiting"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def terminal(self) -> bool:
        """Tell whether nothing follows this state."""
        return self in {ExecutionPhase.COMPLETED, ExecutionPhase.FAILED}


class Trigger(StrEnum):
    """What caused an execution, as APPWRITE_FUNCTION_TRIGGER says it."""

    HTTP = "http"
    EVENT = "event"
    SCHEDULE = "schedule"


class Component(StrEnum):
    """Which part an execution failed in."""

    FUNCTION = "function"
    RUNTIME = "runtime"
    DISPATCHER = "dispatcher"
    EXECUTOR = "executor"


class FailureReason(StrEnum):
    """Why an execution failed; stable words for machines."""

    FUNCTION_ERROR = "FunctionError"
    """The function answered 500 or more, or threw."""
    TIMEOUT = "Timeout"
    RESPONSE_TOO_LARGE = "ResponseTooLarge"
    INVALID_RESPONSE = "InvalidResponse"
    """The runtime answered something that is not its protocol."""
    LOAD_FAILED = "LoadFailed"
    POD_START_FAILED = "PodStartFailed"
    POD_LOST = "PodLost"
    QUEUE_TIMEOUT = "QueueTimeout"
    VARIABLE_UNAVAILABLE = "VariableUnavailable"
    """A Secret or ConfigMap that a variable refers to is missing."""
    FUNCTION_UNAVAILABLE = "FunctionUnavailable"
    """Function deleted, disabled or without a ready deployment when its turn came."""
    EXECUTOR_LOST = "ExecutorLost"
    """The worker died after the code was started; whether it finished is unknown."""


class Failure(Model):
    """Why and where an execution failed; `message` is for people and holds no payload."""

    component: Component
    reason: FailureReason
    message: str


class PhaseTimes(Model):
    """Where the time went, in milliseconds; a phase that did not occur is 0."""

    queue_ms: int = 0
    claim_ms: int = 0
    load_ms: int = 0
    boot_ms: int = 0
    run_ms: int = 0


class ExecutionSpec(Model):
    """Desired run; immutable."""

    id: str | None = None
    function_ref: NameReference
    data: str = ""
    headers: dict[str, str] = Field(default_factory=dict)
    path: str = "/"
    method: str = "POST"
    ttl_seconds_after_finished: int | None = None
    """Unset: kept until deleted, as a Job is."""


class ExecutionStatus(Model):
    """Observed run: the fields of Appwrite's Execution model, and where the time went."""

    observed_generation: int = 0
    conditions: list[Condition] = Field(default_factory=list)
    execution_id: str = ""
    deployment: str = ""
    trigger: Trigger | None = None
    status: ExecutionPhase | None = None
    status_code: int = 0
    response: str = ""
    stdout: str = ""
    stderr: str = ""
    truncated: bool = False
    """True when response, stdout or stderr is cut here; the API has them whole."""
    duration: str = ""
    """Seconds of the function's own run with three decimals (no floats in the API conventions)."""
    attempt: int = 0
    cold_start: bool = False
    times: PhaseTimes | None = None
    failure: Failure | None = None
    start_time: datetime | None = None
    completion_time: datetime | None = None
    replay_token: str = ""
    """Value of the replay annotation last acted upon."""


class Execution(Resource):
    """`executions.appfn.dev`, short name `exec`."""

    spec: ExecutionSpec
    status: ExecutionStatus = Field(default_factory=ExecutionStatus)
