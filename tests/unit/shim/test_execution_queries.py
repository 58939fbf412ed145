from datetime import UTC, datetime

import pytest

from appfn.shim import execution_queries, queries
from appfn.shim.errors import AppwriteError
from appfn.store.model import Comparison, Field, Filter


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            'equal("status", ["completed"])', Filter(Field.PHASE, Comparison.EQUAL, ("completed",)), id="status"
        ),
        pytest.param(
            'greaterThan("responseStatusCode", 400)',
            Filter(Field.STATUS_CODE, Comparison.GREATER, (400,)),
            id="number",
        ),
        pytest.param(
            'lessThan("$createdAt", "2030-01-01T00:00:00.000+00:00")',
            Filter(Field.CREATED_AT, Comparison.LESS, (datetime(2030, 1, 1, tzinfo=UTC),)),
            id="date",
        ),
        pytest.param('equal("$id", ["a"])', Filter(Field.ID, Comparison.EQUAL, ("a",)), id="id"),
        pytest.param(
            'equal("deploymentId", ["Dep.1", "gone"])',
            Filter(Field.DEPLOYMENT, Comparison.EQUAL, ("dep-1", "gone")),
            id="deployment",
        ),
        pytest.param('equal("requestMethod", ["GET"])', Filter(Field.METHOD, Comparison.EQUAL, ("GET",)), id="method"),
        pytest.param('notEqual("requestPath", "/a")', Filter(Field.PATH, Comparison.NOT_EQUAL, ("/a",)), id="path"),
    ],
)
def test_conditions_become_filters_of_the_store(text: str, expected: Filter) -> None:
    assert execution_queries.filters(queries.parse([("queries[]", text)]), deployments={"Dep.1": "dep-1"}) == (
        expected,
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('equal("response", ["x"])', id="attribute"),
        pytest.param('equal("statusCode", ["200"])', id="type"),
        pytest.param('lessThan("$createdAt", "soon")', id="date"),
        pytest.param('startsWith("requestPath", "/")', id="method"),
    ],
)
def test_what_executions_cannot_be_filtered_by_is_refused(text: str) -> None:
    with pytest.raises(AppwriteError) as caught:
        execution_queries.filters(queries.parse([("queries[]", text)]), deployments={})

    assert caught.value.problem.type == "general_query_invalid"


def test_between_is_a_filter_for_each_end() -> None:
    query = queries.parse([("queries[]", 'between("responseStatusCode", 400, 499)')])

    assert execution_queries.filters(query, deployments={}) == (
        Filter(Field.STATUS_CODE, Comparison.GREATER_EQUAL, (400,)),
        Filter(Field.STATUS_CODE, Comparison.LESS_EQUAL, (499,)),
    )


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param([], (Field.CREATED_AT, False), id="none"),
        pytest.param(['orderDesc("$createdAt")'], (Field.CREATED_AT, True), id="newest"),
        pytest.param(['orderDesc("")'], (Field.CREATED_AT, True), id="0.15"),
        pytest.param(['orderDesc("duration")'], (Field.DURATION, True), id="longest"),
        pytest.param(['orderAsc("status")', 'orderDesc("$id")'], (Field.PHASE, False), id="first"),
    ],
)
def test_executions_are_ordered_by_the_first_attribute_named(texts: list[str], expected: tuple[Field, bool]) -> None:
    assert execution_queries.order(queries.parse([("queries[]", text) for text in texts])) == expected


def test_executions_cannot_be_ordered_by_what_they_cannot_be_filtered_by() -> None:
    with pytest.raises(AppwriteError, match="can't be used here"):
        execution_queries.order(queries.parse([("queries[]", 'orderAsc("response")')]))
