import json

import pytest

from appfn.shim import queries
from appfn.shim.errors import AppwriteError
from appfn.shim.queries import Condition, ListQuery, Order

COMPLETED = (Condition("equal", "status", ("completed",)),)
NEWEST = (Order("$createdAt", descending=True),)
MADE_LAST = (Order("", descending=True),)
Pairs = list[tuple[str, str]]


def as_json(method: str, *values: object, attribute: str | None = None) -> str:
    query: dict[str, object] = {"method": method, "values": list(values)}
    return json.dumps(query if attribute is None else query | {"attribute": attribute})


@pytest.mark.parametrize(
    ("parameters", "query"),
    [
        pytest.param([], ListQuery(), id="nothing"),
        pytest.param(
            [("queries[0]", "limit(5)"), ("queries[1]", "offset(2)")], ListQuery(limit=5, offset=2), id="call"
        ),
        pytest.param(
            [("queries[]", 'equal("status", ["completed"])')], ListQuery(conditions=COMPLETED), id="call-list"
        ),
        pytest.param([("queries[]", 'equal("status", "completed")')], ListQuery(conditions=COMPLETED), id="call-value"),
        pytest.param([("queries[]", 'cursorAfter("abc")')], ListQuery(cursor_after="abc"), id="call-cursor"),
        pytest.param([("queries[]", 'orderDesc("$createdAt")')], ListQuery(orders=NEWEST), id="call-order"),
        pytest.param([("queries[]", 'orderDesc("")')], ListQuery(orders=MADE_LAST), id="call-order-default"),
        pytest.param([("queries[]", "orderDesc()")], ListQuery(orders=MADE_LAST), id="call-order-nothing"),
        pytest.param([("queries[0]", as_json("limit", 5))], ListQuery(limit=5), id="json"),
        pytest.param(
            [("queries[0]", as_json("equal", "completed", attribute="status"))],
            ListQuery(conditions=COMPLETED),
            id="json-equal",
        ),
        pytest.param(
            [("queries[0]", as_json("orderDesc", attribute="$createdAt"))], ListQuery(orders=NEWEST), id="json-order"
        ),
        pytest.param(
            [("queries[0]", as_json("cursorBefore", "abc"))], ListQuery(cursor_before="abc"), id="json-cursor"
        ),
        pytest.param([("limit", "5"), ("offset", "2")], ListQuery(limit=5, offset=2), id="0.15"),
        pytest.param([("cursor", "abc")], ListQuery(cursor_after="abc"), id="0.15-cursor"),
        pytest.param(
            [("cursor", "abc"), ("cursorDirection", "before")], ListQuery(cursor_before="abc"), id="0.15-before"
        ),
        pytest.param([("orderType", "DESC"), ("search", "")], ListQuery(orders=MADE_LAST), id="0.15-order"),
        pytest.param(
            [("queries[]", 'orderAsc("name")'), ("queries[]", 'orderDesc("$createdAt")')],
            ListQuery(orders=(Order("name"), *NEWEST)),
            id="orders",
        ),
        pytest.param(
            [("queries[]", as_json("between", 1, 5, attribute="timeout"))],
            ListQuery(conditions=(Condition("between", "timeout", (1, 5)),)),
            id="json-between",
        ),
        pytest.param(
            [("queries[]", 'isNull("schedule")')],
            ListQuery(conditions=(Condition("isNull", "schedule", ()),)),
            id="call-null",
        ),
        pytest.param([("queries[]", 'select(["$id"])')], ListQuery(), id="call-select"),
        pytest.param([("queries[]", as_json("select", "$id", "name"))], ListQuery(), id="json-select"),
    ],
)
def test_each_generation_of_queries_is_understood(parameters: Pairs, query: ListQuery) -> None:
    assert queries.parse(parameters) == query


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param([("limit", "0")], id="limit-0"),
        pytest.param([("limit", "101")], id="limit-101"),
        pytest.param([("limit", "-1")], id="limit-negative"),
        pytest.param([("limit", "5.5")], id="limit-fraction"),
        pytest.param([("limit", "9" * 5000)], id="limit-huge"),
        pytest.param([("offset", "5001")], id="offset"),
        pytest.param([("cursor", "a b")], id="cursor"),
        pytest.param([("queries[]", "limit")], id="no-call"),
        pytest.param([("queries[]", "limit(5")], id="open"),
        pytest.param([("queries[]", "limit(true)")], id="boolean"),
        pytest.param([("queries[]", 'limit("5")')], id="string"),
        pytest.param([("queries[]", "equal(status, completed)")], id="unquoted"),
        pytest.param([("queries[]", 'equal("status", [])')], id="no-values"),
        pytest.param([("queries[]", 'equal("requestPath", ["\\u0000"])')], id="nul"),
        pytest.param([("queries[]", 'equal("requestPath", ["\\ud800"])')], id="surrogate"),
        pytest.param([("queries[]", 'notSearch("name", "x")')], id="method"),
        pytest.param([("queries[]", 'between("timeout", 1)')], id="between-one"),
        pytest.param([("queries[]", 'isNull("timeout", 1)')], id="null-value"),
        pytest.param([("queries[]", 'lessThan("timeout", [1, 2])')], id="less-than-two"),
        pytest.param([("queries[]", 'equal("name", [{"a": 1}])')], id="object"),
        pytest.param([("queries[]", "{")], id="broken-json"),
        pytest.param([("queries[]", '{"method": 5}')], id="json-method"),
        pytest.param([("queries[]", '{"method": "limit", "values": 5}')], id="json-values"),
        pytest.param([("queries[]", "limit(" + "[" * 4000 + ")")], id="deep"),
        pytest.param([("queries[]", "limit(" + "1" * 4100 + ")")], id="long"),
        pytest.param([("queries[]", "limit(1)")] * 101, id="many"),
        pytest.param([("queries[]", 'cursorAfter("a")'), ("queries[]", 'cursorBefore("b")')], id="both-cursors"),
    ],
)
def test_what_is_no_query_is_refused(parameters: Pairs) -> None:
    with pytest.raises(AppwriteError) as caught:
        queries.parse(parameters)

    assert caught.value.problem.type == "general_query_invalid"
    assert len(caught.value.message) < 300


def test_the_arguments_of_an_operation_say_the_same_as_the_url() -> None:
    arguments = {"limit": 5, "orderType": "DESC", "queries": ["offset(2)"]}

    assert queries.asked(arguments) == ListQuery(limit=5, offset=2, orders=MADE_LAST)
