"""Lists of what the catalog holds, pure: models in, the page that a query asks for out."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from operator import eq, ge, gt, le, lt
from typing import Any

from appfn.api.base import Json
from appfn.shim import queries
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.queries import Condition, ListQuery
from appfn.shim.rest.operation import In, Parameter, Type
from appfn.store.model import MAX_TOTAL

PARAMETERS = (
    Parameter(name="queries", where=In.QUERY, type=Type.STRINGS, about="Filters, order and page, in either syntax."),
    Parameter(name="search", where=In.QUERY, max_length=256, about="Text that has to be in a name or an id."),
    Parameter(name="total", where=In.QUERY, type=Type.BOOLEAN, about="Whether to count; 0 is answered if not."),
    Parameter(name="limit", where=In.QUERY, type=Type.INTEGER, low=1, high=queries.MAX_LIMIT, about="Before 1.0."),
    Parameter(name="offset", where=In.QUERY, type=Type.INTEGER, low=0, high=queries.MAX_OFFSET, about="Before 1.0."),
    Parameter(name="cursor", where=In.QUERY, about="Id to go on from, before 1.0."),
    Parameter(name="cursorDirection", where=In.QUERY, choices=("", "after", "before"), about="Before 1.0."),
    Parameter(name="orderType", where=In.QUERY, choices=("", "ASC", "DESC"), about="Order of creation, before 1.0."),
)
"""What every list takes."""
_MADE = frozenset({"", "$sequence"})
_DATES = frozenset({"scheduleNext", "schedulePrevious", "startTime", "endTime"})
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "lessThan": lt,
    "lessThanEqual": le,
    "greaterThan": gt,
    "greaterThanEqual": ge,
}


def page(
    items: Iterable[Json],
    arguments: Json,
    *,
    plural: str,
    attributes: Mapping[str, str],
    searched: Iterable[str] = ("$id", "name"),
    show: Callable[[Json], Json] = dict,
    limit: int = queries.DEFAULT_LIMIT,
) -> Json:
    """Return the list model with the page asked for.

    Args:
        items: models with a `$id`, in the order they were made.
        arguments: the operation's, with those of `PARAMETERS`.
        plural: key of the items in the model.
        attributes: what can be filtered and ordered by: as clients call it, and the key in a model of `items`.
        searched: keys that the parameter `search` looks into.
        limit: how many to return where the client does not say.
        show: turns an item into what the client sees, such as the model of an older format.

    Raises:
        AppwriteError: general_query_invalid, general_cursor_not_found.
    """
    query = queries.asked(arguments, limit=limit)
    ordered = _ordered(list(items), query, attributes)
    wanted = str(arguments.get("search", "")).casefold()
    keys = tuple(searched)
    tests = [_test(condition, attributes) for condition in query.conditions]

    def matches(item: Json) -> bool:
        found = not wanted or any(wanted in str(item.get(key, "")).casefold() for key in keys)
        return found and all(test(item) for test in tests)

    total = sum(map(matches, ordered)) if arguments.get("total", True) else 0
    shown = [show(item) for item in _cut(ordered, query, matches)]
    return {"total": min(total, MAX_TOTAL), plural: shown}


def _ordered(items: list[Json], query: ListQuery, attributes: Mapping[str, str]) -> list[Json]:
    for order in reversed(query.orders):
        if order.attribute in _MADE:
            items = items[::-1] if order.descending else items
        else:
            key = _key(order.attribute, attributes)
            items = sorted(items, key=lambda item, key=key: _rank(_value(item, key)), reverse=order.descending)  # type: ignore[misc]
    return items


def _rank(value: Any) -> tuple[int, Any]:
    """Return what values of any types are ordered by: nothing first, then numbers, dates, texts."""
    match value:
        case None:
            return 0, 0
        case bool() | int() | float():
            return 1, value
        case datetime():
            return 2, value
        case _:
            return 3, str(value)


def _cut(items: list[Json], query: ListQuery, matches: Callable[[Json], bool]) -> list[Json]:
    """Return the page. A cursor may be an item that does not match: the page is what matches behind or before it."""
    if query.cursor_before:
        before = [item for item in items[: _place(items, query.cursor_before)] if matches(item)]
        end = len(before) - query.offset
        return before[max(0, end - query.limit) : max(0, end)]
    start = _place(items, query.cursor_after) + 1 if query.cursor_after else 0
    found = [item for item in items[start:] if matches(item)]
    return found[query.offset : query.offset + query.limit]


def _place(items: list[Json], cursor: str) -> int:
    for place, item in enumerate(items):
        if item["$id"] == cursor:
            return place
    raise AppwriteError(Problem.CURSOR_NOT_FOUND, f"The cursor is invalid: there is no {cursor!r} in this list.")


def _key(attribute: str, attributes: Mapping[str, str]) -> str:
    key = attributes.get(attribute)
    if key is None:
        raise queries.unknown(attribute, attributes)
    return key


def _value(item: Json, key: str) -> Any:
    """Return an attribute of an item as it is compared; a date that is not set is nothing."""
    value = item.get(key)
    return (datetime.fromisoformat(value) if value else None) if _is_date(key) else value


def _is_date(key: str) -> bool:
    return key in _DATES or key.endswith("At")


def _test(condition: Condition, attributes: Mapping[str, str]) -> Callable[[Json], bool]:
    key = _key(condition.attribute, attributes)
    try:
        values = tuple(map(_date, condition.values)) if _is_date(key) else condition.values
    except (ValueError, TypeError) as error:
        raise queries.invalid(f"{condition.attribute} is compared with dates, such as 2026-01-31T12:00:00Z") from error
    return partial(_holds, condition.method, key, values)


def _date(text: Any) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("without a time zone")
    return moment


def _holds(method: str, key: str, values: tuple[Any, ...], item: Json) -> bool:
    value = _value(item, key)
    match method:
        case "isNull":
            return value is None or value == ""
        case "isNotNull":
            return value is not None and value != ""
        case "equal":
            return any(_compares(eq, value, wanted) for wanted in values)
        case "notEqual":
            return not any(_compares(eq, value, wanted) for wanted in values)
        case "between":
            return _compares(ge, value, values[0]) and _compares(le, value, values[1])
        case "contains":
            return any(wanted in value if isinstance(value, list) else str(wanted) in str(value) for wanted in values)
        case "search":
            return str(values[0]).casefold() in str(value).casefold()
        case "startsWith":
            return isinstance(value, str) and value.startswith(str(values[0]))
        case "endsWith":
            return isinstance(value, str) and value.endswith(str(values[0]))
        case _:
            return _compares(_COMPARE[method], value, values[0])


def _compares(operator: Callable[[Any, Any], bool], value: Any, wanted: Any) -> bool:
    """Compare what is of one type; true and 1 are not, nor are 5 and "5"."""
    numbers = isinstance(value, int | float) and isinstance(wanted, int | float)
    alike = type(value) is type(wanted) or (numbers and not isinstance(value, bool) and not isinstance(wanted, bool))
    return alike and bool(operator(value, wanted))
