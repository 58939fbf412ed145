"""What Appwrite has and appfn has not."""

import pytest

from support.shim_client import Client
from support.shim_server import ShimServer


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/account"),
        ("POST", "/v1/account/sessions/email"),
        ("GET", "/v1/storage/buckets"),
        ("DELETE", "/v1/tablesdb/one"),
        ("GET", "/v1/sites"),
        ("GET", "/v1/vcs/installations"),
        ("GET", "/v1/health/cache"),
    ],
)
async def test_what_is_not_part_of_appfn_says_so(client: Client, method: str, path: str) -> None:
    reply = await client.call(method, path)

    assert reply.error == (405, "general_not_implemented")
    assert "appfn" in reply.body["message"]


@pytest.mark.parametrize("path", ["/v1/storages", "/v1/nothing", "/v1", "/v2/account", "/account", "/v1//account"])
async def test_what_is_not_part_of_appwrite_either_is_no_route(client: Client, path: str) -> None:
    assert (await client.call("GET", path)).error == (404, "general_route_not_found")


async def test_functions_have_no_domains(client: Client) -> None:
    reply = await client.call("GET", "/v1/proxy/rules?queries[0]=limit(1)")

    assert (reply.status, reply.body) == (200, {"total": 0, "rules": []})


async def test_the_domains_of_an_unknown_project_are_not_found(shim: ShimServer) -> None:
    assert (await Client(shim, "nobody").call("GET", "/v1/proxy/rules")).error == (404, "project_not_found")


@pytest.mark.parametrize("path", ["/v1/health", "/v1/health/version", "/v1/ping"])
async def test_anybody_may_ask_whether_somebody_is_there(shim: ShimServer, path: str) -> None:
    assert (await shim.call("GET", path)).status == 200
