"""Amounts of memory."""

import pytest

from appfn.api.pods import ResourceRequirements
from appfn.core.quantity import mebibytes, memory_mb


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("128Mi", 128),
        ("1Gi", 1024),
        ("0.5Gi", 512),
        ("134217728", 128),
        ("128M", 123),
        ("1", 1),
        ("0", 0),
        ("", 0),
        ("much", 0),
        ("1Xi", 0),
    ],
)
def test_memory_is_told_in_whole_mebibytes(text: str, expected: int) -> None:
    assert mebibytes(text) == expected


@pytest.mark.parametrize(
    ("requests", "limits", "expected"),
    [
        ({"memory": "64Mi"}, {"memory": "256Mi"}, 256),
        ({"memory": "64Mi"}, {"cpu": "1"}, 64),
        ({}, {}, 0),
    ],
)
def test_what_a_container_may_use_counts_before_what_it_is_sure_to_get(
    requests: dict[str, str], limits: dict[str, str], expected: int
) -> None:
    assert memory_mb(ResourceRequirements(requests=requests, limits=limits)) == expected
