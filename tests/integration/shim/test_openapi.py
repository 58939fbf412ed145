"""The OpenAPI document against the application's routes."""

from typing import Any

from schemathesis.specs.openapi import definitions

from appfn.api.base import Json
from support.shim_client import Client
from support.shim_server import ShimServer

PLUMBING = ("/healthz", "/readyz", "/internal/", "/siblings/")
"""Routes of the cluster's own, which no client of the API needs."""

UNTOLD = {"HEAD", "*"}
"""HEAD comes with GET; routes of all methods refuse what Appwrite has and appfn has not."""


async def document(shim: ShimServer) -> Json:
    reply = await shim.call("GET", "/v1/openapi.json")
    assert reply.status == 200
    assert isinstance(reply.body, dict)
    return reply.body


def served(shim: ShimServer) -> set[tuple[str, str]]:
    """Return method and path of every public route."""
    routes = {(route.method, route.resource.canonical) for route in shim.app.router.routes() if route.resource}
    return {(method, path) for method, path in routes if not path.startswith(PLUMBING) and method not in UNTOLD}


def told(content: Json) -> set[tuple[str, str]]:
    base = content["servers"][0]["url"]
    return {(method.upper(), base + path) for path, item in content["paths"].items() for method in item}


def items(content: Json) -> list[Any]:
    return [item for methods in content["paths"].values() for item in methods.values()]


async def test_everybody_may_read_the_document(shim: ShimServer) -> None:
    reply = await shim.call("GET", "/v1/openapi.json")

    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json; charset=UTF-8")


async def test_the_document_is_valid_openapi(shim: ShimServer) -> None:
    problems = [str(error) for error in definitions.OPENAPI_31_VALIDATOR.iter_errors(await document(shim))]

    assert problems == []


async def test_every_public_route_is_in_the_document_and_nothing_else(shim: ShimServer) -> None:
    assert told(await document(shim)) == served(shim)


async def test_each_operation_has_an_id_of_its_own_and_a_summary(shim: ShimServer) -> None:
    found = items(await document(shim))

    assert len({item["operationId"] for item in found}) == len(found)
    assert all(item["summary"].endswith(".") for item in found)


async def test_every_reference_leads_somewhere(shim: ShimServer) -> None:
    content = await document(shim)

    assert references(content) <= {f"#/components/schemas/{name}" for name in content["components"]["schemas"]}


def references(content: Any) -> set[str]:
    match content:
        case dict():
            own = {content["$ref"]} if isinstance(content.get("$ref"), str) else set()
            return own.union(*(references(value) for value in content.values()))
        case list():
            return set().union(*(references(value) for value in content))
        case _:
            return set()


async def test_an_error_has_a_type_that_the_document_knows(client: Client, shim: ShimServer) -> None:
    types = (await document(shim))["components"]["schemas"]["error"]["properties"]["type"]["enum"]

    assert (await client.call("GET", "/v1/nowhere")).body["type"] in types
    assert (await client.execution("nowhere")).body["type"] in types
