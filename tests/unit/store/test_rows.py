"""Records to rows and back."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import JSON
from sqlalchemy.dialects import sqlite

from appfn.api.execution import Component, ExecutionPhase, Failure, FailureReason
from appfn.core.records import MAX_OUTPUT, ExecutionRecord
from appfn.store.recording import COLUMNS, row
from appfn.store.rows import clean, cut, record_of, row_of_record
from appfn.store.schema import EXECUTIONS, Instant
from support.executions import START, a_finished, an_outcome

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(ANY_TEXT)
def test_clean_text_can_be_stored_and_keeps_its_length(text: str) -> None:
    fit = clean(text)
    assert len(fit) == len(text)
    assert "\0" not in fit.encode().decode()
    assert clean(fit) == fit


@pytest.mark.parametrize("unit", ["x", "ä", "€", "🙂"])
@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_text_is_cut_at_the_last_whole_character_that_fits(unit: str, excess: int) -> None:
    width = len(unit.encode())
    text = unit * (MAX_OUTPUT // width + excess)
    assert cut(text) == text[: MAX_OUTPUT // width]


@given(headers=st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=3), text=ANY_TEXT, duration=st.floats(0, 900))
def test_a_clean_record_comes_back_as_it_was(headers: dict[str, str], text: str, duration: float) -> None:
    fit = {clean(key): clean(value) for key, value in headers.items()}
    failure = Failure(component=Component.RUNTIME, reason=FailureReason.POD_LOST, message=clean(text))
    outcome = an_outcome(phase=ExecutionPhase.FAILED, response=clean(text), duration=duration, failure=failure)
    record = a_finished(headers=fit, data=clean(text), permissions=('read("user:a")',), outcome=outcome)
    row = row_of_record(record, sequence=7)
    assert set(row) <= set(EXECUTIONS.columns.keys())
    assert record_of(row) == replace(record, sequence=7)


@given(headers=st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=2), text=ANY_TEXT, whole=st.booleans())
def test_a_row_in_the_order_of_the_columns_says_what_one_by_name_does(
    headers: dict[str, str], text: str, *, whole: bool
) -> None:
    failure = Failure(component=Component.RUNTIME, reason=FailureReason.POD_LOST, message=text)
    outcome = an_outcome(
        response=f"response {text}",
        stdout=f"stdout {text}",
        stderr=f"stderr {text}",
        cold_start=whole,
        failure=failure if whole else None,
    )
    texts = ("path", "data", "event", "event_data", "user_id", "replay_of", "method")
    request: dict[str, Any] = {
        **{name: f"{name} {text}" for name in texts},
        "headers": headers,
        "permissions": (f'read("user:{text}")', 'read("user:ada")') if whole else (),
        "idempotency_key": f"key {text}" if whole else None,
        "body_hash": "hash",
        "jwt": "secret",
        "scheduled_at": START + timedelta(seconds=1) if whole else None,
        "max_attempts": 3,
    }
    record = replace(
        a_finished(outcome=outcome, **request),
        deployment=f"deployment {text}",
        attempt=2,
        memory_mb=512,
        started_at=START + timedelta(seconds=2) if whole else None,
        updated_at=START + timedelta(seconds=3),
        finished_at=START + timedelta(seconds=4) if whole else None,
    )
    in_order = dict(zip(COLUMNS, row(record), strict=True))
    by_name = row_of_record(record, sequence=0)
    assert set(by_name) == {*COLUMNS, "sequence"}
    for name, value in in_order.items():
        assert value == given_to_the_driver(name, by_name[name]), name
        assert type(value) in {str, int, float, bool, type(None)}, name  # of Python's own, as the drivers know them


def given_to_the_driver(column: str, value: object) -> object:
    match EXECUTIONS.c[column].type:
        case Instant() as kind:
            return kind.process_bind_param(cast("datetime | None", value), sqlite.dialect())
        case JSON():
            return None if value is None else orjson.dumps(value).decode()
        case _:
            return value


def test_a_jwt_never_reaches_the_row_of_an_ended_execution() -> None:
    assert row_of_record(a_finished(jwt="secret"), sequence=1)["jwt"] == ""


@pytest.mark.parametrize(
    ("permissions", "reader"),
    [
        ((), ""),
        (('read("user:ada")',), "ada"),
        (('update("user:bob")', 'read("user:ada/verified")'), "ada"),
        (('read("any")',), ""),
        (('read("user:")',), ""),
    ],
)
def test_the_reader_is_the_user_that_a_permission_names(permissions: tuple[str, ...], reader: str) -> None:
    assert row_of_record(a_finished(permissions=permissions), sequence=1)["reader"] == reader


@given(st.datetimes(timezones=st.timezones()))
def test_a_moment_comes_back_to_the_microsecond(moment: datetime) -> None:
    kind, dialect = Instant(), sqlite.dialect()
    found = kind.process_result_value(kind.process_bind_param(moment, dialect), dialect)
    # In UTC, as Python calls an hour that occurs twice unequal to every moment of another zone.
    assert found == moment.astimezone(UTC)


def test_records_hold_payloads_but_do_not_show_them() -> None:
    record: ExecutionRecord = a_finished(jwt="j-secret", event_data="e-secret", outcome=an_outcome(response="r-secret"))
    assert "secret" not in repr(record)
