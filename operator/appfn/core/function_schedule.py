"""The schedule of a Function: its CronJob, its ticks and the condition `Scheduled`."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from appfn import names
from appfn.api.base import Json
from appfn.api.conditions import Condition, ConditionStatus, ConditionType, condition
from appfn.api.function import Function
from appfn.core.manifests.cron_job import cron_job, keeps_time
from appfn.core.manifests.drift import contains
from appfn.core.manifests.meta import controller_uid
from appfn.core.observed import Summary
from appfn.core.problem import Problem, Severity
from appfn.core.schedule import Schedule, account_ticks, parse_schedule
from appfn.errors import InvalidSpecError

SETTLE_SECONDS = 15.0
"""How long after a tick its execution is there, as a rule; the change feed usually tells before."""
OPEN_SECONDS = 60.0
"""How often to look while a tick is due without an execution."""
MAX_LOOK_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulePlan:
    """What the schedule needs, and what the status says of it."""

    condition: Condition | None = None
    """`Scheduled`; None where the Function has no schedule."""
    problem: Problem | None = None
    next: datetime | None = None
    previous: datetime | None = None
    missed: int = 0
    """Ticks found missed now, to be added to those known."""
    late: int = 0
    apply: Json | None = None
    """The CronJob to apply; None where it is as it should be."""
    obsolete: Json | None = None
    """The CronJob to delete."""
    look_again: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleObserved:
    """What a schedule depends on."""

    function: Function
    project: bool
    cron_job: Json | None
    summary: Summary | None
    image: str
    shim_url: str


def plan_schedule(observed: ScheduleObserved, now: datetime) -> SchedulePlan:
    """Conclude what the schedule needs."""
    function, existing = observed.function, observed.cron_job
    owned = existing is not None and controller_uid(existing) == function.metadata.uid
    gone = SchedulePlan(obsolete=existing if owned else None)
    if not observed.project:
        return SchedulePlan()
    if not function.spec.schedule.strip():
        return gone
    try:
        schedule = parse_schedule(function.spec.schedule, function.spec.time_zone)
    except InvalidSpecError as error:
        return _with_problem(gone, "InvalidSchedule", str(error))
    if existing is not None and not owned:
        message = f"CronJob {names.cron_job(function.metadata.name)} belongs to something else; delete it or rename"
        return _with_problem(SchedulePlan(previous=function.status.schedule_previous), "NotOwned", message)
    return _valid(observed, schedule, now)


def refused(plan: SchedulePlan, reason: str, message: str) -> SchedulePlan:
    """Return the plan as it stands when the API server refused the CronJob."""
    return _with_problem(replace(plan, next=None, apply=None), reason, f"the CronJob is refused: {message}")


def _valid(observed: ScheduleObserved, schedule: Schedule, now: datetime) -> SchedulePlan:
    function, existing = observed.function, observed.cron_job
    manifest = cron_job(function, schedule, image=observed.image, shim_url=observed.shim_url)
    apply = None if existing is not None and contains(existing, manifest) else manifest
    if not function.spec.enabled:
        told = _scheduled(ConditionStatus.FALSE, "Suspended", "spec.enabled is false: no tick runs")
        return SchedulePlan(condition=told, previous=function.status.schedule_previous, apply=apply)
    told = _scheduled(ConditionStatus.TRUE, "Scheduled", f"{function.spec.schedule} in {schedule.zone.key}")
    plan = SchedulePlan(condition=told, previous=function.status.schedule_previous, apply=apply)
    return _with_ticks(plan, observed, schedule, manifest, now)


def _with_ticks(
    plan: SchedulePlan, observed: ScheduleObserved, schedule: Schedule, manifest: Json, now: datetime
) -> SchedulePlan:
    """Account for what was due. A schedule that is new or changed begins now and owes nothing."""
    due = observed.function.status.schedule_next
    if due is None or _begins(observed, manifest):
        return _look_at(replace(plan, next=schedule.next_after(now)), now)
    if due > now or observed.summary is None:
        return _look_at(replace(plan, next=due), now)
    account = account_ticks(schedule, due=due, ticks=observed.summary.ticks, now=now)
    plan = replace(
        plan,
        next=account.next,
        previous=account.previous or plan.previous,
        missed=account.missed,
        late=account.late,
    )
    return _look_at(plan, now) if account.complete else replace(plan, look_again=0.0)


def _begins(observed: ScheduleObserved, manifest: Json) -> bool:
    """Tell whether the schedule is not the one that `status.scheduleNext` was computed from.

    The CronJob remembers that one. Where it was deleted by hand, an unchanged generation says the same.
    """
    function = observed.function
    if observed.cron_job is None:
        return function.status.observed_generation != function.metadata.generation
    return not keeps_time(observed.cron_job, manifest)


def _look_at(plan: SchedulePlan, now: datetime) -> SchedulePlan:
    if plan.next is None:
        return plan
    away = (plan.next - now) / timedelta(seconds=1)
    return replace(plan, look_again=min(away + SETTLE_SECONDS, MAX_LOOK_SECONDS) if away > 0 else OPEN_SECONDS)


def _with_problem(plan: SchedulePlan, reason: str, message: str) -> SchedulePlan:
    problem = Problem(severity=Severity.STALLED, reason=reason, message=message)
    return replace(plan, condition=_scheduled(ConditionStatus.FALSE, reason, message), problem=problem)


def _scheduled(status: ConditionStatus, reason: str, message: str) -> Condition:
    return condition(ConditionType.SCHEDULED, status, reason=reason, message=message)
