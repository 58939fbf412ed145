"""What a list may be filtered by."""

from datetime import UTC, datetime

import pytest

from appfn.store.model import Comparison, Field, Filter

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "comparison", "values", "message"),
    [
        (Field.PHASE, Comparison.EQUAL, (), "phase: needs at least one value"),
        (Field.STATUS_CODE, Comparison.GREATER, (1, 2), "greaterThan takes one value"),
        (Field.STATUS_CODE, Comparison.EQUAL, ("200",), "status_code: '200' is not of type int"),
        (Field.STATUS_CODE, Comparison.EQUAL, (True,), "True is not of type int"),
        (Field.STATUS_CODE, Comparison.EQUAL, (2**31,), "out of range"),
        (Field.STATUS_CODE, Comparison.EQUAL, (-(2**31) - 1,), "out of range"),
        (Field.DURATION, Comparison.EQUAL, (10**400,), "out of range"),
        (Field.PHASE, Comparison.EQUAL, (1,), "phase: 1 is not of type str"),
        (Field.CREATED_AT, Comparison.LESS, ("2030",), "not of type datetime"),
        (Field.CREATED_AT, Comparison.LESS, (NOW.replace(tzinfo=None),), "no time zone"),
    ],
)
def test_a_filter_that_cannot_be_asked_is_refused_with_its_field(
    field: Field,
    comparison: Comparison,
    values: tuple[str | float | datetime, ...],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        Filter(field, comparison, values)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        (Field.STATUS_CODE, (200, 404)),
        (Field.DURATION, (1, 0.5)),
        (Field.CREATED_AT, (NOW,)),
        (Field.PATH, ("/",)),
    ],
)
def test_a_filter_takes_values_of_its_field(field: Field, values: tuple[str | float | datetime, ...]) -> None:
    assert Filter(field, Comparison.EQUAL, values).values == values
