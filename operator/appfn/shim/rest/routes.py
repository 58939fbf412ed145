"""From HTTP to operations and back."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from appfn.api.base import Json
from appfn.shim import http
from appfn.shim.rest import (
    deployment_actions,
    deployments,
    downloads,
    events,
    executions,
    functions,
    history,
    openapi,
    runtimes,
    uploads,
    usage,
    variables,
)
from appfn.shim.rest.admission import admit, format_of
from appfn.shim.rest.arguments import validated
from appfn.shim.rest.operation import Answer, Context, In, Operation, Operations

ALL: tuple[Operations, ...] = (
    functions.operations,
    runtimes.operations,
    variables.operations,
    uploads.operations,
    deployments.operations,
    deployment_actions.operations,
    downloads.operations,
    executions.operations,
    history.operations,
    usage.operations,
    events.operations,
)
"""Every operation there is, by resource."""
BASE = "/v1"
_ITEM = re.compile(r"([A-Za-z]+)\[\d{0,4}\]", re.ASCII)
_BODILESS = frozenset({"GET", "HEAD"})


def operations() -> Iterator[Operation]:
    """Return every operation."""
    for group in ALL:
        yield from group


def routes() -> list[web.RouteDef]:
    """Return the routes of every operation, its aliases included; fixed paths before patterns, which they match too."""
    found = [
        web.RouteDef(method, BASE + path, operation.route or _handler(operation), {})
        for operation in operations()
        for method, path in ((operation.method, operation.path), *operation.aliases)
    ]
    found.append(web.get(f"{BASE}/openapi.json", _openapi))
    return sorted(found, key=lambda route: [part.startswith("{") for part in route.path.split("/")])


async def _openapi(_request: web.Request) -> web.Response:
    return web.Response(body=_document(), headers={"Content-Type": http.CONTENT_TYPE})


@cache
def _document() -> bytes:
    """Return the OpenAPI document: it is the same as long as the process lives."""
    return orjson.dumps(openapi.document(operations()))


def _handler(operation: Operation) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        project, caller = await admit(request, operation.access)
        context = Context(
            app=request.app,
            request=request,
            project=project,
            caller=caller,
            format=format_of(request),
            arguments=validated(operation, await _given(request, operation)),
        )
        return answered(await operation.run(context))

    return handle


def answered(answer: Answer) -> web.Response:
    """Return an answer over HTTP.

    One without content has a Content-Type all the same, as Python's SDK reads it; not JSON's, as Node's would parse it.
    """
    if answer.content is None:
        return web.Response(status=answer.status, headers={"Content-Type": "text/plain", **answer.headers})
    return http.reply(answer.content, status=answer.status, headers=answer.headers)


async def _given(request: web.Request, operation: Operation) -> Json:
    """Return all that a request brings, by name. The body of a GET is never read: old SDKs send `null` with it."""
    places = {parameter.where for parameter in operation.parameters}
    body = await http.read_json(request) if In.BODY in places and request.method not in _BODILESS else {}
    return {**body, **_query(request.query.items()), **request.match_info}


def _query(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the parameters of a URL; `name[0]=…` and `name[]=…` make a list, as PHP reads them."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if match := _ITEM.fullmatch(name):
            items = found.setdefault(match[1], [])
            if isinstance(items, list):
                items.append(value)
        else:
            found[name] = value
    return found
