"""The pure parts of the transport: lines of a stream, and what an answer's status means."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

import pytest

from appfn.api.base import Json
from appfn.api.kinds import CONFIG_MAP, FUNCTION, NAMESPACE, RUNTIME, Kind
from appfn.errors import AppfnError, ConflictError, ForbiddenError, RejectedError, TransientError
from appfn.kube.backoff import full_jitter
from appfn.kube.collection import path_of
from appfn.kube.rest import ExpiredError, NotFoundError, error_of, parsed, split_lines, status_error


async def stream(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
        await asyncio.sleep(0)  # no pause: lets the reader run between two chunks


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        pytest.param([b"a\nb\n"], [b"a", b"b"], id="several in one chunk"),
        pytest.param([b"a", b"b", b"c\nd", b"\n"], [b"abc", b"d"], id="one over several chunks"),
        pytest.param([b"a\n", b"\n", b"b\n"], [b"a", b"", b"b"], id="empty"),
        pytest.param([b"a\nhalf"], [b"a"], id="cut off at the end"),
        pytest.param(
            [b"x" * 70_000, b"y" * 70_000 + b"\n"], [b"x" * 70_000 + b"y" * 70_000], id="longer than a buffer"
        ),
        pytest.param([], [], id="nothing"),
    ],
)
async def test_lines_are_whole_however_the_stream_is_cut(chunks: list[bytes], lines: list[bytes]) -> None:
    assert [line async for line in split_lines(stream(chunks))] == lines


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RejectedError),
        (401, TransientError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (405, RejectedError),
        (408, TransientError),
        (409, ConflictError),
        (410, ExpiredError),
        (413, RejectedError),
        (415, RejectedError),
        (422, RejectedError),
        (429, TransientError),
        (500, TransientError),
        (503, TransientError),
        (504, TransientError),
    ],
)
def test_each_status_has_its_error_with_the_servers_words(status: int, error: type[AppfnError]) -> None:
    content = json.dumps({"kind": "Status", "message": "what happened", "code": status}).encode()
    found = error_of(status, {}, content)
    assert type(found) is error
    assert str(found) == f"what happened (HTTP {status})"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<h1>Bad gateway</h1>", "<h1>Bad gateway</h1> (HTTP 502)"),
        (b"", "no message (HTTP 502)"),
        (b"[1]", "[1] (HTTP 502)"),
        (b"\xff", "\ufffd (HTTP 502)"),
    ],
)
def test_an_answer_of_something_in_between_is_quoted(content: bytes, message: str) -> None:
    assert str(error_of(502, {}, content)) == message


def test_a_long_message_is_cut() -> None:
    assert len(str(error_of(500, {}, b"x" * 1_000_000))) < 1_100


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None)]
)
def test_retry_after_is_read_in_seconds(value: str, seconds: float | None) -> None:
    error = error_of(429, {"Retry-After": value}, b"")
    assert isinstance(error, TransientError)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("status", "error"), [({"code": 410}, ExpiredError), ({"code": 500}, TransientError), ({}, TransientError)]
)
def test_an_error_inside_a_stream_is_one_too(status: Json, error: type[AppfnError]) -> None:
    assert type(status_error(status)) is error


@pytest.mark.parametrize("content", [b"", b"<html>", b"[1]", b'"text"'])
def test_an_answer_that_is_no_json_object_is_a_matter_of_time(content: bytes) -> None:
    with pytest.raises(TransientError, match=r"not (JSON|a JSON object)"):
        parsed(content)


@pytest.mark.parametrize(
    ("kind", "namespace", "name", "path"),
    [
        (CONFIG_MAP, "ns", "a", "/api/v1/namespaces/ns/configmaps/a"),
        (CONFIG_MAP, "", "", "/api/v1/configmaps"),
        (FUNCTION, "ns", "", "/apis/appfn.dev/v1alpha1/namespaces/ns/functions"),
        (NAMESPACE, "", "ns", "/api/v1/namespaces/ns"),
        (RUNTIME, "ignored", "node-20.0", "/apis/appfn.dev/v1alpha1/runtimes/node-20.0"),
        (CONFIG_MAP, "ns", "../x", "/api/v1/namespaces/ns/configmaps/..%2Fx"),
    ],
)
def test_paths_follow_the_kind(kind: Kind, namespace: str, name: str, path: str) -> None:
    assert path_of(kind, namespace=namespace, name=name) == path


def test_the_path_of_a_subresource_ends_with_it() -> None:
    assert path_of(FUNCTION, namespace="ns", name="f", subresource="status").endswith("/functions/f/status")


@pytest.mark.parametrize(("failures", "most"), [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 10.0), (10_000, 10.0)])
def test_backoff_doubles_up_to_its_cap(failures: int, most: float) -> None:
    assert full_jitter(failures, base=1, cap=10, random=lambda: 1.0) == most
    assert full_jitter(failures, base=1, cap=10, random=lambda: 0.0) == 0
