"""What a client asks of a list, pure: three generations of parameters in, one `ListQuery` out.

`limit(5)` (SDKs of 1.0 to 1.3), `{"method":"limit","values":[5]}` (current SDKs), `?limit=5` (0.13 to 0.15). Which
attributes there are, and what they are compared with, each resource checks for itself.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from appfn.api.base import Json
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.requests import is_id

DEFAULT_LIMIT = 25
MAX_LIMIT = 100
MAX_OFFSET = 5000
MAX_QUERIES = 100
MAX_QUERY_LENGTH = 4096
METHODS = frozenset(
    {
        "equal",
        "notEqual",
        "lessThan",
        "lessThanEqual",
        "greaterThan",
        "greaterThanEqual",
        "between",
        "isNull",
        "isNotNull",
        "startsWith",
        "endsWith",
        "contains",
        "search",
    }
)
"""Those that compare an attribute."""
_WITHOUT_ATTRIBUTE = frozenset({"limit", "offset", "cursorAfter", "cursorBefore", "select"})
_DIGITS = 10
_CALL = re.compile(r"([A-Za-z]{1,32})\((.*)\)", re.DOTALL)
_QUERIES = re.compile(r"queries(\[\d{0,4}\])?", re.ASCII)
_LEGACY = ("limit", "offset", "cursor", "cursorDirection", "orderType")


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of what is listed: a method of `METHODS`, an attribute as the client calls it, values."""

    method: str
    attribute: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """One attribute to order by; empty for the order in which things were made."""

    attribute: str
    descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """Which objects, in which order: oldest first unless `orders` says otherwise, as in Appwrite."""

    limit: int = DEFAULT_LIMIT
    offset: int = 0
    cursor_after: str = ""
    cursor_before: str = ""
    conditions: tuple[Condition, ...] = ()
    orders: tuple[Order, ...] = ()


def asked(arguments: Json, *, limit: int = DEFAULT_LIMIT) -> ListQuery:
    """Return the query that an operation's validated arguments say: `queries` and the parameters of 0.13 to 0.15.

    Without a limit among them, it is `limit`.

    Raises:
        AppwriteError: general_query_invalid, naming the query.
    """
    legacy = [(name, str(arguments[name])) for name in _LEGACY if arguments.get(name) is not None]
    return parse([("limit", str(limit)), *legacy, *(("queries[]", text) for text in arguments.get("queries", ()))])


def parse(parameters: Iterable[tuple[str, str]]) -> ListQuery:
    """Return the query that URL parameters (repeats allowed, in order) say.

    Raises:
        AppwriteError: general_query_invalid, naming the query.
    """
    pairs = list(parameters)
    query = _legacy(dict(pairs))
    texts = [value for name, value in pairs if _QUERIES.fullmatch(name)]
    if len(texts) > MAX_QUERIES:
        raise invalid(f"at most {MAX_QUERIES} queries are allowed")
    for text in texts:
        query = _apply(query, *_method(text))
    if query.cursor_after and query.cursor_before:
        raise invalid("cursorAfter and cursorBefore exclude each other")
    return query


def invalid(message: str) -> AppwriteError:
    """Return the error for a query that can't be used."""
    return AppwriteError(Problem.QUERY_INVALID, f"Invalid query: {message}")


def unknown(attribute: str, allowed: Iterable[str]) -> AppwriteError:
    """Return the error for an attribute that a list can't be filtered or ordered by."""
    return invalid(f"the attribute {attribute[:32]!r} can't be used here: use one of {', '.join(allowed)}")


def _legacy(parameters: Mapping[str, str]) -> ListQuery:
    query = ListQuery()
    for name in ("limit", "offset"):
        if value := parameters.get(name):
            query = _apply(query, name, "", [_number(value)])
    if cursor := parameters.get("cursor"):
        before = parameters.get("cursorDirection") == "before"
        query = _apply(query, "cursorBefore" if before else "cursorAfter", "", [cursor])
    if parameters.get("orderType", "").upper() == "DESC":
        query = _apply(query, "orderDesc", "", [])
    return query


def _number(value: str) -> object:
    return int(value) if value.isascii() and value.isdigit() and len(value) < _DIGITS else value


def _method(text: str) -> tuple[str, str, list[Any]]:
    """Return method, attribute and values of one query in either syntax."""
    if len(text) > MAX_QUERY_LENGTH:
        raise invalid(f"a query may have {MAX_QUERY_LENGTH} characters")
    try:
        return _method_json(text) if text.lstrip().startswith("{") else _method_call(text)
    except (ValueError, RecursionError) as error:
        raise invalid(f"{text[:80]!r} is not a query") from error


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
    if match[1] in _WITHOUT_ATTRIBUTE:
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
            return replace(query, orders=(*query.orders, Order(attribute, method == "orderDesc")))
        case "select":
            return query  # models are always whole
        case _ if method in METHODS:
            return replace(query, conditions=(*query.conditions, _condition(method, attribute, values)))
        case _:
            raise invalid(f"the method {method[:32]!r} is not supported here")


def _condition(method: str, attribute: str, values: list[Any]) -> Condition:
    match method:
        case "isNull" | "isNotNull":
            fits, wanted = not values, "no value"
        case "between":
            fits, wanted = len(values) == 2, "two values"  # noqa: PLR2004 - from and to
        case "equal" | "notEqual" | "contains":
            fits, wanted = bool(values), "at least one value"
        case _:
            fits, wanted = len(values) == 1, "one value"
    if not fits:
        raise invalid(f"{method} takes {wanted}")
    if not all(isinstance(value, str | int | float) for value in values):
        raise invalid(f"{method} takes strings, numbers and booleans only")
    if any(isinstance(value, str) and not value.isprintable() for value in values):
        raise invalid(f"{method} takes printable text only")
    return Condition(method, attribute, tuple(values))


def _integer(method: str, values: list[Any], *, low: int, high: int) -> int:
    match values:
        case [int(value)] if not isinstance(value, bool) and low <= value <= high:
            return value
    raise invalid(f"{method} takes one whole number from {low} to {high}")


def _text(method: str, values: list[Any]) -> str:
    match values:
        case [str(value)] if is_id(value):
            return value
    raise invalid(f"{method} takes one id")
