"""What a client asks GraphQL, pure: bodies of every form in, queries out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

from appfn.api.base import Json
from appfn.shim.errors import AppwriteError, Problem, invalid_argument

MAX_FORM = 1_048_576
"""Bytes of a multipart body: there is no operation that takes a file."""
_OPERATIONS, _MAP = "operations", "map"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One query as a client sent it."""

    query: str
    operation_name: str | None = None
    variables: Json = field(default_factory=dict, repr=False)


def of_url(parameters: Mapping[str, str]) -> Asked:
    """Return what the parameters of a URL ask.

    Raises:
        AppwriteError: graphql_no_query, general_argument_invalid.
    """
    return _one(dict(parameters))


def of_json(content: Any, *, batch_size: int) -> list[Asked]:
    """Return what a JSON body asks: one query, several, or what old web SDKs wrap into another `query`.

    Raises:
        AppwriteError: graphql_no_query, graphql_too_many_queries, general_argument_invalid.
    """
    if isinstance(content, dict) and isinstance(content.get("query"), dict | list):
        content = content["query"]
    items = content if isinstance(content, list) else [content]
    if not items:
        raise AppwriteError(Problem.GRAPHQL_NO_QUERY)
    if len(items) > batch_size:
        raise AppwriteError(Problem.GRAPHQL_TOO_MANY_QUERIES, f"Too many queries: at most {batch_size} at once.")
    return [_one(item) for item in items]


def of_text(body: bytes) -> Asked:
    """Return what a body of type application/graphql asks; raises as `of_url`."""
    try:
        return _one({"query": body.decode()})
    except UnicodeDecodeError as error:
        raise invalid_argument("query", "Value must be UTF-8") from error


def of_form(body: bytes, content_type: str, *, batch_size: int) -> list[Asked]:
    """Return what a multipart body asks, by its parts `operations` and `map`; raises as `of_json`."""
    if len(body) > MAX_FORM:
        raise AppwriteError(Problem.PAYLOAD_TOO_LARGE)
    form = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
    if parts.keys() - {_OPERATIONS, _MAP}:
        raise invalid_argument(_MAP, "no operation of GraphQL takes a file; use REST")
    text = parts[_OPERATIONS].get_payload(decode=True) if _OPERATIONS in parts else b"null"
    return of_json(_loads(_OPERATIONS, text), batch_size=batch_size)


def _one(item: Any) -> Asked:
    query = item.get("query") if isinstance(item, dict) else None
    if query is None or query == "":
        raise AppwriteError(Problem.GRAPHQL_NO_QUERY)
    if not isinstance(query, str):
        raise invalid_argument("query", "Value must be a valid string")
    name = item.get("operationName")
    if name is not None and not isinstance(name, str):
        raise invalid_argument("operationName", "Value must be a valid string")
    return Asked(query=query, operation_name=name or None, variables=_variables(item.get("variables")))


def _variables(value: Any) -> Json:
    if isinstance(value, str):
        value = _loads("variables", value or "null")
    if value is None or value == []:  # PHP's way to write an empty object
        return {}
    if not isinstance(value, dict):
        raise invalid_argument("variables", "Value must be a valid object")
    return value


def _loads(name: str, text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise invalid_argument(name, "Value must be valid JSON") from error
