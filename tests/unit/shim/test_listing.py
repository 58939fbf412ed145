from typing import Any

import pytest

from appfn.api.base import Json
from appfn.shim.errors import AppwriteError
from appfn.shim.rest import listing

NAMES = {name: name for name in ("$id", "name", "timeout", "enabled", "schedule", "$createdAt")} | {"age": "timeout"}
ITEMS = [
    {"$id": "a", "name": "cats", "timeout": 15, "enabled": True, "schedule": "", "$createdAt": "2026-01-01T00:00:00Z"},
    {
        "$id": "b",
        "name": "ants",
        "timeout": 30,
        "enabled": False,
        "schedule": "*",
        "$createdAt": "2026-01-02T00:00:00Z",
    },
    {"$id": "c", "name": "bees", "timeout": 15, "enabled": True, "schedule": "", "$createdAt": "2026-01-03T00:00:00Z"},
]


def listed(*queries: str, **arguments: Any) -> Json:
    return listing.page(ITEMS, {"queries": list(queries), **arguments}, plural="things", attributes=NAMES)


def ids(*queries: str, **arguments: Any) -> str:
    return "".join(item["$id"] for item in listed(*queries, **arguments)["things"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('equal("name", ["ants", "bees"])', "bc"),
        ('equal("timeout", 15)', "ac"),
        ('equal("age", [15.0])', "ac"),
        ('equal("enabled", true)', "ac"),
        ('equal("enabled", 1)', ""),
        ('equal("timeout", "15")', ""),
        ('notEqual("name", "ants")', "ac"),
        ('lessThan("timeout", 30)', "ac"),
        ('lessThanEqual("timeout", 30)', "abc"),
        ('greaterThan("timeout", 15)', "b"),
        ('greaterThanEqual("timeout", 15)', "abc"),
        ('greaterThan("name", 1)', ""),
        ('between("timeout", 20, 40)', "b"),
        ('isNull("schedule")', "ac"),
        ('isNotNull("schedule")', "b"),
        ('startsWith("name", "a")', "b"),
        ('endsWith("name", "s")', "abc"),
        ('contains("name", ["ee", "at"])', "ac"),
        ('search("name", "CAT")', "a"),
        ('greaterThan("$createdAt", "2026-01-01T12:00:00.000+00:00")', "bc"),
        ('equal("$createdAt", "2026-01-02T01:00:00+01:00")', "b"),
        ('orderAsc("name")', "bca"),
        ('orderDesc("timeout")', "bac"),
        ('orderDesc("$createdAt")', "cba"),
        ('orderDesc("")', "cba"),
        ("limit(2)", "ab"),
        ("offset(1)", "bc"),
        ('cursorAfter("a")', "bc"),
        ('cursorBefore("c")', "ab"),
        ('select(["name"])', "abc"),
        ('{"method":"equal","attribute":"name","values":["bees"]}', "c"),
    ],
)
def test_a_query_finds_what_it_says(query: str, expected: str) -> None:
    assert ids(query) == expected


def test_queries_work_together() -> None:
    assert ids('orderAsc("timeout")', 'orderDesc("$createdAt")') == "cab"
    assert ids('equal("enabled", true)', 'orderDesc("$createdAt")', "limit(1)") == "c"
    assert ids('orderDesc("$createdAt")', 'cursorAfter("c")', "limit(1)") == "b"
    assert ids('cursorBefore("c")', "limit(1)") == "b"
    assert ids('cursorBefore("c")', "offset(1)") == "a"
    assert ids('cursorAfter("b")', 'equal("enabled", true)') == "c", "a cursor need not match"


def test_the_total_counts_all_pages_unless_it_is_not_wanted() -> None:
    assert listed("limit(1)") == {"total": 3, "things": ITEMS[:1]}
    assert listed('equal("enabled", true)', "offset(1)")["total"] == 2
    assert listed(total=False)["total"] == 0


def test_search_looks_into_names_and_ids_in_any_case() -> None:
    assert ids(search="ANT") == "b"
    assert ids(search="a") == "ab"
    assert ids(search="") == "abc"


def test_the_parameters_before_1_0_page_too() -> None:
    assert ids(limit=1, offset=1) == "b"
    assert ids(cursor="b", cursorDirection="after") == "c"
    assert ids(cursor="b", cursorDirection="before") == "a"
    assert ids(orderType="DESC") == "cba"


def test_items_are_shown_as_the_format_wants_them() -> None:
    shown = listing.page(ITEMS, {}, plural="things", attributes=NAMES, show=lambda item: {"id": item["$id"]})

    assert shown["things"] == [{"id": "a"}, {"id": "b"}, {"id": "c"}]


@pytest.mark.parametrize(
    ("query", "type_"),
    [
        ('equal("nope", 1)', "general_query_invalid"),
        ('orderAsc("nope")', "general_query_invalid"),
        ('lessThan("$createdAt", "soon")', "general_query_invalid"),
        ('lessThan("$createdAt", "2026-01-01T00:00:00")', "general_query_invalid"),
        ('lessThan("$createdAt", 5)', "general_query_invalid"),
        ('cursorAfter("nope")', "general_cursor_not_found"),
    ],
)
def test_what_cannot_be_answered_is_refused(query: str, type_: str) -> None:
    with pytest.raises(AppwriteError) as caught:
        listed(query)

    assert caught.value.problem.type == type_


def test_who_asks_for_an_unknown_attribute_is_told_which_there_are() -> None:
    with pytest.raises(AppwriteError, match=r"'nope' can't be used here: use one of \$id, name, timeout"):
        listed('equal("nope", 1)')
