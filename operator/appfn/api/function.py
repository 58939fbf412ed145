"""`Function`: what to run, when, for whom, and with which variables."""

from datetime import datetime

from pydantic import Field

from appfn.api.base import Model, Resource
from appfn.api.conditions import Condition
from appfn.api.pods import ResourceRequirements, Toleration
from appfn.api.runtime import Architecture


class KeySelector(Model):
    """One key of a Secret or ConfigMap in the function's namespace."""

    name: str
    key: str
    optional: bool = False


class VariableSource(Model):
    """Exactly one of the two (CEL)."""

    secret_key_ref: KeySelector | None = None
    config_map_key_ref: KeySelector | None = None


class Variable(Model):
    """A function variable: `value` or `value_from`."""

    name: str
    value: str | None = None
    value_from: VariableSource | None = None


class Scaling(Model):
    """How many runtime pods a function has."""

    min_replicas: int = 0
    max_replicas: int = 10
    concurrency: int | None = None
    """Requests per pod at once; never more than the Runtime's, which is the default."""
    idle_seconds: int = 60
    """A pod without work for so long is removed, down to `min_replicas`."""


class Retry(Model):
    """What happens to an async execution whose executor was lost after the code had been started."""

    max_attempts: int = 1
    """1: it ends failed with reason ExecutorLost. More: it runs again, `attempt` + 1."""


class FunctionSpec(Model):
    """Desired state."""

    id: str | None = None
    runtime: str
    display_name: str = ""
    enabled: bool = True
    execute: list[str] = Field(default_factory=list)
    events: list[str] = Field(default_factory=list)
    schedule: str = ""
    time_zone: str = "Etc/UTC"
    timeout: int = 15
    """Seconds, 1 to 900."""
    logging: bool = True
    """Whether what the code prints is kept with its executions."""
    entrypoint: str = ""
    """Of deployments made by the Appwrite API that name none; empty: the Runtime's."""
    commands: str = ""
    """As `entrypoint`: their build commands."""
    variables: list[Variable] = Field(default_factory=list)
    deployment: str | None = None
    """Resource name of the Deployment to run; None: the newest ready one that asks to be activated."""
    architectures: list[Architecture] = Field(default_factory=list)
    """Empty: those that both the Runtime and the cluster's nodes have."""
    resources: ResourceRequirements | None = None
    scaling: Scaling = Field(default_factory=Scaling)
    retry: Retry = Field(default_factory=Retry)
    successful_executions_history_limit: int = 3
    failed_executions_history_limit: int = 1
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[Toleration] = Field(default_factory=list)
    runtime_class_name: str | None = None


class ExecutionCounts(Model):
    """Executions since the function was made (retention does not lower them)."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class FunctionStatus(Model):
    """Observed state."""

    observed_generation: int = 0
    conditions: list[Condition] = Field(default_factory=list)
    active_deployment: str | None = None
    """Resource name of the Deployment that calls go to."""
    schedule_next: datetime | None = None
    schedule_previous: datetime | None = None
    """Newest tick that is accounted for, run or missed."""
    missed_ticks: int = 0
    late_ticks: int = 0
    """Ticks that started more than a minute after their time."""
    executions: ExecutionCounts = Field(default_factory=ExecutionCounts)


class Function(Resource):
    """`functions.appfn.dev`, short name `fn`."""

    spec: FunctionSpec
    status: FunctionStatus = Field(default_factory=FunctionStatus)

    @property
    def appwrite_id(self) -> str:
        """The id the Appwrite API and APPWRITE_FUNCTION_ID show."""
        return self.spec.id or self.metadata.name

    @property
    def display_name(self) -> str:
        """The name the Appwrite API and APPWRITE_FUNCTION_NAME show."""
        return self.spec.display_name or self.metadata.name
