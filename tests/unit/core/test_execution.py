"""Executions: submitted once, mirrored, final, and deleted when their time is over."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfn import names
from appfn.api.conditions import ConditionType, find
from appfn.api.execution import Execution, ExecutionPhase, ExecutionStatus
from appfn.api.function import Function
from appfn.core.execution import MAX_OUTPUT, MAX_RESPONSE, Observed, accepted, decide, lookup_id, unaccepted
from appfn.core.history import decide as decide_history
from appfn.core.observed import ObservedExecution
from appfn.core.problem import BuildReason, Problem, Severity
from support.objects import NOW, ago, execution, function

READY = function(status={"activeDeployment": "v1"})
MIRROR = {"labels": {names.LABEL_MIRRORED: "true"}}
EARLIER = {"apiVersion": names.API_VERSION, "kind": "Function", "name": "hello", "uid": "uid-of-an-earlier-hello"}
FAILURE = {"component": "function", "reason": "Timeout", "message": "took longer than 15 s"}


def observe(
    item: Execution | None = None,
    *,
    of: Function | None = READY,
    project: bool = True,
    record: ObservedExecution | None = None,
) -> Observed:
    return Observed(execution=item or execution(), function=of, project=project, record=record)


def record(status: str = "completed", **fields: Any) -> ObservedExecution:
    default = {"id": "uid-run", "origin": "resource", "deployment": "v1", "attempt": 1, "statusCode": 200}
    times = {"createdAt": ago(3), "startTime": ago(2), "completionTime": ago(1)}
    return ObservedExecution.model_validate({**default, **times, "status": status, **fields})


def submitted(status: str = "waiting", **spec: Any) -> Execution:
    return execution(status={"executionId": "uid-run", "status": status}, **spec)


def over(**spec: Any) -> Execution:
    return execution(status=decide(observe(submitted(), record=record()), NOW).status.to_json(), **spec)


def told(status: ExecutionStatus) -> tuple[str, str]:
    found = find(status.conditions, ConditionType.SUCCEEDED)
    assert found is not None
    return str(found.status), found.reason


def test_a_new_execution_is_submitted_under_its_uid_and_gets_its_owner() -> None:
    plan = decide(observe(execution(data="x", headers={"a": "b"}, path="/p", method="GET")), NOW)

    assert plan.submit == {
        "namespace": "shop",
        "function": "hello",
        "uid": "uid-run",
        "data": "x",
        "headers": {"a": "b"},
        "path": "/p",
        "method": "GET",
    }
    assert plan.owner is not None


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        (observe(of=None), "FunctionNotFound"),
        (observe(of=function()), "FunctionNotReady"),
        (observe(of=function(enabled=False, status={"activeDeployment": "v1"})), "FunctionDisabled"),
        (observe(project=False), "NotAProject"),
        (observe(execution(meta={"ownerReferences": [EARLIER]})), "FunctionDeleted"),
    ],
)
def test_what_lacks_is_waited_for(observed: Observed, reason: str) -> None:
    plan = decide(observed, NOW)

    assert plan.submit is None
    assert told(plan.status) == ("Unknown", reason)
    assert find(plan.status.conditions, ConditionType.RECONCILING) is not None
    assert plan.requeue == 30


def test_a_submitted_execution_is_never_submitted_again() -> None:
    plan = decide(observe(submitted(), record=record("waiting")), NOW)

    assert plan.submit is None
    assert told(plan.status) == ("Unknown", "Waiting")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (record("waiting"), ("Unknown", "Waiting")),
        (record("processing"), ("Unknown", "Processing")),
        (record(), ("True", "Completed")),
        (record("failed", failure=FAILURE), ("False", "Timeout")),
        (record("failed"), ("False", "FunctionError")),
    ],
)
def test_the_record_is_mirrored(state: ObservedExecution, expected: tuple[str, str]) -> None:
    status = decide(observe(submitted(), record=state), NOW).status
    running = find(status.conditions, ConditionType.RECONCILING)

    assert told(status) == expected
    assert (running is not None) is (not state.status.terminal)
    assert (find(status.conditions, ConditionType.STALLED) is not None) is (expected[0] == "False")
    assert (status.completion_time is not None) is state.status.terminal


def test_the_result_has_duration_times_and_output() -> None:
    state = record(response="hi", stdout="out", stderr="err", duration=1.23456, coldStart=True, times={"runMs": 1234})

    status = decide(observe(submitted(), record=state), NOW).status

    assert (status.response, status.stdout, status.stderr, status.duration) == ("hi", "out", "err", "1.235")
    assert status.times is not None
    assert (status.cold_start, status.times.run_ms, status.truncated) == (True, 1234, False)


@pytest.mark.parametrize(
    ("field", "limit"), [("response", MAX_RESPONSE), ("stdout", MAX_OUTPUT), ("stderr", MAX_OUTPUT)]
)
def test_long_output_is_cut_and_says_so(field: str, limit: int) -> None:
    fits = decide(observe(submitted(), record=record(**{field: "x" * limit})), NOW).status
    cut = decide(observe(submitted(), record=record(**{field: "x" * limit + "y"})), NOW).status

    assert (fits.truncated, cut.truncated) == (False, True)
    assert getattr(cut, field) == "x" * limit


@given(text=st.text(alphabet=st.characters(codec=None), max_size=50))
def test_any_text_can_be_shown(text: str) -> None:
    state = record().model_copy(update={"stdout": text + "ü" * MAX_OUTPUT})

    status = decide(observe(submitted(), record=state), NOW).status

    assert len(status.stdout.encode()) <= MAX_OUTPUT
    assert status.truncated


def test_a_result_is_final_even_when_the_function_is_gone() -> None:
    plan = decide(observe(over(), of=None), NOW)

    assert lookup_id(over()) == ""
    assert (plan.submit, plan.delete, plan.requeue) == (None, False, None)
    assert plan.status == over().status


def test_a_lost_record_is_named_an_unknown_outcome_and_not_run_again() -> None:
    plan = decide(observe(submitted("processing")), NOW)

    assert plan.submit is None
    assert told(plan.status) == ("False", "ExecutorLost")
    assert plan.status.status is ExecutionPhase.FAILED
    assert plan.status.failure is not None
    assert "unknown" in plan.status.failure.message


def test_an_execution_is_deleted_when_its_time_to_live_is_over() -> None:
    item = over(ttlSecondsAfterFinished=10)

    early = decide(observe(item), NOW + timedelta(seconds=8))
    late = decide(observe(item), NOW + timedelta(seconds=9))

    assert (early.delete, early.requeue) == (False, 1)
    assert late.delete


def test_without_a_time_to_live_it_stays() -> None:
    plan = decide(observe(over()), NOW + timedelta(days=999))

    assert (plan.delete, plan.requeue) == (False, None)


def test_a_mirror_is_never_submitted() -> None:
    mirror = execution(meta=MIRROR, id="call-1")

    assert lookup_id(mirror) == "call-1"
    assert decide(observe(mirror), NOW).submit is None
    assert told(decide(observe(mirror, record=record(id="call-1")), NOW).status) == ("True", "Completed")
    assert decide(observe(execution(meta=MIRROR)), NOW).submit is None


@pytest.mark.parametrize(
    ("problem", "expected", "phase"),
    [
        (Problem.waiting(BuildReason.SHIM_UNAVAILABLE, "x"), ("Unknown", "ShimUnavailable"), ExecutionPhase.WAITING),
        (
            Problem(severity=Severity.FAILED, reason="Rejected", message="x"),
            ("False", "FunctionUnavailable"),
            ExecutionPhase.FAILED,
        ),
    ],
)
def test_what_the_shim_does_not_take_shows(problem: Problem, expected: tuple[str, str], phase: ExecutionPhase) -> None:
    status = unaccepted(execution(), problem, NOW)

    assert told(status) == expected
    assert status.status is phase
    assert status.execution_id == ""


@pytest.mark.parametrize(
    "observed",
    [
        observe(of=None),
        observe(submitted(), record=record("waiting")),
        observe(submitted(), record=record("processing")),
        observe(submitted(), record=record()),
        observe(submitted(), record=record("failed", failure=FAILURE)),
        observe(submitted()),
        observe(over()),
    ],
)
def test_at_rest_nothing_is_written(observed: Observed) -> None:
    once = decide(observed, NOW)
    settled = observed.execution.model_copy(update={"status": ExecutionStatus.model_validate(once.status.to_json())})

    twice = decide(replace(observed, execution=settled), NOW + timedelta(seconds=5))

    assert twice.status == settled.status


def test_an_accepted_execution_carries_its_id() -> None:
    assert accepted(execution(), record("waiting"), NOW).execution_id == "uid-run"


def call(number: int, status: str = "completed", origin: str = "api") -> ObservedExecution:
    return record(status, id=f"call{number}", origin=origin)


def mirrors(*numbers: int) -> list[Execution]:
    return [
        execution(names.mirrored_execution("hello", f"call{number}"), meta=MIRROR, id=f"call{number}")
        for number in numbers
    ]


def test_the_newest_calls_of_each_outcome_are_mirrored() -> None:
    recent = [call(9), call(8, "failed"), call(7), call(6), call(5), call(4, "failed")]

    plan = decide_history(function(), recent, [])

    assert [body["spec"]["id"] for body in plan.create] == ["call9", "call7", "call6", "call8"]
    assert {body["metadata"]["labels"][names.LABEL_MIRRORED] for body in plan.create} == {"true"}
    assert "data" not in plan.create[0]["spec"]


def test_older_mirrors_go_and_present_ones_stay() -> None:
    plan = decide_history(function(), [call(9), call(8), call(7)], mirrors(8, 7, 6, 5))

    assert [body["spec"]["id"] for body in plan.create] == ["call9"]
    assert sorted(item.spec.id or "" for item in plan.delete) == ["call5", "call6"]


def test_a_limit_of_zero_shows_nothing() -> None:
    none = function(successfulExecutionsHistoryLimit=0, failedExecutionsHistoryLimit=0)

    plan = decide_history(none, [call(9), call(8, "failed")], mirrors(9))

    assert (plan.create, len(plan.delete)) == ((), 1)


def test_what_a_user_applied_is_neither_mirrored_nor_deleted() -> None:
    plan = decide_history(function(), [call(9, origin="resource")], [execution("mine")])

    assert (plan.create, plan.delete) == ((), ())


def asked_again(item: Execution, value: str) -> Execution:
    annotations = {**item.metadata.annotations, names.ANNOTATION_REPLAY: value}
    return item.model_copy(update={"metadata": item.metadata.model_copy(update={"annotations": annotations})})


def test_an_ended_execution_is_run_again_once_for_each_new_value_of_its_annotation() -> None:
    first = asked_again(over(path="/p", data="secret"), "1")

    plan = decide(observe(first), NOW)

    assert plan.repeat is not None
    assert plan.repeat["metadata"]["annotations"] == {names.ANNOTATION_REPLAY_OF: "uid-run"}
    assert plan.repeat["spec"] == {"functionRef": {"name": "hello"}, "path": "/p", "method": "POST"}
    assert plan.status.replay_token == "1"
    assert plan.status.model_copy(update={"replay_token": ""}) == first.status
    settled = first.model_copy(update={"status": plan.status})
    assert decide(observe(settled), NOW).repeat is None
    second = decide(observe(asked_again(settled, "2")), NOW)
    assert second.repeat is not None
    assert second.repeat["metadata"]["name"] != plan.repeat["metadata"]["name"]


@pytest.mark.parametrize(
    "observed",
    [
        observe(asked_again(submitted(), "1"), record=record("processing")),
        observe(asked_again(execution(), "1")),
        observe(asked_again(over(), "")),
        observe(asked_again(over(), "1"), project=False),
    ],
    ids=["running", "new", "empty", "no project"],
)
def test_nothing_else_is_run_again(observed: Observed) -> None:
    plan = decide(observed, NOW)

    assert (plan.repeat, plan.status.replay_token) == (None, "")


def test_a_mirror_is_run_again_from_what_the_shim_has() -> None:
    mirror = execution(meta=MIRROR, id="call-1")
    shown = decide(observe(mirror, record=record(id="call-1")), NOW).status
    plan = decide(observe(asked_again(mirror.model_copy(update={"status": shown}), "1")), NOW)

    assert plan.repeat is not None
    assert plan.repeat["metadata"]["annotations"] == {names.ANNOTATION_REPLAY_OF: "call-1"}
    assert "labels" not in plan.repeat["metadata"]
    assert "id" not in plan.repeat["spec"]


def test_one_that_never_came_to_the_shim_is_copied() -> None:
    item = execution(data="x", headers={"a": "b"})
    refused = unaccepted(item, Problem(severity=Severity.FAILED, reason="Rejected", message="x"), NOW)
    plan = decide(observe(asked_again(item.model_copy(update={"status": refused}), "1")), NOW)

    assert plan.repeat is not None
    assert "annotations" not in plan.repeat["metadata"]
    assert (plan.repeat["spec"]["data"], plan.repeat["spec"]["headers"]) == ("x", {"a": "b"})


def test_a_time_to_live_that_is_over_does_not_swallow_a_replay() -> None:
    plan = decide(observe(asked_again(over(ttlSecondsAfterFinished=0), "1")), NOW)

    assert plan.delete
    assert plan.repeat is not None


def test_a_replay_is_submitted_by_the_id_of_what_it_repeats() -> None:
    replay = execution(meta={"annotations": {names.ANNOTATION_REPLAY_OF: "call-1"}}, data="ignored")

    assert decide(observe(replay), NOW).submit == {
        "namespace": "shop",
        "function": "hello",
        "uid": "uid-run",
        "replayOf": "call-1",
    }


def test_the_mirror_of_a_replay_says_so() -> None:
    again = record(id="call2", origin="api", replayOf="call1")

    (manifest,) = decide_history(function(), [again], []).create

    assert manifest["metadata"]["annotations"] == {names.ANNOTATION_REPLAY_OF: "call1"}
