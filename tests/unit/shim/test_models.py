from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from appfn.api.execution import Component, ExecutionPhase, Failure, FailureReason, Trigger
from appfn.core.records import ExecutionRecord, Origin
from appfn.shim import formats, models
from appfn.shim.formats import Format
from support.executions import a_finished, a_request, an_outcome

AT = datetime(2023, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC)
RECORD = a_finished(at=AT, id="e1", permissions=('read("user:u1")',), headers={"content-type": "text/x", "x-key": "k"})


def shown(record: ExecutionRecord, format_: Format, *, logs: bool = True) -> dict[str, object]:
    return models.execution(record, format_, function_id="fn", deployment_id="dep", logs=logs)


@pytest.mark.parametrize(
    ("header", "format_"),
    [
        ("0.13.0", Format.V0),
        ("0.15.3", Format.V0),
        ("1.0.0", Format.V1_0),
        ("1.3.7", Format.V1_0),
        ("1.4.0", Format.V1_4),
        ("1.6.1", Format.V1_6),
        ("1.10", Format.V1_7),
        ("2.5.0", Format.V1_7),
        (None, Format.V1_7),
        ("", Format.V1_7),
        ("latest", Format.V1_7),
        ("1.0.0; drop", Format.V1_7),
        ("٣.0.0", Format.V1_7),
    ],
)
def test_the_header_tells_the_format(header: str | None, format_: Format) -> None:
    assert formats.negotiate(header) is format_


def test_the_model_of_0_15() -> None:
    assert shown(RECORD, Format.V0) == {
        "$id": "e1",
        "$createdAt": 1675397106,
        "$updatedAt": 1675397106,
        "$read": ["user:u1"],
        "functionId": "fn",
        "trigger": "http",
        "status": "completed",
        "statusCode": 200,
        "response": "hello",
        "stderr": "err",
        "time": 0.25,
    }


def test_the_model_of_1_0() -> None:
    assert shown(RECORD, Format.V1_0) == {
        "$id": "e1",
        "$createdAt": "2023-02-03T04:05:06.789+00:00",
        "$updatedAt": "2023-02-03T04:05:06.789+00:00",
        "$permissions": ['read("user:u1")'],
        "functionId": "fn",
        "trigger": "http",
        "status": "completed",
        "statusCode": 200,
        "response": "hello",
        "stdout": "out",
        "stderr": "err",
        "duration": 0.25,
    }


def test_the_model_of_1_4() -> None:
    assert shown(RECORD, Format.V1_4) == {
        "$id": "e1",
        "$createdAt": "2023-02-03T04:05:06.789+00:00",
        "$updatedAt": "2023-02-03T04:05:06.789+00:00",
        "$permissions": ['read("user:u1")'],
        "functionId": "fn",
        "resourceId": "fn",
        "resourceType": "functions",
        "deploymentId": "dep",
        "trigger": "http",
        "status": "completed",
        "requestMethod": "POST",
        "requestPath": "/",
        "requestHeaders": [{"name": "content-type", "value": "text/x"}],
        "responseStatusCode": 200,
        "responseBody": "hello",
        "responseHeaders": [],
        "logs": "out",
        "errors": "err",
        "duration": 0.25,
        "scheduledAt": "",
        "replayOf": "",
    }


@pytest.mark.parametrize(
    ("format_", "blank"),
    [(Format.V0, ["stderr"]), (Format.V1_0, ["stdout", "stderr"]), (Format.V1_4, ["logs", "errors"])],
)
def test_logs_are_blank_for_those_who_may_not_see_them(format_: Format, blank: list[str]) -> None:
    model = shown(RECORD, format_, logs=False)

    assert [model[name] for name in blank] == [""] * len(blank)
    assert "hello" in {model.get("response"), model.get("responseBody")}


@pytest.mark.parametrize("format_", list(Format))
def test_an_execution_that_waits_has_empty_results(format_: Format) -> None:
    waiting = ExecutionRecord(request=a_request(), phase=ExecutionPhase.WAITING, created_at=AT, updated_at=AT)

    model = shown(waiting, format_)

    assert model["status"] == "waiting"
    assert {model.get("response", ""), model.get("responseBody", "")} == {""}
    assert None not in model.values()


def test_a_failure_that_left_no_stderr_is_told_by_its_message() -> None:
    failure = Failure(component=Component.EXECUTOR, reason=FailureReason.EXECUTOR_LOST, message="nobody knows")
    lost = replace(RECORD, outcome=an_outcome(phase=ExecutionPhase.FAILED, stderr="", failure=failure))

    assert shown(lost, Format.V1_0)["stderr"] == "nobody knows"
    assert shown(lost, Format.V1_0, logs=False)["stderr"] == ""


@pytest.mark.parametrize(
    ("code", "phase", "shown_as"),
    [
        (200, "completed", ["completed"] * 5),
        (404, "completed", ["completed", "completed", "failed", "completed", "completed"]),
        (500, "failed", ["failed"] * 5),
    ],
)
def test_only_1_4_takes_4xx_for_a_failure(code: int, phase: str, shown_as: list[str]) -> None:
    record = a_finished(outcome=an_outcome(status_code=code, phase=ExecutionPhase(phase)))

    assert [shown(record, format_)["status"] for format_ in Format] == shown_as


def test_what_waits_for_its_time_is_scheduled_where_the_format_has_a_word_for_it() -> None:
    request = a_request(scheduled_at=AT, replay_of="e0")
    record = ExecutionRecord(request=request, phase=ExecutionPhase.SCHEDULED, created_at=AT, updated_at=AT)

    assert [shown(record, format_)["status"] for format_ in Format] == ["waiting"] * 2 + ["scheduled"] * 3
    assert shown(record, Format.V1_7)["scheduledAt"] == "2023-02-03T04:05:06.789+00:00"
    assert shown(record, Format.V1_7)["replayOf"] == "e0"


def test_a_scheduled_execution_shows_its_time() -> None:
    record = a_finished(origin=Origin.SCHEDULE, trigger=Trigger.SCHEDULE, scheduled_at=AT)

    model = shown(record, Format.V1_4)

    assert (model["trigger"], model["scheduledAt"]) == ("schedule", "2023-02-03T04:05:06.789+00:00")
