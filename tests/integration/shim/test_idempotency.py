"""Idempotency-Key: same key and request, same execution."""

import asyncio
from pathlib import Path

import pytest

from appfn.core.records import Invocation, Outcome
from appfn.kube.client import KubeCluster
from support.fake_invoker import FakeInvoker, completed
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import Reply, running_shim, shim_config


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_repeated_request_is_the_same_execution(
    client: Client, invoker: FakeInvoker, *, asynchronous: bool
) -> None:
    body = {"data": "x", "async": asynchronous}

    first = await client.execute(body=body, Idempotency_Key="k1")
    done = await client.finished(first.body["$id"])
    again = await client.execute(body=body, Idempotency_Key="k1")

    assert first.status == again.status == (202 if asynchronous else 201)
    assert again.body == done.body
    assert invoker.started == [first.body["$id"]]


@pytest.mark.parametrize("other", [{"data": "y"}, {"data": "x", "async": True}, {"data": "x", "path": "/other"}])
async def test_another_request_with_the_same_key_is_refused(client: Client, other: dict[str, object]) -> None:
    await client.execute(body={"data": "x"}, Idempotency_Key="k1")

    reply = await client.execute(body=other, Idempotency_Key="k1")

    assert reply.error == (422, "execution_idempotency_conflict")


async def test_repeats_at_the_same_moment_all_wait_for_the_one_execution(client: Client, invoker: FakeInvoker) -> None:
    gate = asyncio.Event()

    async def answer(_: Invocation) -> Outcome:
        await gate.wait()
        return completed("once")

    invoker.answer = answer
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(client.execute(Idempotency_Key="k1")) for _ in range(10)]
        group.create_task(_open(gate, calls))

    replies = [call.result() for call in calls]
    assert {reply.status for reply in replies} == {201}
    assert {reply.body["response"] for reply in replies} == {"once"}
    assert len({reply.body["$id"] for reply in replies}) == 1
    assert len(invoker.started) == 1


async def _open(gate: asyncio.Event, calls: list[asyncio.Task[Reply]]) -> None:
    await asyncio.wait(calls, timeout=0.2)
    gate.set()


async def test_the_same_key_for_another_function_is_another_execution(client: Client, project: object) -> None:
    first = await client.execute(body={"async": True}, Idempotency_Key="k1")
    missing = await client.execute("nope", body={"async": True}, Idempotency_Key="k1")

    assert first.status == 202
    assert missing.error == (404, "function_not_found")


@pytest.mark.parametrize("key", ["", "a b", "a" * 256])
async def test_a_key_that_cannot_be_kept_is_refused(client: Client, key: str) -> None:
    assert (await client.execute(Idempotency_Key=key)).error == (400, "general_argument_invalid")


async def test_who_waits_longer_than_a_call_may_take_is_told_while_the_execution_goes_on(
    cluster: KubeCluster, project: ProjectKit, invoker: FakeInvoker, tmp_path: Path, system: str
) -> None:
    await project.ready("slow", timeout=1)
    gate = asyncio.Event()

    async def answer(_: Invocation) -> Outcome:
        await gate.wait()
        return completed("late")

    invoker.answer = answer
    async with running_shim(cluster, shim_config(tmp_path, system, POD_START_SECONDS="1"), invoker) as shim:
        client = Client(shim, project.namespace, await project.key("executions.read", "executions.write"))
        reply = await client.execute("slow", Idempotency_Key="k1")
        listed = (await client.executions(function="slow")).body["executions"]
        gate.set()
        done = await client.finished(listed[0]["$id"], "slow")

    assert reply.error == (408, "function_synchronous_timeout")
    assert listed[0]["$id"] in reply.body["message"]
    assert (listed[0]["status"], done.body["response"]) == ("processing", "late")
