"""The table of Appwrite's operations: routes, the OpenAPI document and GraphQL are all made of it.

A module of a resource holds an `Operations` and declares each operation beside the function that does it.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from aiohttp import web
from aiohttp.typedefs import Handler

from appfn.api.base import Json
from appfn.shim.auth.access import Access
from appfn.shim.auth.identity import Caller
from appfn.shim.callee import Project
from appfn.shim.formats import Format


class In(Enum):
    """Where a parameter stands in an HTTP request."""

    PATH = "path"
    QUERY = "query"
    BODY = "body"


class Type(Enum):
    """What a parameter is, in JSON's words."""

    STRING = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    STRINGS = "array"
    OBJECT = "object"
    FILE = "file"
    """Bytes of a multipart form; GraphQL has none of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One argument of an operation.

    Attributes:
        name: as clients spell it.
        where: its place in the HTTP request.
        type: what values it takes.
        required: whether it must be there.
        max_length: most characters of a string, or of each of several.
        max_items: most items of an array.
        low: least integer.
        high: greatest integer.
        choices: the only strings allowed, where not empty.
        about: one sentence for people.
    """

    name: str
    where: In = In.BODY
    type: Type = Type.STRING
    required: bool = False
    max_length: int | None = None
    max_items: int | None = None
    low: int | None = None
    high: int | None = None
    choices: tuple[str, ...] = ()
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an operation came to: a model in the caller's format, or nothing."""

    content: Json | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One call of an operation, admitted: the caller was found to have the rights it needs.

    Attributes:
        app: where the shim's parts are.
        request: the HTTP request it came by; for GraphQL, the one that held the query.
        project: where.
        caller: who.
        format: the dialect to answer in.
        arguments: path, query and body parameters by name, validated; what is absent or null is not there.
    """

    app: web.Application
    request: web.Request
    project: Project
    caller: Caller
    format: Format
    arguments: Json = field(repr=False)

    def text(self, name: str, default: str = "") -> str:
        """Return a string argument."""
        return str(self.arguments.get(name, default))


Run: TypeAlias = Callable[[Context], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing the API does.

    Attributes:
        name: Appwrite's, namespace and method, as SDKs call it: `functions.createExecution`.
        method: HTTP method.
        path: aiohttp's pattern below `/v1`.
        summary: one line for people.
        access: what the caller needs.
        parameters: arguments in Appwrite's order, those of the path included.
        returns: name of the model it answers with; empty for none.
        status: HTTP status of success; by format where `executions` says so.
        run: does it.
        aliases: method and path of other ways to it, of older or newer Appwrites.
        route: replaces the general way from a request to `run`, where that does not do: streams, the hot path.
        graphql: whether GraphQL has it.
    """

    name: str
    method: str
    path: str
    summary: str
    access: Access
    parameters: tuple[Parameter, ...]
    returns: str
    status: int
    run: Run
    aliases: tuple[tuple[str, str], ...] = ()
    route: Handler | None = None
    graphql: bool = True


class Operations:
    """Those of one resource, in order of declaration."""

    def __init__(self) -> None:
        self._all: list[Operation] = []

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._all)

    def add(self, name: str, at: str, *, access: Access, **fields: object) -> Callable[[Run], Run]:
        """Declare the decorated function as an operation.

        Args:
            name: Appwrite's.
            at: method and path, as in `GET /functions/{functionId}`.
            access: what the caller needs.
            fields: further attributes of `Operation`; `summary` is the function's docstring's first line.
        """
        method, path = at.split()
        given: dict[str, Any] = {"parameters": (), "returns": "", "status": 200} | fields

        def declare(run: Run) -> Run:
            summary = (run.__doc__ or "").strip().splitlines()[0]
            made = Operation(name=name, method=method, path=path, access=access, summary=summary, run=run, **given)
            self._all.append(made)
            return run

        return declare


def path(name: str) -> Parameter:
    """Return a parameter of the path."""
    return Parameter(name=name, where=In.PATH, required=True)
