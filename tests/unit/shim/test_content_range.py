"""Content-Range in both dialects of Appwrite's SDKs, and what no SDK would send."""

import pytest

from appfn.shim.content_range import Part, parse
from appfn.shim.errors import AppwriteError

MIB = 1024 * 1024
SIZE = 12 * MIB
LIMIT = 30_000_000


@pytest.mark.parametrize(
    ("header", "place", "size"),
    [
        (f"bytes 0-{5 * MIB - 1}/{SIZE}", 0, 5 * MIB),
        (f"bytes {5 * MIB}-{10 * MIB - 1}/{SIZE}", 1, 5 * MIB),
        (f"bytes {10 * MIB}-{SIZE - 1}/{SIZE}", 2, 2 * MIB),
        (f"bytes {10 * MIB}-{SIZE}/{SIZE}", 2, 2 * MIB),
    ],
)
def test_a_part_is_known_by_where_it_begins(header: str, place: int, size: int) -> None:
    assert parse(header, limit=LIMIT) == Part(place=place, size=size, total=SIZE)


@pytest.mark.parametrize("header", [None, "", "bytes 0-99/100", "bytes 0-100/100", f"bytes 0-{SIZE - 1}/{SIZE}"])
def test_a_whole_file_is_no_part(header: str | None) -> None:
    assert parse(header, limit=LIMIT) is None


@pytest.mark.parametrize(
    "header",
    [
        "bytes 0-9",
        "bytes */100",
        "items 0-9/100",
        "bytes -5-9/100",
        "bytes 0-9/0",
        "bytes 9-0/100",
        "bytes 0-101/100",
        "bytes 100-100/100",
        "bytes 0-0/9" + "9" * 40,
        "bytes \u0661-9/100",
        f"bytes 0-99/{SIZE}",
        f"bytes 1-{5 * MIB}/{SIZE}",
        f"bytes 0-{5 * MIB}/{SIZE}",
        f"bytes {5 * MIB}-{SIZE - 1}/{SIZE}",
        f"bytes {10 * MIB}-{SIZE - 2}/{SIZE}",
    ],
)
def test_a_part_that_does_not_lie_on_the_grid_is_refused(header: str) -> None:
    with pytest.raises(AppwriteError) as caught:
        parse(header, limit=LIMIT)
    assert caught.value.problem.type == "storage_invalid_content_range"


def test_a_file_beyond_the_limit_is_refused_by_its_first_part() -> None:
    with pytest.raises(AppwriteError) as caught:
        parse(f"bytes 0-{5 * MIB - 1}/{LIMIT + 1}", limit=LIMIT)
    assert caught.value.problem.type == "storage_invalid_file_size"
    assert str(LIMIT) in caught.value.message
