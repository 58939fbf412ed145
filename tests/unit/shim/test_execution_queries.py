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
    ],
)
def test_conditions_become_filters_of_the_store(text: str, expected: Filter) -> None:
    assert execution_queries.filters(queries.parse([("queries[]", text)])) == (expected,)


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
        execution_queries.filters(queries.parse([("queries[]", text)]))

    assert caught.value.problem.type == "general_query_invalid"


def test_executions_are_ordered_by_their_creation_alone() -> None:
    newest = queries.parse([("queries[]", 'orderDesc("$createdAt")')])
    longest = queries.parse([("queries[]", 'orderDesc("duration")')])

    assert execution_queries.descending(newest)
    assert not execution_queries.descending(queries.parse([]))
    with pytest.raises(AppwriteError, match=r"by \$createdAt alone"):
        execution_queries.descending(longest)
