"""Functions: which Deployment is active, and what conditions, CronJob and counts follow."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from appfn.api.base import Json
from appfn.api.conditions import ConditionType, find
from appfn.api.deployment import Deployment
from appfn.api.function import ExecutionCounts, Function, FunctionStatus
from appfn.api.runtime import Runtime
from appfn.core.activation import choose, next_turn
from appfn.core.function import Observed, Plan, decide, schedule_refused
from appfn.core.observed import Summary, Tick
from appfn.core.schedule import GRACE
from support.objects import NOW, ago, deployment, function, ready_deployment, runtime, stamp

RUNTIME, EMPTY = runtime(), Summary()
V1, V2 = ready_deployment("v1", age=100), ready_deployment("v2", age=50)
BUILDING = deployment("v3", status={"phase": "building"}, meta={"creationTimestamp": ago(10)})
FAILED = deployment("v4", status={"phase": "failed"}, meta={"creationTimestamp": ago(5)})

CANCELED = deployment("v5", status={"phase": "canceled"}, meta={"creationTimestamp": ago(5)})


def turned(name: str, seconds: float, **spec: Any) -> Deployment:
    """Return a ready Deployment that was made long ago and activated so many seconds ago."""
    return annotated(name, (NOW - timedelta(seconds=seconds)).isoformat(), **spec)


def told_wrongly(name: str) -> Deployment:
    return annotated(name, "tomorrow")


def annotated(name: str, activated: str, **spec: Any) -> Deployment:
    status = {"phase": "ready", "conditions": [{"type": "Ready", "status": "True", "reason": "BuildReady"}]}
    meta = {"creationTimestamp": ago(1000), "annotations": {"appfn.dev/activated": activated}}
    return deployment(name, status=status, meta=meta, **spec)


def observe(
    of: Function | None = None,
    *deployments: Deployment,
    using: Runtime | None = RUNTIME,
    project: bool = True,
    cron_job: Json | None = None,
    summary: Summary | None = EMPTY,
) -> Observed:
    return Observed(
        function=of or function(),
        runtime=using,
        project=project,
        deployments=deployments or (V1,),
        cron_job=cron_job,
        summary=summary,
        image="appfn",
        shim_url="http://shim",
    )


def told(status: FunctionStatus, type_: ConditionType) -> tuple[str, str] | None:
    found = find(status.conditions, type_)
    return None if found is None else (str(found.status), found.reason)


def active(name: str) -> Json:
    return {"activeDeployment": name}


@pytest.mark.parametrize(
    ("of", "deployments", "expected", "reason"),
    [
        pytest.param(function(), (V1, V2), "v2", None, id="the newest ready one"),
        pytest.param(function(), (V2, V1), "v2", None, id="whatever the order of the list"),
        pytest.param(function(), (V1, BUILDING), "v1", None, id="the old one goes on while the new one is built"),
        pytest.param(function(), (V1, FAILED), "v1", None, id="and when the new one fails"),
        pytest.param(function(), (V1, ready_deployment("x", age=1, activate=False)), "v1", None, id="activate false"),
        pytest.param(function(), (ready_deployment("x", activate=False),), None, "NoDeployment", id="none to activate"),
        pytest.param(function(), (), None, "NoDeployment", id="none at all"),
        pytest.param(function(), (BUILDING,), None, "DeploymentNotReady", id="the first is being built"),
        pytest.param(function(), (FAILED,), None, "BuildFailed", id="the first failed"),
        pytest.param(function(deployment="v1"), (V1, V2), "v1", None, id="a pin wins over newer ones"),
        pytest.param(
            function(deployment="x"), (ready_deployment("x", activate=False),), "x", None, id="a pin needs no activate"
        ),
        pytest.param(
            function(deployment="v9", status=active("v1")),
            (V1, V2),
            "v1",
            "DeploymentNotFound",
            id="a missing pin keeps",
        ),
        pytest.param(
            function(deployment="v3", status=active("v1")), (V1, BUILDING), "v1", "DeploymentNotReady", id="unready pin"
        ),
        pytest.param(
            function(deployment="v4", status=active("v1")), (V1, FAILED), "v1", "BuildFailed", id="a failed pin keeps"
        ),
        pytest.param(function(deployment="v9", status=active("v8")), (V1,), None, "DeploymentNotFound", id="both gone"),
        pytest.param(function(), (turned("v1", 10), V2), "v1", None, id="activated after a newer one was made"),
        pytest.param(
            function(), (turned("v1", 10), ready_deployment("x", age=5)), "x", None, id="made after an activation"
        ),
        pytest.param(function(), (turned("v1", 10), turned("v2", 20)), "v1", None, id="the last activation"),
        pytest.param(
            function(), (turned("x", 10, activate=False), V2), "x", None, id="activated without asking for it"
        ),
        pytest.param(function(), (turned("v1", 10), BUILDING), "v1", None, id="until what was made later is ready"),
        pytest.param(function(deployment="v2"), (turned("v1", 1), V2), "v2", None, id="a pin wins over activations"),
        pytest.param(function(), (told_wrongly("v1"), V2), "v2", None, id="an annotation that is no time"),
        pytest.param(function(), (CANCELED,), None, "BuildCanceled", id="the first was canceled"),
    ],
)
def test_calls_go_to(of: Function, deployments: Sequence[Deployment], expected: str | None, reason: str | None) -> None:
    found = choose(of, deployments)

    assert found.active == expected
    assert (found.problem.reason if found.problem else None) == reason


@pytest.mark.parametrize("behind", [timedelta(0), timedelta(hours=1)])
def test_the_next_activation_comes_last_whatever_the_clock_says(behind: timedelta) -> None:
    known = [V1, V2, turned("v3", 5), annotated("v4", "9999-12-31T23:59:59.999999+00:00")]

    turn = next_turn(known, NOW - behind)

    assert choose(function(), [*known, annotated("last", turn)]).active == "last"


def test_deployments_that_go_with_an_earlier_function_or_are_deleted_do_not_count() -> None:
    owner = {"apiVersion": "appfn.dev/v1alpha1", "kind": "Function", "name": "hello", "uid": "before"}
    status = {"phase": "ready", "conditions": [{"type": "Ready", "status": "True", "reason": "R"}]}
    orphan = deployment("orphan", status=status, meta={"ownerReferences": [owner]})
    leaving = deployment("leaving", status=status, meta={"deletionTimestamp": ago(1)})

    assert choose(function(), [orphan, leaving]).active is None


@pytest.mark.parametrize(
    ("observed", "ready", "going"),
    [
        pytest.param(observe(), ("True", "Ready"), None, id="all is well"),
        pytest.param(
            observe(None, BUILDING), ("False", "DeploymentNotReady"), ConditionType.RECONCILING, id="building"
        ),
        pytest.param(observe(None, FAILED), ("False", "BuildFailed"), ConditionType.STALLED, id="build failed"),
        pytest.param(observe(using=None), ("False", "RuntimeNotFound"), ConditionType.STALLED, id="no runtime"),
        pytest.param(
            observe(using=runtime(enabled=False)), ("False", "RuntimeDisabled"), ConditionType.STALLED, id="runtime off"
        ),
        pytest.param(observe(project=False), ("False", "NotAProject"), ConditionType.STALLED, id="no project"),
        pytest.param(observe(function(enabled=False)), ("True", "Disabled"), None, id="disabled by its spec"),
        pytest.param(
            observe(function(schedule="61 * * * *")), ("False", "InvalidSchedule"), ConditionType.STALLED, id="schedule"
        ),
    ],
)
def test_readiness_says_what_is_wrong(observed: Observed, ready: tuple[str, str], going: ConditionType | None) -> None:
    status = decide(observed, NOW).status

    assert told(status, ConditionType.READY) == ready
    for type_ in (ConditionType.RECONCILING, ConditionType.STALLED):
        assert told(status, type_) == (("True", ready[1]) if type_ is going else None)


def test_a_wrong_schedule_is_named_with_its_path_and_its_cron_job_goes() -> None:
    before = scheduled()
    status = decide(observe(function(schedule="61 * * * *"), cron_job=before.schedule.apply), NOW)
    condition = find(status.status.conditions, ConditionType.SCHEDULED)

    assert condition is not None
    assert condition.message.startswith("spec.schedule: ")
    assert status.schedule.obsolete is not None


def scheduled(**spec: Any) -> Plan:
    return decide(observe(function(schedule="*/10 * * * *", **spec)), NOW)


def test_a_schedule_makes_a_cron_job_and_owes_nothing_from_before() -> None:
    plan = scheduled()

    assert plan.schedule.apply is not None
    assert told(plan.status, ConditionType.SCHEDULED) == ("True", "Scheduled")
    assert plan.status.schedule_next == NOW + timedelta(minutes=10)
    assert (plan.status.schedule_previous, plan.status.missed_ticks) == (None, 0)
    assert plan.requeue == 615


def settled(**changes: Any) -> Observed:
    """Return a Function whose schedule has been set up, with a tick due at NOW + 10 min."""
    plan = scheduled()
    of = function(schedule="*/10 * * * *", status=plan.status.to_json())
    assert plan.schedule.apply is not None
    return replace(observe(of, cron_job=plan.schedule.apply), **changes)


def test_a_tick_that_ran_moves_the_schedule_on() -> None:
    tick = NOW + timedelta(minutes=10)
    ran = Summary(ticks=[Tick(scheduled_at=tick, created_at=tick + timedelta(seconds=90))])

    status = decide(settled(summary=ran), tick + timedelta(seconds=95)).status

    assert (status.schedule_previous, status.schedule_next) == (tick, tick + timedelta(minutes=10))
    assert (status.missed_ticks, status.late_ticks) == (0, 1)


def test_a_tick_without_execution_is_missed_after_the_grace() -> None:
    tick = NOW + timedelta(minutes=10)

    waiting = decide(settled(), tick + timedelta(seconds=30))
    missed = decide(settled(), tick + GRACE + timedelta(seconds=1))

    assert (waiting.status.schedule_next, waiting.status.missed_ticks) == (tick, 0)
    assert waiting.requeue == 60
    assert (missed.status.schedule_previous, missed.status.missed_ticks) == (tick, 1)


def test_while_the_shim_is_away_no_tick_is_judged_and_counts_stay() -> None:
    later = NOW + timedelta(hours=2)
    of = settled().function
    counted = of.model_copy(update={"status": of.status.model_copy(update={"executions": ExecutionCounts(total=7)})})

    plan = decide(replace(settled(), function=counted, summary=None), later)

    assert plan.status.missed_ticks == 0
    assert plan.status.executions.total == 7
    assert plan.requeue == 30


@pytest.mark.parametrize("edit", [{"schedule": "*/15 * * * *"}, {"timeZone": "Asia/Kathmandu"}])
def test_a_changed_schedule_begins_now_and_changes_the_cron_job(edit: Json) -> None:
    later = NOW + timedelta(hours=2, minutes=1)
    spec: Json = {"schedule": "*/10 * * * *"} | edit
    of = function(status=settled().function.status.to_json(), **spec)

    plan = decide(replace(settled(), function=of), later)

    assert plan.schedule.apply is not None
    assert plan.status.missed_ticks == 0
    assert plan.status.schedule_next is not None
    assert plan.status.schedule_next > later


def test_a_cron_job_deleted_by_hand_is_made_again_and_its_missed_ticks_are_counted() -> None:
    plan = decide(settled(cron_job=None), NOW + timedelta(minutes=10) + GRACE + timedelta(seconds=1))

    assert plan.schedule.apply is not None
    assert plan.status.missed_ticks == 1


def test_a_removed_schedule_removes_cron_job_and_condition() -> None:
    plan = decide(replace(settled(), function=function(status=settled().function.status.to_json())), NOW)

    assert plan.schedule.obsolete is not None
    assert told(plan.status, ConditionType.SCHEDULED) is None
    assert plan.status.schedule_next is None


def test_a_disabled_function_suspends_its_schedule() -> None:
    off = function(schedule="*/10 * * * *", enabled=False, status=settled().function.status.to_json())

    plan = decide(replace(settled(), function=off), NOW + timedelta(hours=2))

    assert plan.schedule.apply is not None
    assert plan.schedule.apply["spec"]["suspend"] is True
    assert told(plan.status, ConditionType.SCHEDULED) == ("False", "Suspended")
    assert (plan.status.schedule_next, plan.status.missed_ticks) == (None, 0)


def test_a_cron_job_of_somebody_else_is_neither_taken_nor_deleted() -> None:
    foreign = {"metadata": {"name": "hello-schedule"}, "spec": {}}

    with_schedule = decide(observe(function(schedule="* * * * *"), cron_job=foreign), NOW)
    without = decide(observe(cron_job=foreign), NOW)

    assert (with_schedule.schedule.apply, with_schedule.schedule.obsolete) == (None, None)
    assert told(with_schedule.status, ConditionType.SCHEDULED) == ("False", "NotOwned")
    assert without.schedule.obsolete is None


def test_a_refused_cron_job_shows_in_the_conditions() -> None:
    status = schedule_refused(scheduled(), "Rejected", "spec.timeZone: unknown", NOW)

    assert told(status, ConditionType.SCHEDULED) == ("False", "Rejected")
    assert told(status, ConditionType.READY) == ("False", "Rejected")
    assert status.schedule_next is None


@pytest.mark.parametrize(
    "observed",
    [
        observe(),
        observe(None, BUILDING),
        observe(None, V1, FAILED),
        observe(using=None),
        observe(function(enabled=False)),
        observe(function(schedule="bad")),
        settled(),
        observe(summary=Summary(counts=ExecutionCounts(total=3, completed=2, failed=1))),
    ],
)
def test_at_rest_nothing_is_written(observed: Observed) -> None:
    once = decide(observed, NOW)
    resting = observed.function.model_copy(update={"status": FunctionStatus.model_validate(once.status.to_json())})

    twice = decide(replace(observed, function=resting), NOW + timedelta(seconds=1))

    assert twice.status == resting.status
    assert (twice.schedule.apply, twice.schedule.obsolete, twice.activated) == (None, None, False)


def test_what_waited_for_the_function_is_woken() -> None:
    new = deployment("new")
    first = decide(observe(None, V1, new, BUILDING), NOW)
    started = deployment(
        "new", status={"phase": "processing", "builds": [{"architecture": "amd64", "phase": "processing", "job": "j"}]}
    )

    assert [key.name for key in first.waiting] == ["new"]
    assert first.activated
    assert decide(observe(None, V1, started), NOW).waiting == ()


def test_times_are_as_kubernetes_writes_them() -> None:
    assert scheduled().status.to_json()["scheduleNext"] == stamp(NOW + timedelta(minutes=10))


def test_a_history_is_due_when_a_function_that_was_called_is_edited_and_when_nobody_told_of_the_first_calls() -> None:
    settled = function(status={"observedGeneration": 1})
    counted = function(status={"observedGeneration": 1, "executions": {"total": 2, "completed": 2}})
    called = Summary(counts=ExecutionCounts(total=3, completed=3))

    assert not decide(observe(settled), NOW).history
    assert not decide(observe(settled, summary=None), NOW).history
    assert decide(observe(settled, summary=called), NOW).history
    assert not decide(observe(counted, summary=called), NOW).history, "the change feed tells of these"
    edited = {"observedGeneration": 0}
    assert decide(observe(function(status=edited), summary=called), NOW).history
    assert decide(observe(function(status=edited | {"executions": {"total": 2}}), summary=None), NOW).history
    assert not decide(observe(function(status=edited)), NOW).history, "it was never called"
