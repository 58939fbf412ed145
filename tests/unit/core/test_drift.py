"""What counts as a change of an object that was made."""

import pytest

from appfn.api.base import Json
from appfn.core.manifests.drift import contains


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("0.5", "500m"),
        ("1.", "1"),
        (".5", "500m"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1e3", "1k"),
        ("2E3", "2k"),
        ("1E", "1000P"),
        ("100u", "100u"),
        ("odd", "odd"),
    ],
)
def test_a_quantity_may_be_written_another_way(asked: str, shown: str) -> None:
    manifest: Json = {"resources": {"limits": {"x": asked}, "requests": {}}}

    assert contains({"resources": {"limits": {"x": shown}}}, manifest)
    assert not contains({"resources": {"limits": {"x": "7"}}}, manifest)


@pytest.mark.parametrize(
    "shown",
    [
        {"limits": {"cpu": "1", "memory": "1Gi"}},
        {"limits": {"cpu": "2"}},
        {"limits": {}},
        {},
    ],
)
def test_resources_that_were_added_changed_or_removed_are_a_change(shown: Json) -> None:
    assert not contains({"resources": shown}, {"resources": {"limits": {"cpu": "1"}}})


def test_only_quantities_are_compared_as_numbers() -> None:
    assert not contains({"labels": {"version": "1.0"}}, {"labels": {"version": "1"}})
