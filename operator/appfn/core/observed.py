"""What the operator sees of the shim: typed values of its internal API's JSON."""

from datetime import datetime

from pydantic import Field

from appfn.api.base import Model
from appfn.api.deployment import Artifact
from appfn.api.execution import ExecutionPhase, Failure, PhaseTimes, Trigger
from appfn.api.function import ExecutionCounts
from appfn.core.records import Origin


class ObservedExecution(Model):
    """An execution as the shim's store has it."""

    id: str
    namespace: str = ""
    function: str = ""
    origin: Origin = Origin.API
    trigger: Trigger = Trigger.HTTP
    status: ExecutionPhase
    deployment: str = ""
    attempt: int = 0
    status_code: int = 0
    response: str = Field(default="", repr=False)
    stdout: str = Field(default="", repr=False)
    stderr: str = Field(default="", repr=False)
    duration: float = 0.0
    """Seconds of the function's own run."""
    cold_start: bool = False
    times: PhaseTimes | None = None
    failure: Failure | None = None
    path: str = "/"
    method: str = "POST"
    replay_of: str = ""
    """Id of the execution that it repeats."""
    created_at: datetime | None = None
    start_time: datetime | None = None
    completion_time: datetime | None = None


class Tick(Model):
    """An execution made by a schedule."""

    scheduled_at: datetime
    created_at: datetime


class Summary(Model):
    """What the store knows of one function."""

    counts: ExecutionCounts = Field(default_factory=ExecutionCounts)
    recent: list[ObservedExecution] = Field(default_factory=list)
    """The newest finished executions, as many of each outcome as was asked for."""
    ticks: list[Tick] = Field(default_factory=list)
    replicas: int = 0


class StoredBuild(Model):
    """An earlier build of the same code by the same commands in the same image."""

    artifact: Artifact
    log: Artifact | None = None


class Change(Model):
    """One entry of the change feed."""

    namespace: str
    function: str
    execution: str
    """Uid of the Execution resource that asked for it; empty for all that others asked for."""
    origin: Origin
    phase: ExecutionPhase


class Changes(Model):
    """A page of the change feed; `next` is what to ask for after it."""

    next: int
    changes: list[Change] = Field(default_factory=list)
