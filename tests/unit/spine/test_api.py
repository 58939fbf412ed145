"""Typed resources: what they take, what they refuse, where they say so."""

from datetime import UTC, datetime, timedelta

import pytest

from appfn.api.conditions import (
    MAX_MESSAGE,
    Condition,
    ConditionStatus,
    ConditionType,
    condition,
    find,
    is_true,
    merge,
)
from appfn.api.deployment import Deployment
from appfn.api.execution import ExecutionPhase
from appfn.api.function import Function
from appfn.api.runtime import Architecture, Runtime
from appfn.errors import InvalidSpecError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_function_is_parsed_with_its_defaults() -> None:
    function = Function.parse({"metadata": {"name": "hello", "namespace": "demo"}, "spec": {"runtime": "node-20.0"}})

    assert function.spec.timeout == 15
    assert function.spec.enabled
    assert function.spec.scaling.min_replicas == 0
    assert str(function.metadata.key) == "demo/hello"
    assert (function.appwrite_id, function.display_name) == ("hello", "hello")


def test_a_function_shows_the_id_and_name_it_was_given() -> None:
    spec = {"runtime": "node-20.0", "id": "Hello_1", "displayName": "Hello!"}
    function = Function.parse({"metadata": {"name": "hello-1"}, "spec": spec})

    assert (function.appwrite_id, function.display_name) == ("Hello_1", "Hello!")


def test_an_error_names_the_path_as_the_user_wrote_it() -> None:
    spec = {"runtime": "node-20.0", "scaling": {"minReplicas": "two"}}

    with pytest.raises(InvalidSpecError) as caught:
        Function.parse({"metadata": {"name": "hello"}, "spec": spec})

    assert caught.value.path == "spec.scaling.minReplicas"


def test_a_resource_goes_back_to_the_json_it_came_from() -> None:
    status = {"phase": "ready", "sourceDigest": "sha256:1", "observedGeneration": 1, "retryToken": ""}
    spec = {"functionRef": {"name": "hello"}, "source": {"inline": {"files": {"main.py": ""}}}}
    deployment = Deployment.parse({"metadata": {"name": "v1"}, "spec": spec, "status": status})

    assert deployment.status.to_json() == status | {"conditions": [], "builds": []}


def test_a_runtime_knows_its_image_of_an_architecture() -> None:
    spec = {
        "language": "node",
        "version": "20.0",
        "displayName": "Node.js",
        "images": [{"architecture": "amd64", "image": "a"}],
        "buildCommand": "b",
        "startCommand": "s",
    }
    runtime = Runtime.parse({"metadata": {"name": "node-20.0"}, "spec": spec})

    assert runtime.spec.image(Architecture.AMD64) == "a"
    assert runtime.spec.image(Architecture.ARM64) is None


@pytest.mark.parametrize(
    ("phase", "terminal"),
    [
        (ExecutionPhase.WAITING, False),
        (ExecutionPhase.PROCESSING, False),
        (ExecutionPhase.COMPLETED, True),
        (ExecutionPhase.FAILED, True),
    ],
)
def test_only_completed_and_failed_are_final(phase: ExecutionPhase, *, terminal: bool) -> None:
    assert phase.terminal is terminal


def ready(status: ConditionStatus, reason: str = "Because") -> Condition:
    return condition(ConditionType.READY, status, reason=reason)


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    old = merge([], [ready(ConditionStatus.FALSE)], generation=1, now=NOW)
    later = NOW + timedelta(minutes=1)

    same = merge(old, [ready(ConditionStatus.FALSE, "Other")], generation=2, now=later)
    flipped = merge(same, [ready(ConditionStatus.TRUE)], generation=2, now=later)

    assert (same[0].last_transition_time, same[0].reason, same[0].observed_generation) == (NOW, "Other", 2)
    assert flipped[0].last_transition_time == later


def test_a_condition_that_no_longer_holds_is_dropped() -> None:
    old = merge([], [condition(ConditionType.STALLED, ConditionStatus.TRUE, reason="x")], generation=1, now=NOW)

    assert merge(old, [ready(ConditionStatus.TRUE)], generation=1, now=NOW)[0].type is ConditionType.READY
    assert find(merge(old, [], generation=1, now=NOW), ConditionType.STALLED) is None


def test_a_long_message_is_cut() -> None:
    cut = condition(ConditionType.READY, ConditionStatus.FALSE, reason="x", message="m" * (MAX_MESSAGE + 1))

    assert len(cut.message) == MAX_MESSAGE
    assert cut.message.endswith("…")


def test_an_absent_condition_is_not_true() -> None:
    assert not is_true([], ConditionType.READY)
    assert is_true([ready(ConditionStatus.TRUE)], ConditionType.READY)
