from datetime import UTC, datetime
from typing import Any

import pytest

from appfn.shim import requests
from appfn.shim.errors import AppwriteError
from appfn.shim.formats import Format
from appfn.shim.requests import Asked
from support.executions import START, Clock


@pytest.mark.parametrize(
    ("body", "format_", "asked"),
    [
        pytest.param({}, Format.V0, Asked(asynchronous=True), id="0.15-async-by-default"),
        pytest.param({}, Format.V1_0, Asked(), id="1.0-sync-by-default"),
        pytest.param({}, Format.V1_4, Asked(), id="1.4-sync-by-default"),
        pytest.param({"data": "x", "async": True}, Format.V1_0, Asked(data="x", asynchronous=True), id="1.0"),
        pytest.param({"data": "x", "async": False}, Format.V0, Asked(data="x"), id="0.15-sync"),
        pytest.param({"body": "x"}, Format.V1_4, Asked(data="x"), id="1.4"),
        pytest.param({"body": "x", "data": "y"}, Format.V1_4, Asked(data="x"), id="body-wins"),
        pytest.param({"body": "x"}, Format.V1_0, Asked(data="x"), id="body-in-1.0"),
        pytest.param({"data": "x"}, Format.V1_4, Asked(data="x"), id="data-in-1.4"),
        pytest.param({"data": None, "async": None, "path": None, "method": None}, Format.V1_4, Asked(), id="nulls"),
        pytest.param({"async": "true"}, Format.V1_0, Asked(asynchronous=True), id="async-text"),
        pytest.param({"async": 0}, Format.V0, Asked(), id="async-number"),
        pytest.param({"path": "/a?b=c", "method": "get"}, Format.V1_4, Asked(path="/a?b=c", method="GET"), id="path"),
        pytest.param({"headers": {"X-A": "b"}}, Format.V1_4, Asked(headers={"x-a": "b"}), id="headers"),
        pytest.param({"headers": '{"X-A": "b"}'}, Format.V1_4, Asked(headers={"x-a": "b"}), id="headers-text"),
        pytest.param({"headers": []}, Format.V1_4, Asked(), id="headers-php"),
        pytest.param({"data": "é" * 8192}, Format.V1_0, Asked(data="é" * 8192), id="data-8192-characters"),
        pytest.param({"body": "x" * 8193}, Format.V1_4, Asked(data="x" * 8193), id="body-long"),
    ],
)
def test_bodies_of_every_format_are_understood(body: dict[str, Any], format_: Format, asked: Asked) -> None:
    assert requests.parse(body, format_, now=Clock()) == asked


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        pytest.param({"data": "x" * 8193}, "data", id="data-8193-characters"),
        pytest.param({"data": {"a": 1}}, "data", id="data-object"),
        pytest.param({"data": "\ud800"}, "data", id="data-surrogate"),
        pytest.param({"body": 5}, "body", id="body-number"),
        pytest.param({"async": "yes"}, "async", id="async"),
        pytest.param({"path": "a"}, "path", id="path-relative"),
        pytest.param({"path": "/\n"}, "path", id="path-line"),
        pytest.param({"path": "/" + "a" * 2048}, "path", id="path-long"),
        pytest.param({"method": "TRACE"}, "method", id="method"),
        pytest.param({"headers": "x"}, "headers", id="headers-text"),
        pytest.param({"headers": "[" * 100_000}, "headers", id="headers-deep"),
        pytest.param({"headers": ["a"]}, "headers", id="headers-list"),
        pytest.param({"headers": {"a": 1}}, "headers", id="header-number"),
        pytest.param({"headers": {"a b": "c"}}, "headers", id="header-name"),
        pytest.param({"headers": {"": "c"}}, "headers", id="header-empty"),
        pytest.param({"headers": {"a": "b\r\nc: d"}}, "headers", id="header-split"),
        pytest.param({"headers": {"a": "\x00"}}, "headers", id="header-nul"),
        pytest.param({"headers": {"a": "\ud800"}}, "headers", id="header-surrogate"),
        pytest.param({"headers": {f"a{i}": "b" for i in range(65)}}, "headers", id="headers-many"),
        pytest.param({"headers": {"a": "b" * 17_000}}, "headers", id="headers-large"),
        *(
            pytest.param({"async": True, "scheduledAt": text}, "scheduledAt", id=f"scheduled-{text[:40]}")
            for text in (
                "soon",
                "2030-01-02",
                "2030-01-02T03:04:00Z",
                "2030-01-02T03:05:30Z",
                "2030-01-02T03:05:00.5Z",
                "2030-01-02T04:04:00+01:00",
                "2031-02-01T00:00:00Z",
                "9999-12-31T23:59:00-23:00",
            )
        ),
        pytest.param({"async": True, "scheduledAt": 5}, "scheduledAt", id="scheduled-number"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(body: dict[str, Any], parameter: str) -> None:
    with pytest.raises(AppwriteError) as caught:
        requests.parse(body, Format.V1_0, now=Clock())

    assert caught.value.problem.type == "general_argument_invalid"
    assert f"`{parameter}`" in caught.value.message


@pytest.mark.parametrize("key", ["a", "f3b9c9e0-6d1f-4d7b-8a65-000000000000", "!" * 255])
def test_an_idempotency_key_is_visible_ascii(key: str) -> None:
    assert requests.idempotency_key(key) == key


@pytest.mark.parametrize("key", ["", "a b", "é", "a" * 256, "a\n"])
def test_another_idempotency_key_is_refused(key: str) -> None:
    with pytest.raises(AppwriteError):
        requests.idempotency_key(key)


def test_the_digest_tells_requests_apart_whatever_the_order_of_headers() -> None:
    one = Asked(data="x", headers={"a": "1", "b": "2"})

    assert one.digest() == Asked(data="x", headers={"b": "2", "a": "1"}).digest()
    others = [
        Asked(data="y"),
        Asked(path="/x"),
        Asked(method="GET"),
        Asked(asynchronous=True),
        Asked(headers={"a": "1"}),
        Asked(scheduled_at=START),
    ]
    assert len({one.digest(), *(other.digest() for other in others)}) == 7


@pytest.mark.parametrize(
    "text",
    ["2030-01-02T03:05:00.000+00:00", "2030-01-02T03:05:00Z", "2030-01-02 03:05", "2030-01-02T05:05:00+02:00"],
)
def test_a_time_to_run_at_is_a_whole_minute_to_come(text: str) -> None:
    asked = requests.parse({"body": "x", "async": True, "scheduledAt": text}, Format.V1_7, now=Clock())

    assert asked.scheduled_at == datetime(2030, 1, 2, 3, 5, tzinfo=UTC)


def test_nobody_can_wait_for_a_delayed_execution() -> None:
    with pytest.raises(AppwriteError, match="must run asynchronously") as caught:
        requests.parse({"scheduledAt": "2030-01-02T03:05:00Z"}, Format.V1_7, now=Clock())

    assert caught.value.problem.type == "general_bad_request"


def test_no_time_to_run_at_is_now() -> None:
    assert requests.parse({"scheduledAt": ""}, Format.V1_7, now=Clock()).scheduled_at is None
