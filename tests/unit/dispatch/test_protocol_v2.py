import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appfn.api.execution import Component, ExecutionPhase, FailureReason
from appfn.core.records import MAX_OUTPUT, Invocation, Outcome
from appfn.dispatch.messages import Reply
from appfn.dispatch.protocols.v2 import decode, encode


def an_invocation(**changes: Any) -> Invocation:
    fields: dict[str, Any] = {
        "execution_id": "execution",
        "namespace": "shop",
        "function": "greet",
        "function_uid": "uid-greet",
        "deployment": "greet-1",
        "deployment_uid": "uid-greet-1",
        "entrypoint": "index.js",
        "artifacts": {},
        "variables": {"NAME": "Ada"},
        "payload": '{"a":1}',
        "headers": {"x-one": "1"},
        "timeout": 15,
    }
    return Invocation(**(fields | changes))


def decoded(document: Any, status: int = 200) -> Outcome:
    return decode(Reply(status=status, body=json.dumps(document).encode()))


def test_a_request_carries_variables_payload_and_headers_and_the_key_of_the_pod() -> None:
    request = encode(an_invocation(), key="secret")
    assert (request.method, request.path) == ("POST", "/")
    assert request.headers == {"content-type": "application/json", "x-internal-challenge": "secret"}
    assert json.loads(request.body) == {
        "variables": {"NAME": "Ada"},
        "payload": '{"a":1}',
        "headers": {"x-one": "1"},
    }


@given(payload=st.text(), variable=st.text())
@example(payload="\ud800", variable="\udfff")
def test_any_text_survives_the_way_to_the_runtime(payload: str, variable: str) -> None:
    request = encode(an_invocation(payload=payload, variables={"V": variable}), key="k")
    document = json.loads(request.body)
    assert document["payload"] == payload
    assert document["variables"]["V"] == variable


def test_text_beyond_ascii_is_sent_as_utf_8() -> None:
    assert '"payload":"é€😀"'.encode() in encode(an_invocation(payload="é€😀"), key="k").body


def test_a_request_shows_no_secret_when_printed() -> None:
    assert "secret" not in repr(encode(an_invocation(payload="secret"), key="secret"))


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ("hello", "hello"),
        ("", ""),
        (None, ""),
        ({"a": [1, 2.5, None, True], "ü": "é/"}, '{"a":[1,2.5,null,true],"ü":"é/"}'),
        ([], "[]"),
        (False, "false"),
        (0, "0"),
        ("\ud800", "?"),
        (["\ud800", {"\udfff": "x"}], '["?",{"?":"x"}]'),
        (2**63, "9223372036854775808"),
        (2**64, "18446744073709551616"),
        (-(2**63) - 1, "-9223372036854775809"),
        ({"id": [10**40]}, '{"id":[' + "1" + "0" * 40 + "]}"),
        ([2**64, "\ud800"], '[18446744073709551616,"?"]'),
        (1e16, "1e+16"),
        (-0.0, "-0.0"),
    ],
)
def test_a_response_is_text_and_other_values_become_compact_json(response: object, text: str) -> None:
    outcome = decoded({"response": response, "stdout": "out", "stderr": "err"})
    assert outcome.phase is ExecutionPhase.COMPLETED
    assert outcome.failure is None
    assert (outcome.status_code, outcome.response, outcome.stdout, outcome.stderr) == (200, text, "out", "err")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"response":1,"response":2}', "2"),
        (b'{"response":"x","response":null}', ""),
        (b'{"response":{"a":1,"b":2,"a":18446744073709551616}}', '{"a":18446744073709551616,"b":2}'),
        (b' {"response" : -0 }\r\n', "0"),
        (b'{"response":1e-999}', "0.0"),
        (b'{"response":"\\u0000\x7f\\/"}', "\0\x7f/"),
        (b'{"response":"x","other":[1e999,' + b"9" * 400 + b"]}", "x"),
        (b'{"response":' + b"[" * 500 + b"]" * 500 + b"}", "[" * 500 + "]" * 500),
    ],
)
def test_a_response_is_read_as_python_reads_json(body: bytes, text: str) -> None:
    outcome = decode(Reply(status=200, body=body))
    assert (outcome.phase, outcome.response) == (ExecutionPhase.COMPLETED, text)


def test_an_answer_without_any_field_completes_empty() -> None:
    assert decoded({}) == Outcome(phase=ExecutionPhase.COMPLETED, status_code=200)


@pytest.mark.parametrize("status", [201, 301, 302, 400, 404, 499])
def test_a_status_below_500_is_the_functions_own_and_completes(status: int) -> None:
    outcome = decoded({"response": "x"}, status)
    assert (outcome.phase, outcome.status_code, outcome.response) == (ExecutionPhase.COMPLETED, status, "x")


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_status_that_has_no_body_completes_empty(status: int) -> None:
    outcome = decode(Reply(status=status, body=b""))
    assert (outcome.phase, outcome.status_code, outcome.response) == (ExecutionPhase.COMPLETED, status, "")


@pytest.mark.parametrize("status", [500, 503, 599])
def test_a_status_of_500_and_more_fails_with_the_functions_logs_and_no_response(status: int) -> None:
    outcome = decoded({"response": "x", "stdout": "out", "stderr": "trace"}, status)
    assert (outcome.phase, outcome.status_code, outcome.response) == (ExecutionPhase.FAILED, status, "")
    assert (outcome.stdout, outcome.stderr) == ("out", "trace")
    assert outcome.failure is not None
    assert (outcome.failure.component, outcome.failure.reason) == (Component.FUNCTION, FailureReason.FUNCTION_ERROR)


@pytest.mark.parametrize("body", [b"Unauthorized", b"", b"{", b"[]", b'{"stderr":7}', b"\xff"])
def test_a_failure_without_readable_logs_has_the_executors_stand_in(body: bytes) -> None:
    outcome = decode(Reply(status=500, body=body))
    assert (outcome.phase, outcome.stderr) == (ExecutionPhase.FAILED, "Internal Runtime error.")


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, b"", "not JSON"),
        (200, b"\xef\xbb\xbf{}", "not JSON"),
        (200, b"{} {}", "not JSON"),
        (200, b"{'response':1}", "not JSON"),
        (200, b'{"response":"a\nb"}', "not JSON"),
        (200, b'{"response":01}', "not JSON"),
        (200, b'{"response":"x","other":NaN}', "not JSON"),
        (200, b'{"response":"\xff"}', "not UTF-8"),
        (200, b'{"response":"\xed\xa0\x80"}', "not UTF-8"),
        (200, b"hello", "not JSON"),
        (200, b'{"response":"x"', "not JSON"),
        (200, b'{"response":NaN}', "not JSON"),
        (200, b'{"response":-Infinity}', "not JSON"),
        (200, b'{"response":1e999}', "cannot be written as JSON"),
        (200, b'{"response":' + b"9" * 5000 + b"}", "not JSON"),
        (200, b"[" * 100_000, "not JSON"),
        (200, b'{"response":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
        (200, b"\xff\xfe", "not UTF-8"),
        (200, b"\x1f\x8b\x08\x00", "not UTF-8"),
        (200, b"[]", "not a JSON object"),
        (200, b'"text"', "not a JSON object"),
        (200, b"null", "not a JSON object"),
        (200, b'{"stdout":[]}', "`stdout` is not a string"),
        (200, b'{"stderr":1}', "`stderr` is not a string"),
        (101, b"{}", "status"),
        (600, b"{}", "status"),
        (999, b"{}", "status"),
    ],
)
def test_what_is_not_the_protocol_is_named_as_such_and_never_quoted(status: int, body: bytes, says: str) -> None:
    outcome = decode(Reply(status=status, body=body))
    assert (outcome.phase, outcome.status_code) == (ExecutionPhase.FAILED, 500)
    assert outcome.failure is not None
    assert outcome.failure.reason is FailureReason.INVALID_RESPONSE
    assert says in outcome.failure.message
    assert outcome.stderr == outcome.failure.message


def test_a_response_at_the_limit_is_kept_and_one_byte_more_fails() -> None:
    assert decoded({"response": "é" * (MAX_OUTPUT // 2)}).phase is ExecutionPhase.COMPLETED
    outcome = decoded({"response": "é" * (MAX_OUTPUT // 2) + "x", "stdout": "out", "stderr": "err"})
    assert (outcome.phase, outcome.status_code, outcome.response) == (ExecutionPhase.FAILED, 500, "")
    assert outcome.failure is not None
    assert outcome.failure.reason is FailureReason.RESPONSE_TOO_LARGE
    assert "1,000,000 bytes" in outcome.failure.message
    assert outcome.stdout == "out"
    assert outcome.stderr == f"err\n{outcome.failure.message}"


def test_a_body_that_was_not_read_whole_is_too_large() -> None:
    outcome = decode(Reply(status=200, body=b"", complete=False))
    assert outcome.failure is not None
    assert outcome.failure.reason is FailureReason.RESPONSE_TOO_LARGE


@pytest.mark.parametrize("status", [200, 500])
def test_logs_over_the_limit_are_cut_at_a_character_and_say_so(status: int) -> None:
    outcome = decoded({"stdout": "€" * MAX_OUTPUT, "stderr": "x" * MAX_OUTPUT}, status)
    assert len(outcome.stdout.encode()) <= MAX_OUTPUT
    assert outcome.stdout.splitlines()[-1] == "[cut: more than 1,000,000 bytes]"
    assert outcome.stdout.startswith("€€€")
    assert outcome.stderr == "x" * MAX_OUTPUT


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
envelopes = st.dictionaries(st.sampled_from(["response", "stdout", "stderr", "other"]), json_values).map(
    lambda value: json.dumps(value).encode(),
)


@given(status=st.integers(100, 999), body=envelopes | st.binary())
def test_no_reply_raises_and_every_outcome_can_be_stored_and_sent(status: int, body: bytes) -> None:
    outcome = decode(Reply(status=status, body=body))
    assert outcome.phase.terminal
    assert (outcome.failure is None) == (outcome.phase is ExecutionPhase.COMPLETED)
    assert 200 <= outcome.status_code < 600
    for text in (outcome.response, outcome.stdout, outcome.stderr):
        assert len(text.encode()) <= MAX_OUTPUT


finite_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(value=finite_values.filter(lambda value: value is not None and not isinstance(value, str)))
def test_any_response_is_kept_to_the_last_digit(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert decoded({"response": value}).response == text.encode(errors="replace").decode()
