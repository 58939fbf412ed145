"""What a list of executions can be filtered and ordered by, pure: a `ListQuery` in, the store's filters out."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from appfn.shim import queries
from appfn.shim.queries import Condition, ListQuery
from appfn.store.model import Comparison, Field, Filter

_MADE = frozenset({"", "$createdAt", "$sequence"})
_FIELDS = {
    "trigger": Field.TRIGGER,
    "status": Field.PHASE,
    "statusCode": Field.STATUS_CODE,
    "responseStatusCode": Field.STATUS_CODE,
    "duration": Field.DURATION,
    "requestMethod": Field.METHOD,
    "requestPath": Field.PATH,
    "deploymentId": Field.DEPLOYMENT,
    "$id": Field.ID,
    "$createdAt": Field.CREATED_AT,
    "$updatedAt": Field.UPDATED_AT,
}
_COMPARISONS = {comparison.value: comparison for comparison in Comparison}


def filters(query: ListQuery, *, deployments: Mapping[str, str]) -> tuple[Filter, ...]:
    """Return the conditions of a query as the store takes them.

    Args:
        query: what is asked for.
        deployments: names of the function's deployments by Appwrite id; of one that is gone, the name is the id.

    Raises:
        AppwriteError: general_query_invalid.
    """
    return tuple(one for condition in query.conditions for one in _filters(condition, deployments))


def order(query: ListQuery) -> tuple[Field, bool]:
    """Return what to order by, and whether the greatest, or newest, is to come first.

    Raises:
        AppwriteError: general_query_invalid.
    """
    if not query.orders:
        return Field.CREATED_AT, False
    first = query.orders[0]  # what is alike in it comes in the order of acceptance, whatever else is asked for
    if first.attribute in _MADE:
        return Field.CREATED_AT, first.descending
    return _field(first.attribute), first.descending


def _filters(condition: Condition, deployments: Mapping[str, str]) -> Iterator[Filter]:
    field, values = _field(condition.attribute), condition.values
    if field is Field.DEPLOYMENT:
        values = tuple(deployments.get(value, value) for value in values)
    if condition.method == "between":
        yield _filter(condition, field, Comparison.GREATER_EQUAL, values[:1])
        yield _filter(condition, field, Comparison.LESS_EQUAL, values[1:])
        return
    comparison = _COMPARISONS.get(condition.method)
    if comparison is None:
        raise queries.invalid(f"the method {condition.method!r} is not supported for executions")
    yield _filter(condition, field, comparison, values)


def _field(attribute: str) -> Field:
    field = _FIELDS.get(attribute)
    if field is None:
        raise queries.unknown(attribute, _FIELDS)
    return field


def _filter(condition: Condition, field: Field, comparison: Comparison, values: tuple[Any, ...]) -> Filter:
    try:
        read = tuple(map(datetime.fromisoformat, values)) if field.type is datetime else values
        return Filter(field, comparison, read)
    except (ValueError, TypeError) as error:
        raise queries.invalid(f"{condition.attribute} can't be compared with what is given") from error
