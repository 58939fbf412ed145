"""What a client asks of a list, pure: three generations of parameters in, one `ListQuery` out.

`limit(5)` (SDKs of 1.0 to 1.3), `{"method":"limit","values":[5]}` (current SDKs), `?limit=5` (0.13 to 0.15).
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.requests import is_id
from appfn.store.model import Comparison, Field, Filter

DEFAULT_LIMIT = 25
MAX_LIMIT = 100
MAX_OFFSET = 5000
MAX_QUERIES = 100
MAX_QUERY_LENGTH = 4096
_DIGITS = 10
_CALL = re.compile(r"([A-Za-z]{1,32})\((.*)\)", re.DOTALL)
_QUERIES = re.compile(r"queries(\[\d{0,4}\])?", re.ASCII)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """Which executions of a function, in which order: oldest first unless `descending`, as in Appwrite."""

    limit: int = DEFAULT_LIMIT
    offset: int = 0
    cursor_after: str = ""
    cursor_before: str = ""
    filters: tuple[Filter, ...] = ()
    descending: bool = False


def parse(parameters: Iterable[tuple[str, str]]) -> ListQuery:
    """Return the query that URL parameters (repeats allowed, in order) say.

    Raises:
        AppwriteError: general_query_invalid, naming the query.
    """
    pairs = list(parameters)
    query = _legacy(dict(pairs))
    texts = [value for name, value in pairs if _QUERIES.fullmatch(name)]
    if len(texts) > MAX_QUERIES:
        raise _invalid(f"at most {MAX_QUERIES} queries are allowed")
    for text in texts:
        query = _apply(query, *_method(text))
    if query.cursor_after and query.cursor_before:
        raise _invalid("cursorAfter and cursorBefore exclude each other")
    return query


def _legacy(parameters: Mapping[str, str]) -> ListQuery:
    query = ListQuery()
    for name in ("limit", "offset"):
        if value := parameters.get(name):
            query = _apply(query, name, "", [_number(value)])
    if cursor := parameters.get("cursor"):
        before = parameters.get("cursorDirection") == "before"
        query = _apply(query, "cursorBefore" if before else "cursorAfter", "", [cursor])
    return replace(query, descending=parameters.get("orderType", "").upper() == "DESC")


def _number(value: str) -> object:
    return int(value) if value.isascii() and value.isdigit() and len(value) < _DIGITS else value


def _method(text: str) -> tuple[str, str, list[Any]]:
    """Return method, attribute and values of one query in either syntax."""
    if len(text) > MAX_QUERY_LENGTH:
        raise _invalid(f"a query may have {MAX_QUERY_LENGTH} characters")
    try:
        return _method_json(text) if text.lstrip().startswith("{") else _method_call(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"{text[:80]!r} is not a query") from error


def _method_json(text: str) -> tuple[str, str, list[Any]]:
    query = json.loads(text)
    method, attribute, values = query.get("method"), query.get("attribute", ""), query.get("values", [])
    if not isinstance(method, str) or not isinstance(attribute, str) or not isinstance(values, list):
        raise ValueError("method and attribute must be strings, values a list")  # noqa: TRY004 - one error for all of it
    return method, attribute, values


def _method_call(text: str) -> tuple[str, str, list[Any]]:
    match = _CALL.fullmatch(text.strip())
    if match is None:
        raise ValueError("not of the form method(arguments)")
    arguments = json.loads(f"[{match[2]}]")
    if match[1] in {"limit", "offset", "cursorAfter", "cursorBefore"}:
        return match[1], "", arguments
    attribute, *values = arguments or [""]
    if not isinstance(attribute, str):
        raise ValueError("the attribute must be a string")  # noqa: TRY004 - as above
    flat = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    return match[1], attribute, flat


def _apply(query: ListQuery, method: str, attribute: str, values: list[Any]) -> ListQuery:
    match method:
        case "limit":
            return replace(query, limit=_integer(method, values, low=1, high=MAX_LIMIT))
        case "offset":
            return replace(query, offset=_integer(method, values, low=0, high=MAX_OFFSET))
        case "cursorAfter":
            return replace(query, cursor_after=_text(method, values))
        case "cursorBefore":
            return replace(query, cursor_before=_text(method, values))
        case "orderDesc" | "orderAsc":
            return replace(query, descending=_order(method, attribute))
        case _ if method in _COMPARISONS:
            return replace(query, filters=(*query.filters, _filter(_COMPARISONS[method], attribute, values)))
        case _:
            raise _invalid(f"the method {method[:32]!r} is not supported here")


def _filter(comparison: Comparison, attribute: str, values: list[Any]) -> Filter:
    field = _FIELDS.get(attribute)
    if field is None:
        raise _invalid(f"the attribute {attribute[:32]!r} can't be filtered by: use one of {', '.join(_FIELDS)}")
    try:
        if any(isinstance(value, str) and not value.isprintable() for value in values):
            raise ValueError("not printable")  # noqa: TRY301 - one error for all of it
        read = [datetime.fromisoformat(value) for value in values] if field is Field.CREATED_AT else values
        return Filter(field, comparison, tuple(read))
    except (ValueError, TypeError) as error:
        raise _invalid(f"{attribute} can't be compared with what is given") from error


def _order(method: str, attribute: str) -> bool:
    if attribute not in _ORDERABLE:
        raise _invalid(f"{method} works on $createdAt alone")
    return method == "orderDesc"


def _integer(method: str, values: list[Any], *, low: int, high: int) -> int:
    match values:
        case [int(value)] if not isinstance(value, bool) and low <= value <= high:
            return value
    raise _invalid(f"{method} takes one whole number from {low} to {high}")


def _text(method: str, values: list[Any]) -> str:
    match values:
        case [str(value)] if is_id(value):
            return value
    raise _invalid(f"{method} takes the id of an execution")


def _invalid(message: str) -> AppwriteError:
    return AppwriteError(Problem.QUERY_INVALID, f"Invalid query: {message}")
