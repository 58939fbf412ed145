"""The public routes, as a holder of a key with both scopes sees them."""

import asyncio
import json
from dataclasses import replace

import pytest

from appfn.api.execution import ExecutionPhase
from appfn.core.records import Invocation, Outcome
from appfn.shim.services import CATALOG, STORE
from support.fake_invoker import FakeInvoker, completed
from support.polling import eventually
from support.project import DIGEST, ProjectKit
from support.shim_client import Client
from support.shim_server import ShimServer


async def test_a_sync_call_answers_with_the_functions_response(client: Client) -> None:
    reply = await client.execute(body={"data": "ping"})

    assert reply.status == 201
    assert reply.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert reply.body["status"] == "completed"
    assert reply.body["statusCode"] == 200
    assert reply.body["functionId"] == "hello"
    assert reply.body["duration"] == 0.125
    assert (reply.body["stdout"], reply.body["stderr"]) == ("printed", "warned")
    given = json.loads(reply.body["response"])
    assert given["payload"] == "ping"
    assert given["entrypoint"] == "main.py"
    assert given["deployment"] == "hello-v1"
    assert given["timeout"] == 15


async def test_a_call_reaches_the_dispatcher_fully_resolved(client: Client, invoker: FakeInvoker, runtime: str) -> None:
    reply = await client.execute(body={"data": "ping"})

    (invocation,) = invoker.invocations
    assert invocation.execution_id == reply.body["$id"]
    assert invocation.artifacts == {"amd64": DIGEST}
    assert invocation.variables == {
        "APPWRITE_FUNCTION_ID": "hello",
        "APPWRITE_FUNCTION_NAME": "hello",
        "APPWRITE_FUNCTION_DEPLOYMENT": "hello-v1",
        "APPWRITE_FUNCTION_TRIGGER": "http",
        "APPWRITE_FUNCTION_PROJECT_ID": client.project,
        "APPWRITE_FUNCTION_RUNTIME_NAME": "Python",
        "APPWRITE_FUNCTION_RUNTIME_VERSION": "3.13",
        "APPWRITE_FUNCTION_EVENT": "",
        "APPWRITE_FUNCTION_EVENT_DATA": "",
        "APPWRITE_FUNCTION_DATA": "ping",
        "APPWRITE_FUNCTION_USER_ID": "",
        "APPWRITE_FUNCTION_JWT": "",
    }


async def test_the_current_dialect_has_body_headers_path_and_method(client: Client) -> None:
    current = replace(client, response_format="1.8.0")
    asked = {
        "body": "ping",
        "async": False,
        "path": "/a",
        "method": "GET",
        "headers": {"X-Own": "1", "User-Agent": "u"},
    }

    reply = await current.execute(body=asked)

    assert reply.status == 201
    assert reply.body["responseStatusCode"] == 200
    assert reply.body["requestPath"] == "/a"
    assert reply.body["requestMethod"] == "GET"
    assert reply.body["requestHeaders"] == [{"name": "user-agent", "value": "u"}]
    assert reply.body["deploymentId"] == "hello-v1"
    given = json.loads(reply.body["responseBody"])
    assert given["payload"] == "ping"
    assert given["headers"] == {"x-own": "1", "user-agent": "u"}


async def test_a_call_without_a_body_is_a_call_without_data(client: Client) -> None:
    reply = await client.call("POST", "/v1/functions/hello/executions")

    assert reply.status == 201
    assert json.loads(reply.body["response"])["payload"] == ""


async def test_a_failing_function_is_201_and_failed(client: Client, invoker: FakeInvoker) -> None:
    async def answer(_: Invocation) -> Outcome:
        return Outcome(phase=ExecutionPhase.FAILED, status_code=500, stderr="Traceback")

    invoker.answer = answer

    reply = await client.execute()

    assert reply.status == 201
    assert (reply.body["status"], reply.body["statusCode"], reply.body["stderr"]) == ("failed", 500, "Traceback")


async def test_an_async_call_is_stored_before_it_is_answered_and_ends(
    client: Client, shim: ShimServer, invoker: FakeInvoker
) -> None:
    gate = asyncio.Event()

    async def answer(_: Invocation) -> Outcome:
        await gate.wait()
        return completed("late")

    invoker.answer = answer

    reply = await client.execute(body={"data": "x", "async": True})

    assert reply.status == 202
    assert reply.body["status"] == "waiting"
    stored = await shim.app[STORE].get(client.project, reply.body["$id"])
    assert stored is not None

    async def processing() -> bool:
        return bool((await client.execution(reply.body["$id"])).body["status"] == "processing")

    await eventually(processing)
    gate.set()
    done = await client.finished(reply.body["$id"])
    assert (done.body["status"], done.body["response"]) == ("completed", "late")


async def test_before_1_0_async_is_the_default_and_answers_201(client: Client) -> None:
    old = replace(client, response_format="0.15.3")

    reply = await old.execute(body={"data": "x"})

    assert reply.status == 201
    assert reply.body["status"] == "waiting"
    assert isinstance(reply.body["$createdAt"], int)
    assert (await old.finished(reply.body["$id"])).body["status"] == "completed"


async def test_a_get_ignores_the_body_that_old_sdks_send(client: Client) -> None:
    made = await client.execute()

    reply = await client.call(
        "GET", f"/v1/functions/hello/executions/{made.body['$id']}", b"null", Content_Type="application/json"
    )

    assert reply.status == 200
    assert reply.body == made.body


async def test_an_unknown_execution_is_not_found(client: Client, project: ProjectKit, shim: ShimServer) -> None:
    await project.ready("other")
    await shim.sees(project.namespace, "other")
    of_other = await client.execute("other")

    for id_ in ("nope", of_other.body["$id"], "%00", "a%20b", "é", "x" * 65):
        assert (await client.execution(id_)).error == (404, "execution_not_found"), id_


async def test_a_list_is_paged_ordered_and_filtered(client: Client, invoker: FakeInvoker) -> None:
    made = [(await client.execute()).body["$id"] for _ in range(4)]

    async def answer(_: Invocation) -> Outcome:
        return completed("", status=503)

    invoker.answer = answer
    made.append((await client.execute()).body["$id"])

    async def ids(query: str) -> list[str]:
        reply = await client.executions(query)
        assert reply.status == 200, reply
        return [item["$id"] for item in reply.body["executions"]]

    assert (await client.executions()).body["total"] == 5
    assert await ids("") == made
    assert await ids("?queries[0]=limit(2)&queries[1]=offset(1)") == made[1:3]
    assert await ids('?queries[0]={"method":"orderDesc","attribute":"$createdAt"}') == made[::-1]
    assert await ids(f'?queries[]=cursorAfter("{made[2]}")') == made[3:]
    assert await ids("?limit=2&orderType=DESC") == made[:2:-1]
    failed = await client.executions('?queries[]=equal("status",["failed"])')
    assert failed.body["total"] == 1
    assert [item["$id"] for item in failed.body["executions"]] == made[4:]
    assert (await client.executions('?queries[]=cursorAfter("nope")')).error == (400, "general_cursor_not_found")
    assert (await client.executions("?queries[]=limit(0)")).error == (400, "general_query_invalid")


async def test_a_list_cuts_long_responses_and_one_execution_does_not(client: Client, invoker: FakeInvoker) -> None:
    async def answer(_: Invocation) -> Outcome:
        return completed("x" * 900_000)

    invoker.answer = answer
    made = await client.execute()

    listed = await client.executions()

    assert len(made.body["response"]) == 900_000
    assert len((await client.execution(made.body["$id"])).body["response"]) == 900_000
    assert len(listed.body["executions"][0]["response"]) < 70_000


@pytest.mark.parametrize(
    ("spec", "deployment", "error"),
    [
        pytest.param({"enabled": False}, "ready", (404, "function_not_found"), id="disabled"),
        pytest.param({"runtime": "cobol-1.0"}, None, (404, "function_runtime_unsupported"), id="runtime"),
        pytest.param({"active": None}, "ready", (404, "deployment_not_found"), id="no-deployment"),
        pytest.param({"active": "gone"}, "ready", (404, "deployment_not_found"), id="deployment-gone"),
        pytest.param({}, None, (404, "build_not_found"), id="no-build"),
        pytest.param({}, "building", (400, "build_not_ready"), id="building"),
        pytest.param({}, "failed", (400, "build_not_ready"), id="failed"),
    ],
)
async def test_what_cannot_be_run_is_told_in_appwrites_order(
    shim: ShimServer,
    client: Client,
    project: ProjectKit,
    spec: dict[str, str],
    deployment: str | None,
    error: tuple[int, str],
) -> None:
    await project.deployment("odd-v1", "odd", phase=deployment)
    await project.function("odd", **({"active": "odd-v1"} | spec))

    async def probe() -> bool:
        return bool((await client.execute("odd")).error == error)

    await eventually(probe, within=10)


async def test_an_unknown_function_is_not_found_on_every_route(client: Client) -> None:
    for reply in (
        await client.execute("nope"),
        await client.execution("x", "nope"),
        await client.executions(function="nope"),
    ):
        assert reply.error == (404, "function_not_found")


async def test_parameters_are_checked_before_the_function(client: Client) -> None:
    reply = await client.execute("nope", body={"data": "x" * 8193})

    assert reply.error == (400, "general_argument_invalid")
    assert "`data`" in reply.body["message"]


async def test_a_call_between_the_end_of_the_first_build_and_its_activation_waits_for_it(
    client: Client, project: ProjectKit, shim: ShimServer
) -> None:
    await project.function("young")
    await project.deployment("young-v1", "young")

    async def built() -> bool:
        reply = await client.execute("young")
        assert reply.error == (404, "deployment_not_found"), reply
        function = shim.app[CATALOG].named(project.namespace, "young")
        return function is not None and len(shim.app[CATALOG].deployments(function)) == 1

    await eventually(built, within=20)
    calling = asyncio.create_task(client.execute("young"))
    await project.function("young", active="young-v1")

    assert (await calling).status == 201


async def test_an_appwrite_id_that_is_no_kubernetes_name_is_found(
    client: Client, project: ProjectKit, shim: ShimServer
) -> None:
    await project.ready("hello-world-1", id="Hello_World.1")
    await shim.sees(project.namespace, "hello-world-1")

    reply = await client.execute("Hello_World.1")

    assert reply.status == 201
    assert reply.body["functionId"] == "Hello_World.1"
    assert (await client.execute("hello-world-1")).error == (404, "function_not_found")


async def test_a_new_deployment_gets_the_next_call(client: Client, project: ProjectKit, shim: ShimServer) -> None:
    await project.function("hello", active="hello-v2")
    await project.deployment("hello-v2", "hello")

    async def probe() -> bool:
        reply = await client.execute()
        assert reply.status == 201, reply  # never an error between the two
        return bool(json.loads(reply.body["response"])["deployment"] == "hello-v2")

    await eventually(probe)


async def test_a_full_queue_is_429_with_the_time_to_come_back(client: Client, invoker: FakeInvoker) -> None:
    invoker.room = 0

    reply = await client.execute()

    assert reply.error == (429, "general_rate_limit_exceeded")
    assert reply.headers["Retry-After"] == "2"
    assert (await client.executions()).body["total"] == 0


async def test_the_dispatcher_knows_what_should_run(
    project: ProjectKit, shim: ShimServer, invoker: FakeInvoker
) -> None:
    uid = await project.ready("warm", scaling={"minReplicas": 1}, variables=[{"name": "A", "value": "b"}])

    async def told() -> bool:
        return uid in invoker.targets

    await eventually(told)
    target = invoker.targets[uid]
    assert (target.deployment, target.entrypoint, dict(target.artifacts)) == ("warm-v1", "main.py", {"amd64": DIGEST})
    assert target.variables is not None
    assert target.variables["A"] == "b"
    assert target.variables["APPWRITE_FUNCTION_ID"] == "warm"
    await project.delete_function("warm")

    async def forgotten() -> bool:
        return uid not in invoker.targets

    await eventually(forgotten)


async def test_a_deleted_function_takes_its_executions_along(
    client: Client, project: ProjectKit, shim: ShimServer
) -> None:
    made = await client.execute()
    await shim.app[STORE].flush()

    await project.delete_function("hello")

    async def gone() -> bool:
        return await shim.app[STORE].get(project.namespace, made.body["$id"]) is None

    await eventually(gone)
