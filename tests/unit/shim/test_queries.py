import json
from datetime import UTC, datetime

import pytest

from appfn.shim import queries
from appfn.shim.errors import AppwriteError
from appfn.shim.queries import ListQuery
from appfn.store.model import Comparison, Field, Filter

COMPLETED = (Filter(Field.PHASE, Comparison.EQUAL, ("completed",)),)
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
        pytest.param([("queries[]", 'equal("status", ["completed"])')], ListQuery(filters=COMPLETED), id="call-list"),
        pytest.param([("queries[]", 'equal("status", "completed")')], ListQuery(filters=COMPLETED), id="call-value"),
        pytest.param([("queries[]", 'cursorAfter("abc")')], ListQuery(cursor_after="abc"), id="call-cursor"),
        pytest.param([("queries[]", 'orderDesc("$createdAt")')], ListQuery(descending=True), id="call-order"),
        pytest.param([("queries[]", 'orderDesc("")')], ListQuery(descending=True), id="call-order-default"),
        pytest.param([("queries[]", "orderDesc()")], ListQuery(descending=True), id="call-order-nothing"),
        pytest.param([("queries[0]", as_json("limit", 5))], ListQuery(limit=5), id="json"),
        pytest.param(
            [("queries[0]", as_json("equal", "completed", attribute="status"))],
            ListQuery(filters=COMPLETED),
            id="json-equal",
        ),
        pytest.param(
            [("queries[0]", as_json("orderDesc", attribute="$createdAt"))], ListQuery(descending=True), id="json-order"
        ),
        pytest.param(
            [("queries[0]", as_json("cursorBefore", "abc"))], ListQuery(cursor_before="abc"), id="json-cursor"
        ),
        pytest.param([("limit", "5"), ("offset", "2")], ListQuery(limit=5, offset=2), id="0.15"),
        pytest.param([("cursor", "abc")], ListQuery(cursor_after="abc"), id="0.15-cursor"),
        pytest.param(
            [("cursor", "abc"), ("cursorDirection", "before")], ListQuery(cursor_before="abc"), id="0.15-before"
        ),
        pytest.param([("orderType", "DESC"), ("search", "")], ListQuery(descending=True), id="0.15-order"),
        pytest.param(
            [("queries[]", as_json("greaterThan", 400, attribute="responseStatusCode"))],
            ListQuery(filters=(Filter(Field.STATUS_CODE, Comparison.GREATER, (400,)),)),
            id="json-number",
        ),
        pytest.param(
            [("queries[]", as_json("lessThan", "2030-01-01T00:00:00.000+00:00", attribute="$createdAt"))],
            ListQuery(filters=(Filter(Field.CREATED_AT, Comparison.LESS, (datetime(2030, 1, 1, tzinfo=UTC),)),)),
            id="json-date",
        ),
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
        pytest.param([("queries[]", 'equal("response", ["x"])')], id="attribute"),
        pytest.param([("queries[]", 'equal("requestPath", ["\\u0000"])')], id="nul"),
        pytest.param([("queries[]", 'equal("requestPath", ["\\ud800"])')], id="surrogate"),
        pytest.param([("queries[]", 'equal("statusCode", ["200"])')], id="type"),
        pytest.param([("queries[]", 'orderDesc("duration")')], id="order"),
        pytest.param([("queries[]", 'search("response", "x")')], id="method"),
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
