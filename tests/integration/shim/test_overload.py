"""More than can be run: each call is run or refused at once, and what is refused costs little."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from appfn.core.records import Invocation, Outcome
from appfn.kube.client import KubeCluster
from support.fake_invoker import FakeInvoker, completed
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import Reply, ShimServer, running_shim, shim_config

PATH = "/v1/functions/hello/executions"
AT_ONCE, QUEUED, LOAD = 4, 8, 5
REFUSED = (429, "general_rate_limit_exceeded")


@pytest.fixture
def pods(invoker: FakeInvoker) -> FakeInvoker:
    """A function with four slots, and a queue of eight."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def answer(_: Invocation) -> Outcome:
        async with slots:
            await asyncio.sleep(0.005)  # the function's own run
        return completed("done")

    invoker.answer, invoker.room = answer, AT_ONCE + QUEUED
    return invoker


async def until_the_head_is_answered(shim: ShimServer, client: Client, body: bytes, length: int) -> bytes:
    """Send the head of a call and a part of its body; return the first line that comes back."""
    host, port = shim.base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    sent = {"Host": host, "X-Appwrite-Project": client.project, "X-Appwrite-Key": client.key, "Content-Length": length}
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    writer.write(f"POST {PATH} HTTP/1.1\r\n{head}\r\n".encode() + body)
    async with asyncio.timeout(10):
        line = await reader.readline()
    writer.close()
    return line


async def test_at_five_times_the_load_every_call_is_run_or_refused_with_a_time_to_come_back(
    client: Client, pods: FakeInvoker
) -> None:
    async def caller() -> list[Reply]:
        return [await client.execute() for _ in range(10)]

    rounds = await asyncio.gather(*(caller() for _ in range(LOAD * (AT_ONCE + QUEUED))))

    answers = [reply for each in rounds for reply in each]
    statuses = Counter(reply.status for reply in answers)
    assert set(statuses) == {201, 429}
    assert len(pods.started) == statuses[201]
    assert all(int(reply.headers["Retry-After"]) >= 1 for reply in answers if reply.status == 429)
    assert {reply.error for reply in answers if reply.status == 429} == {REFUSED}


async def test_a_large_body_for_an_overloaded_function_is_refused_before_it_is_read(
    client: Client, shim: ShimServer, invoker: FakeInvoker
) -> None:
    assert (await client.execute()).status == 201
    invoker.room = 0

    line = await until_the_head_is_answered(shim, client, b'{"data": "', 1_000_000)

    assert line.startswith(b"HTTP/1.1 429 ")


async def test_an_async_call_is_accepted_while_sync_ones_are_refused(client: Client, invoker: FakeInvoker) -> None:
    invoker.room = 0

    assert (await client.execute()).error == REFUSED
    assert (await client.execute(body={"async": True})).status == 202


async def test_a_call_that_is_repeated_finds_the_first_one_in_an_overload_too(
    client: Client, invoker: FakeInvoker
) -> None:
    first = await client.execute(Idempotency_Key="k")
    invoker.room = 0

    again = await client.execute(Idempotency_Key="k")

    assert (first.status, again.status) == (201, 201)
    assert again.body["$id"] == first.body["$id"]


async def test_who_may_not_call_an_overloaded_function_is_not_told_that_it_is(
    client: Client, invoker: FakeInvoker
) -> None:
    await client.execute()
    invoker.room = 0

    guest = replace(client, key="")

    assert (await guest.execute()).error == (401, "user_unauthorized")
    assert (await guest.execute(body={"data": "x" * 100_000})).error == (401, "user_unauthorized")


async def test_more_requests_than_memory_allows_for_are_refused_and_probes_still_answered(
    cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory, system: str, project: ProjectKit
) -> None:
    gate, started = asyncio.Event(), asyncio.Semaphore(0)

    async def hold(_: Invocation) -> Outcome:
        started.release()
        await gate.wait()
        return completed("done")

    config = shim_config(tmp_path_factory.mktemp("crowd"), system, MAX_REQUESTS="3")
    async with asyncio.timeout(30), running_shim(cluster, config, FakeInvoker(hold)) as shim:
        client = Client(shim, project.namespace, await project.key("executions.write"))
        held = [asyncio.create_task(client.execute()) for _ in range(3)]
        for _ in held:
            await started.acquire()

        refused = await client.execute()
        healthy = await shim.call("GET", "/healthz")
        gate.set()

        assert refused.error == REFUSED
        assert refused.headers["Retry-After"] == "1"
        assert healthy.status == 200
        assert [reply.status for reply in await asyncio.gather(*held)] == [201] * 3
        assert (await client.execute()).status == 201
