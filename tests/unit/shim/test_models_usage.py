"""What usage looks like in each format."""

from datetime import UTC, datetime, timedelta

import pytest

from appfn.shim import models_usage
from appfn.shim.formats import Format
from appfn.shim.models_usage import Inventory, Present
from appfn.store.model import Usage

NOW = datetime(2030, 3, 10, 15, 42, 7, tzinfo=UTC)
TODAY = datetime(2030, 3, 10, tzinfo=UTC)
USED = Usage(
    start=TODAY,
    completed=3,
    failed=1,
    compute_ms=2500,
    compute_mb_ms=640_999,
    builds_ready=2,
    builds_failed=1,
    build_ms=9000,
    build_mb_ms=9_216_000,
)
YESTERDAY = Usage(start=TODAY - timedelta(days=1), completed=1, failed=0, compute_ms=1, compute_mb_ms=500)


def shown(format_: Format, *, range_: str = "7d", inventory: Inventory | None = None) -> dict[str, object]:
    span = models_usage.span(range_, NOW)
    return models_usage.usage([YESTERDAY, USED], span, inventory or Inventory(), format_)


def values(model: dict[str, object], name: str) -> list[int]:
    series = model[name]
    assert isinstance(series, list)
    return [point["value"] for point in series]


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("24h", 24, "2030-03-09T16:00:00.000+00:00", "2030-03-10T15:00:00.000+00:00"),
        ("7d", 7, "2030-03-04T00:00:00.000+00:00", "2030-03-10T00:00:00.000+00:00"),
        ("30d", 30, "2030-02-09T00:00:00.000+00:00", "2030-03-10T00:00:00.000+00:00"),
        ("90d", 90, "2029-12-11T00:00:00.000+00:00", "2030-03-10T00:00:00.000+00:00"),
    ],
)
def test_a_range_is_filled_up_to_now(name: str, count: int, first: str, last: str) -> None:
    series = shown(Format.V1_7, range_=name)["executions"]

    assert isinstance(series, list)
    assert len(series) == count
    assert (series[0]["date"], series[-1]["date"]) == (first, last)


def test_the_model_of_0_15() -> None:
    model = shown(Format.V0)

    assert model.keys() == {"range", "functionsExecutions", "functionsFailures", "functionsCompute"}
    assert model["range"] == "7d"
    assert values(model, "functionsExecutions") == [0, 0, 0, 0, 0, 1, 4]
    assert values(model, "functionsFailures") == [0, 0, 0, 0, 0, 0, 1]
    assert values(model, "functionsCompute") == [0, 0, 0, 0, 0, 1, 2500]


def test_the_model_of_1_0() -> None:
    model = shown(Format.V1_0)

    last = {name: values(model, name)[-1] for name in model.keys() - {"range"}}
    assert last == {
        "executionsTotal": 4,
        "executionsFailure": 1,
        "executionsSuccess": 3,
        "executionsTime": 2500,
        "buildsTotal": 3,
        "buildsFailure": 1,
        "buildsSuccess": 2,
        "buildsTime": 9000,
    }


@pytest.mark.parametrize("format_", [Format.V1_4, Format.V1_6, Format.V1_7])
def test_the_model_of_1_4_and_later(format_: Format) -> None:
    made = TODAY + timedelta(hours=1)
    inventory = Inventory(
        functions=[Present(made), Present(TODAY - timedelta(days=100))],
        deployments=[Present(made)],
        outputs=[Present(made, 1000), Present(TODAY - timedelta(days=1), 24)],
    )
    model = shown(format_, inventory=inventory)

    totals = {name: value for name, value in model.items() if isinstance(value, int)}
    assert totals == {
        "executionsTotal": 5,
        "executionsTimeTotal": 2501,
        "executionsMbSecondsTotal": 641,
        "executionsFailedTotal": 1,
        "buildsTotal": 3,
        "buildsSuccessTotal": 2,
        "buildsFailedTotal": 1,
        "buildsTimeTotal": 9000,
        "buildsTimeAverage": 3000,
        "buildsMbSecondsTotal": 9216,
        "functionsTotal": 2,
        "deploymentsTotal": 1,
        "deploymentsStorageTotal": 0,
        "buildsStorageTotal": 1024,
    }
    series = {name: values(model, name)[-2:] for name, value in model.items() if isinstance(value, list)}
    assert series == {
        "executions": [1, 4],
        "executionsTime": [1, 2500],
        "executionsMbSeconds": [0, 640],
        "executionsFailed": [0, 1],
        "builds": [0, 3],
        "buildsSuccess": [0, 2],
        "buildsFailed": [0, 1],
        "buildsTime": [0, 9000],
        "buildsMbSeconds": [0, 9216],
        "functions": [0, 1],
        "deployments": [0, 1],
        "deploymentsStorage": [0, 0],
        "buildsStorage": [24, 1000],
    }


def test_the_usage_of_one_function_counts_no_functions() -> None:
    assert "functionsTotal" not in shown(Format.V1_7)
