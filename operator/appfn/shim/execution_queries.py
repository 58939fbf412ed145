"""What a list of executions can be filtered and ordered by, pure: a `ListQuery` in, the store's filters out."""

from datetime import datetime

from appfn.shim import queries
from appfn.shim.queries import Condition, ListQuery
from appfn.store.model import Comparison, Field, Filter

_ORDERABLE = frozenset({"", "$createdAt", "$id", "$sequence"})
_FIELDS = {
    "status": Field.PHASE,
    "trigger": Field.TRIGGER,
    "statusCode": Field.STATUS_CODE,
    "responseStatusCode": Field.STATUS_CODE,
    "duration": Field.DURATION,
    "requestMethod": Field.METHOD,
    "requestPath": Field.PATH,
    "$createdAt": Field.CREATED_AT,
}
_COMPARISONS = {comparison.value: comparison for comparison in Comparison}


def filters(query: ListQuery) -> tuple[Filter, ...]:
    """Return the conditions of a query as the store takes them.

    Raises:
        AppwriteError: general_query_invalid.
    """
    return tuple(_filter(condition) for condition in query.conditions)


def descending(query: ListQuery) -> bool:
    """Tell whether the newest execution is to come first.

    Raises:
        AppwriteError: general_query_invalid: the order of acceptance is the only one there is.
    """
    if any(order.attribute not in _ORDERABLE for order in query.orders):
        raise queries.invalid("executions can be ordered by $createdAt alone")
    return query.orders[-1].descending if query.orders else False


def _filter(condition: Condition) -> Filter:
    field, comparison = _FIELDS.get(condition.attribute), _COMPARISONS.get(condition.method)
    if comparison is None:
        raise queries.invalid(f"the method {condition.method!r} is not supported for executions")
    if field is None:
        raise queries.unknown(condition.attribute, _FIELDS)
    values = condition.values
    try:
        read = tuple(map(datetime.fromisoformat, values)) if field is Field.CREATED_AT else values
        return Filter(field, comparison, read)
    except (ValueError, TypeError) as error:
        raise queries.invalid(f"{condition.attribute} can't be compared with what is given") from error
