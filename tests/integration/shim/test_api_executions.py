"""Executions beyond the call: delayed, deleted, listed, replayed."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from appfn import names
from appfn.api.kinds import EXECUTION, Key
from appfn.config import Config
from appfn.core.records import Invocation, Outcome
from appfn.kube.client import KubeCluster
from appfn.shim.auth import user_token
from appfn.shim.auth.identity import UserClaims
from appfn.shim.callee import Project
from appfn.shim.services import MASTER_KEY, STORE
from support.fake_invoker import FakeInvoker, completed
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import ShimServer, running_shim


class Now:
    """The time of day, to which a test may add."""

    ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
async def shim(
    cluster: KubeCluster, config: Config, invoker: FakeInvoker, project: ProjectKit, now: Now
) -> AsyncIterator[ShimServer]:
    async with running_shim(cluster, config, invoker, now=now) as server:
        yield server


@pytest.fixture
def current(client: Client) -> Client:
    """The same caller in today's dialect."""
    return replace(client, response_format="1.9.5")


def user(shim: ShimServer, client: Client, user_id: str) -> Client:
    owner = Project(client.project, client.project)
    key = user_token.signing_key(shim.app[MASTER_KEY], owner)
    signed = user_token.sign(UserClaims(user_id=user_id), project=owner, key=key, now=datetime.now(UTC))
    return replace(client, key="", token=signed)


def in_minutes(minutes: int) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes + 1)).replace(second=0, microsecond=0).isoformat()


async def delete(client: Client, id_: str, function: str = "hello") -> tuple[int, str]:
    reply = await client.call("DELETE", f"/v1/functions/{function}/executions/{id_}")
    assert reply.headers["Content-Type"]
    return (204, "") if reply.status == 204 else reply.error


# ---------------------------------------------------------------------- delayed


async def test_a_delayed_execution_runs_at_its_time_with_what_it_was_given(
    client: Client, current: Client, invoker: FakeInvoker, now: Now
) -> None:
    asked = {"body": "later", "async": True, "scheduledAt": in_minutes(5), "headers": {"x-a": "b"}}

    made = await current.execute(body=asked)

    assert made.status == 202
    assert (made.body["status"], made.body["trigger"]) == ("scheduled", "schedule")
    assert datetime.fromisoformat(made.body["scheduledAt"]) == datetime.fromisoformat(str(asked["scheduledAt"]))
    id_ = made.body["$id"]
    assert (await client.execution(id_)).body["status"] == "waiting"  # 1.0 has no other word
    listed = await current.executions('?queries[]={"method":"equal","attribute":"status","values":["scheduled"]}')
    assert [item["$id"] for item in listed.body["executions"]] == [id_]
    other = await client.execute(body={"async": True})
    await client.finished(other.body["$id"])
    assert [invocation.execution_id for invocation in invoker.invocations] == [other.body["$id"]]

    now.ahead = timedelta(minutes=7)
    done = await current.finished(id_)

    assert done.body["status"] == "completed"
    given = json.loads(done.body["responseBody"])
    assert (given["payload"], given["headers"]) == ("later", {"x-a": "b"})
    assert given["variables"]["APPWRITE_FUNCTION_TRIGGER"] == "schedule"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"async": True, "scheduledAt": "2020-01-01T00:00:00Z"}, "general_argument_invalid"),
        ({"async": True, "scheduledAt": "tomorrow"}, "general_argument_invalid"),
        ({"scheduledAt": in_minutes(60)}, "general_bad_request"),
    ],
)
async def test_a_time_that_cannot_be_is_refused(current: Client, body: dict[str, object], error: str) -> None:
    assert (await current.execute(body=body)).error == (400, error)


async def test_a_delayed_execution_deleted_in_time_never_runs(current: Client, invoker: FakeInvoker, now: Now) -> None:
    made = await current.execute(body={"async": True, "scheduledAt": in_minutes(5)})

    assert await delete(current, made.body["$id"]) == (204, "")

    now.ahead = timedelta(minutes=7)
    after = await current.execute(body={"async": True})  # what came later has run, so it would have
    await current.finished(after.body["$id"])
    assert [invocation.execution_id for invocation in invoker.invocations] == [after.body["$id"]]


# ---------------------------------------------------------------------- delete


async def test_a_deleted_execution_is_gone_everywhere(client: Client, shim: ShimServer) -> None:
    made, kept = [(await client.execute()).body["$id"] for _ in range(2)]

    assert await delete(client, made) == (204, "")

    assert (await client.execution(made)).error == (404, "execution_not_found")
    assert [item["$id"] for item in (await client.executions()).body["executions"]] == [kept]
    assert await delete(client, made) == (404, "execution_not_found")
    assert await shim.app[STORE].get(client.project, made) is None


async def test_what_runs_is_not_deleted(client: Client, invoker: FakeInvoker) -> None:
    gate = asyncio.Event()

    async def answer(_: Invocation) -> Outcome:
        await gate.wait()
        return completed("late")

    invoker.answer = answer
    made = await client.execute(body={"async": True})

    assert await delete(client, made.body["$id"]) == (400, "execution_in_progress")

    gate.set()
    await client.finished(made.body["$id"])
    assert await delete(client, made.body["$id"]) == (204, "")


async def test_only_who_has_the_scope_deletes_and_only_in_its_project(
    client: Client, shim: ShimServer, project: ProjectKit
) -> None:
    made = (await client.execute()).body["$id"]
    await project.ready("other")
    await shim.sees(project.namespace, "other")
    reader = replace(client, key=await project.key("executions.read"))

    assert await delete(reader, made) == (401, "general_unauthorized_scope")
    assert await delete(user(shim, client, "ada"), made) == (401, "general_unauthorized_scope")
    assert await delete(replace(client, key=""), made) == (401, "general_unauthorized_scope")
    assert await delete(client, made, "other") == (404, "execution_not_found")
    assert (await client.execution(made)).status == 200


@pytest.mark.parametrize("mirrored", [True, False])
async def test_the_resource_that_shows_a_deleted_execution_goes_along_and_no_other(
    client: Client, cluster: KubeCluster, project: ProjectKit, *, mirrored: bool
) -> None:
    made = (await client.execute()).body["$id"]
    key = Key(project.namespace, names.mirrored_execution("hello", made))
    labels = {names.LABEL_MIRRORED: "true"} if mirrored else {}
    manifest = {
        "apiVersion": "appfn.dev/v1alpha1",
        "kind": "Execution",
        "metadata": {"name": key.name, "namespace": key.namespace, "labels": labels},
        "spec": {"functionRef": {"name": "hello"}, "id": made},
    }
    await cluster.create(EXECUTION, manifest)

    assert await delete(client, made) == (204, "")

    assert (await cluster.get(EXECUTION, key) is None) is mirrored


# ---------------------------------------------------------------------- list


async def test_a_list_takes_the_attributes_of_both_eras(client: Client, current: Client, invoker: FakeInvoker) -> None:
    async def answer(invocation: Invocation) -> Outcome:
        return structs.replace(completed("", status=int(invocation.payload)), duration=int(invocation.payload) / 100)

    invoker.answer = answer
    made = []
    for status, method in ((200, "GET"), (404, "PUT"), (500, "GET")):
        reply = await current.execute(body={"body": str(status), "method": method, "path": f"/{status}"})
        made.append(reply.body["$id"])
    (ok, missing, broken) = made

    async def ids(*queries: str, search: str = "") -> list[str]:
        query = "&".join(f"queries[{number}]={query}" for number, query in enumerate(queries))
        reply = await client.executions(f"?{query}{search}")
        assert reply.status == 200, reply
        return [item["$id"] for item in reply.body["executions"]]

    assert await ids('equal("statusCode", [404])') == [missing]
    assert await ids('{"method":"equal","attribute":"responseStatusCode","values":[404]}') == [missing]
    assert await ids('equal("requestMethod", ["GET"])') == [ok, broken]
    assert await ids('equal("requestPath", ["/404"])') == [missing]
    assert await ids('equal("deploymentId", ["hello-v1"])') == made
    assert await ids('equal("deploymentId", ["hello-v0"])') == []
    assert await ids('between("responseStatusCode", 400, 500)') == [missing, broken]
    assert await ids('orderDesc("duration")') == [broken, missing, ok]
    assert await ids('orderDesc("duration")', f'cursorAfter("{broken}")', "limit(1)") == [missing]
    assert await ids('orderDesc("duration")', f'cursorBefore("{ok}")', "limit(1)") == [missing]
    assert await ids('orderAsc("status")', 'equal("trigger", ["http"])') == [ok, missing, broken]
    assert await ids(search=f"&search={missing}") == [missing]
    assert await ids(search="&search=nothing") == []
    assert (await client.executions("?total=false")).body["total"] == 0
    assert len((await client.executions("?total=false")).body["executions"]) == 3
    assert (await client.executions('?queries[]=equal("response",["x"])')).error == (400, "general_query_invalid")


async def test_a_list_of_users_is_each_ones_own_also_in_its_total(
    client: Client, shim: ShimServer, project: ProjectKit
) -> None:
    await project.ready("members", execute=["users"])
    await shim.sees(project.namespace, "members")
    ada, eve = user(shim, client, "ada"), user(shim, client, "eve")
    hers = [(await ada.execute("members")).body["$id"] for _ in range(2)]
    await eve.execute("members")

    listed = (await ada.executions(function="members")).body

    assert listed["total"] == 2
    assert [item["$id"] for item in listed["executions"]] == hers
    assert (await client.executions(function="members")).body["total"] == 3


# ---------------------------------------------------------------------- replay


async def replay(client: Client, id_: str, function: str = "hello", **headers: str) -> tuple[int, dict[str, object]]:
    reply = await client.call("POST", f"/v1/functions/{function}/executions/{id_}/replay", **headers)
    return reply.status, reply.body


async def test_a_replay_runs_the_function_with_all_that_it_was_given(current: Client, invoker: FakeInvoker) -> None:
    asked = {"body": "ping", "path": "/a?b=c", "method": "PUT", "headers": {"x-secret": "s"}}
    original = (await current.execute(body=asked)).body["$id"]

    status, made = await replay(current, original)

    assert status == 202
    assert (made["status"], made["replayOf"], made["trigger"]) == ("waiting", original, "http")
    assert (made["requestPath"], made["requestMethod"]) == ("/a?b=c", "PUT")
    assert made["$id"] != original
    done = await current.finished(str(made["$id"]))
    assert (done.body["status"], done.body["replayOf"]) == ("completed", original)
    first, again = invoker.invocations
    assert (again.payload, again.headers) == (first.payload, first.headers)
    _, third = await replay(current, str(made["$id"]))
    assert third["replayOf"] == made["$id"]
    assert (await current.executions()).body["total"] == 3


async def test_a_replay_with_an_idempotency_key_runs_once(current: Client) -> None:
    one, other = [(await current.execute()).body["$id"] for _ in range(2)]

    made = [(await replay(current, one, Idempotency_Key="k"))[1]["$id"] for _ in range(2)]

    assert made[0] == made[1]
    assert (await replay(current, other, Idempotency_Key="k"))[0] == 422


async def test_only_who_may_execute_and_see_it_replays(
    client: Client, shim: ShimServer, project: ProjectKit, invoker: FakeInvoker
) -> None:
    await project.ready("members", execute=["user:ada", "user:eve", "guests"])
    await shim.sees(project.namespace, "members")
    ada, eve = user(shim, client, "ada"), user(shim, client, "eve")
    hers = (await ada.execute("members")).body["$id"]

    assert (await replay(eve, hers, "members"))[1]["type"] == "execution_not_found"
    assert (await replay(user(shim, client, "bob"), hers, "members"))[1]["type"] == "user_unauthorized"
    assert (await replay(replace(client, key=""), hers, "members"))[1]["type"] == "execution_not_found"
    reader = replace(client, key=await project.key("executions.read"))
    assert (await replay(reader, hers, "members"))[1]["type"] == "general_unauthorized_scope"
    _, again = await replay(ada, hers, "members")
    await ada.finished(str(again["$id"]), "members")
    assert invoker.invocations[-1].variables["APPWRITE_FUNCTION_USER_ID"] == "ada"
    assert invoker.invocations[-1].variables["APPWRITE_FUNCTION_JWT"]

    _, by_key = await replay(client, hers, "members")
    await ada.finished(str(by_key["$id"]), "members")  # she still sees what was run in her name
    assert invoker.invocations[-1].variables["APPWRITE_FUNCTION_USER_ID"] == "ada"
    assert invoker.invocations[-1].variables["APPWRITE_FUNCTION_JWT"] == ""


async def test_what_retention_took_cannot_be_replayed(current: Client, shim: ShimServer, now: Now) -> None:
    made = (await current.execute()).body["$id"]
    await shim.app[STORE].flush()
    await shim.app[STORE].delete_finished_before(now() + timedelta(seconds=1))

    status, error = await replay(current, made)

    assert (status, error["type"]) == (404, "execution_not_found")
