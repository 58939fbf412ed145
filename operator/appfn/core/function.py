"""A Function: which Deployment it runs, whether it ticks, and what its status says."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from appfn.api.base import Json
from appfn.api.conditions import Condition, ConditionStatus, ConditionType, condition, merge
from appfn.api.deployment import BuildPhase, Deployment
from appfn.api.function import Function, FunctionStatus
from appfn.api.kinds import Key
from appfn.api.runtime import Runtime
from appfn.core.activation import Activation, choose
from appfn.core.catalogue import unusable
from appfn.core.function_schedule import ScheduleObserved, SchedulePlan, plan_schedule, refused
from appfn.core.observed import Summary
from appfn.core.problem import Problem, Severity, not_a_project

SHIM_AWAY_SECONDS = 30.0
"""How soon to ask the shim again when it did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A Function and all that its status speaks of."""

    function: Function
    runtime: Runtime | None
    project: bool
    """The namespace is one."""
    deployments: Sequence[Deployment]
    """Those whose functionRef names it."""
    cron_job: Json | None
    summary: Summary | None
    """None while the shim does not answer or does not know the function yet."""
    image: str
    """appfn's own image."""
    shim_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do: apply or delete the CronJob, write the status, then wake who waited for the Function."""

    observed: Observed
    activation: Activation
    schedule: SchedulePlan
    status: FunctionStatus
    waiting: tuple[Key, ...] = ()
    """Deployments that may have waited for the Function."""
    activated: bool = False
    """Calls have become possible or go elsewhere now: Executions may have waited for that."""
    history: bool = False
    """The history may be due: its limits may be others, or there were the first calls while nobody listened."""
    requeue: float | None = None


def decide(observed: Observed, now: datetime) -> Plan:
    """Conclude what the Function needs."""
    function = observed.function
    activation = choose(function, observed.deployments)
    schedule = plan_schedule(
        ScheduleObserved(
            function=function,
            project=observed.project,
            cron_job=observed.cron_job,
            summary=observed.summary,
            image=observed.image,
            shim_url=observed.shim_url,
        ),
        now,
    )
    before = function.status
    changed = activation.active != before.active_deployment or _edited(function)
    wishes = [SHIM_AWAY_SECONDS if observed.summary is None else None, schedule.look_again]
    return Plan(
        observed=observed,
        activation=activation,
        schedule=schedule,
        status=_status(observed, activation, schedule, now),
        waiting=tuple(item.metadata.key for item in observed.deployments if _waits(item)),
        activated=activation.active is not None and changed,
        history=_called(observed) and (_edited(function) or not before.executions.total),
        requeue=min((wish for wish in wishes if wish is not None), default=None),
    )


def schedule_refused(plan: Plan, reason: str, message: str, now: datetime) -> FunctionStatus:
    """Return the status to write when the API server refuses the CronJob."""
    return _status(plan.observed, plan.activation, refused(plan.schedule, reason, message), now)


def _edited(function: Function) -> bool:
    return function.metadata.generation != function.status.observed_generation


def _called(observed: Observed) -> bool:
    """Tell whether the Function was ever called, as far as is known."""
    before = observed.function.status.executions
    return (before if observed.summary is None else observed.summary.counts).total > 0


def _waits(deployment: Deployment) -> bool:
    """Tell whether the Deployment may wait for its Function: it is not built, and nothing is being built."""
    started = any(build.job for build in deployment.status.builds)
    return not started and deployment.status.phase in {None, BuildPhase.PROCESSING}


def _status(observed: Observed, activation: Activation, schedule: SchedulePlan, now: datetime) -> FunctionStatus:
    function = observed.function
    before, generation = function.status, function.metadata.generation
    found = _conditions(observed, activation, schedule)
    return FunctionStatus(
        observed_generation=generation,
        conditions=merge(before.conditions, found, generation=generation, now=now),
        active_deployment=activation.active,
        schedule_next=schedule.next,
        schedule_previous=schedule.previous,
        missed_ticks=before.missed_ticks + schedule.missed,
        late_ticks=before.late_ticks + schedule.late,
        executions=observed.summary.counts if observed.summary is not None else before.executions,
    )


def _conditions(observed: Observed, activation: Activation, schedule: SchedulePlan) -> list[Condition]:
    scheduled = [] if schedule.condition is None else [schedule.condition]
    return [_deployment_ready(activation), *scheduled, *_summary(observed, activation, schedule)]


def _deployment_ready(activation: Activation) -> Condition:
    problem = activation.problem
    type_ = ConditionType.DEPLOYMENT_READY
    if problem is not None:
        return condition(type_, ConditionStatus.FALSE, reason=problem.reason, message=problem.message)
    return condition(type_, ConditionStatus.TRUE, reason="DeploymentActive", message=activation.message)


def _summary(observed: Observed, activation: Activation, schedule: SchedulePlan) -> list[Condition]:
    """Return Ready, and Stalled or Reconciling while they hold.

    A Function that is disabled by its spec is as it should be: Ready, as its reason says, and healthy to GitOps tools.
    """
    function = observed.function
    problem = _not_a_project(observed) or schedule.problem
    if problem is None and not function.spec.enabled:
        return [_ready(ConditionStatus.TRUE, "Disabled", "spec.enabled is false: calls are refused")]
    problem = problem or unusable(function.spec.runtime, observed.runtime) or activation.problem
    if problem is None:
        return [_ready(ConditionStatus.TRUE, "Ready", f"calls go to {activation.active}")]
    going = ConditionType.RECONCILING if problem.severity is Severity.WAITING else ConditionType.STALLED
    return [
        _ready(ConditionStatus.FALSE, problem.reason, problem.message),
        condition(going, ConditionStatus.TRUE, reason=problem.reason, message=problem.message),
    ]


def _ready(status: ConditionStatus, reason: str, message: str) -> Condition:
    return condition(ConditionType.READY, status, reason=reason, message=message)


def _not_a_project(observed: Observed) -> Problem | None:
    return None if observed.project else not_a_project(observed.function.metadata.namespace)
