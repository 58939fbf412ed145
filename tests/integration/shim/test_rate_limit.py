"""The limit on executions as clients meet it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appfn.kube.client import KubeCluster
from support.fake_invoker import FakeInvoker
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import ShimServer, running_shim, shim_config

HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


@pytest.fixture
async def shim(
    cluster: KubeCluster, tmp_path: Path, system: str, invoker: FakeInvoker, project: ProjectKit
) -> AsyncIterator[ShimServer]:
    """A shim that lets each client ask three times a minute, behind a proxy on this machine."""
    config = shim_config(tmp_path, system, RATE_LIMIT="3", TRUSTED_PROXIES="127.0.0.0/8")
    async with running_shim(cluster, config, invoker) as server:
        yield server


@pytest.fixture
async def guest(shim: ShimServer, project: ProjectKit) -> Client:
    await project.ready("public", execute=["any"])
    await shim.sees(project.namespace, "public")
    return Client(shim, project.namespace)


async def test_a_guest_is_told_what_is_left_and_then_when_to_come_back(guest: Client, invoker: FakeInvoker) -> None:
    at = {"X_Forwarded_For": "198.51.100.7"}
    replies = [await guest.execute("public", **at) for _ in range(8)]  # at most two windows

    refused = next(reply for reply in replies if reply.status != 201)
    assert refused.error == (429, "general_rate_limit_exceeded")
    assert refused.body["message"].startswith("Rate limit for the current endpoint has been exceeded.")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    now = datetime.now(UTC).timestamp()
    for reply in replies:
        assert reply.headers["X-RateLimit-Limit"] == "3"
        assert now - 60 < int(reply.headers["X-RateLimit-Reset"]) <= now + 60
    assert replies[0].status == 201
    assert replies[0].headers["X-RateLimit-Remaining"] == "2"
    assert len(invoker.started) == sum(reply.status == 201 for reply in replies) < 8
    assert (await guest.execute("public", X_Forwarded_For="198.51.100.8")).status == 201


async def test_what_fails_counts_and_tells_as_well(guest: Client) -> None:
    reply = await guest.execute("nope")

    assert reply.error == (404, "function_not_found")
    assert all(name in reply.headers for name in HEADERS)


async def test_keys_are_told_and_never_refused(guest: Client, project: ProjectKit) -> None:
    holder = replace(guest, key=await project.key("executions.write", "executions.read"))

    replies = [await holder.execute("public") for _ in range(8)]

    assert {reply.status for reply in replies} == {201}
    assert all(name in replies[-1].headers for name in HEADERS)
    unlimited = await holder.executions(function="public")
    assert not any(name in unlimited.headers for name in HEADERS)


async def test_graphql_has_the_same_limit_of_its_own(guest: Client) -> None:
    at = {"X_Forwarded_For": "198.51.100.9"}
    query = {"query": '{ functionsGet(functionId: "public") { _id } }'}

    replies = [await guest.call("POST", "/v1/graphql", query, **at) for _ in range(8)]

    assert replies[0].status == 200
    assert replies[0].headers["X-RateLimit-Remaining"] == "2"
    assert next(reply for reply in replies if reply.status != 200).error == (429, "general_rate_limit_exceeded")
    assert (await guest.execute("public", **at)).status == 201


async def test_a_replay_counts_as_an_execution(guest: Client) -> None:
    replies = [await guest.call("POST", "/v1/functions/public/executions/nope/replay") for _ in range(8)]

    assert replies[0].error == (404, "execution_not_found")
    assert (429, "general_rate_limit_exceeded") in [reply.error for reply in replies]
