"""Events of functions themselves: told once however many shims see them, and never in circles."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from appfn.api.base import Json
from appfn.api.kinds import DEPLOYMENT, Key
from appfn.kube.client import KubeCluster
from appfn.shim.events.own import OwnEvents
from appfn.shim.services import CATALOG, EXECUTOR, METRICS
from support.fake_invoker import FakeInvoker
from support.polling import eventually
from support.postgres import postgres_server
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import ShimServer, running_shim, shim_config

CLOUD_EVENT = {"specversion": "1.0", "id": "e1", "source": "/x", "type": "users.u1.create", "data": {}}


@pytest.fixture
async def project(cluster: KubeCluster, namespace: str, runtime: str) -> ProjectKit:
    """A project with two functions that are told of all that happens to others, one another too."""
    kit = ProjectKit(cluster, namespace, runtime)
    await kit.ready("hello")
    await kit.ready("audit", events=["functions.*"])
    await kit.ready("echo", events=["functions.*", "functions.*.executions.*.create"])
    await kit.ready("new-user", events=["users.*.create"])
    return kit


@pytest.fixture
async def client(shim: ShimServer, project: ProjectKit) -> Client:
    await known(shim, project)
    key = await project.key("events.write", "executions.read", "executions.write")
    return Client(shim, project.namespace, key, response_format="1.8.0")


async def known(shim: ShimServer, project: ProjectKit) -> None:
    """Return when the shim knows all functions of the project."""
    for function in ("hello", "audit", "echo", "new-user"):
        await shim.sees(project.namespace, function)


def told(shim: ShimServer, namespace: str, name: str = "received") -> int:
    """Return how many events of functions a shim has told."""
    labels = {"namespace": namespace, "source": "own"}
    return sum(
        int(sample.value)
        for family in text_string_to_metric_families(shim.app[METRICS].render().decode())
        for sample in family.samples
        if sample.name == f"appfn_events_{name}_total" and sample.labels == labels
    )


async def events(client: Client, function: str = "audit") -> list[str]:
    """Return the events that a function was executed by, all of them ended; oldest first."""
    page = await client.executions("?queries[]=limit(100)", function)
    found = []
    for item in page.body["executions"]:
        done = await client.finished(item["$id"], function)
        found.append(json.loads(done.body["responseBody"])["variables"]["APPWRITE_FUNCTION_EVENT"])
    return found


async def expect(client: Client, count: int, function: str = "audit") -> list[str]:
    """Return the events of a function once there are so many."""

    async def probe() -> list[str] | None:
        found = await events(client, function)
        return found if len(found) >= count else None

    return await eventually(probe, within=20)


async def test_executions_are_told_of_with_their_model(client: Client, shim: ShimServer) -> None:
    made = await client.execute(body={"body": "ping"})

    (event,) = await expect(client, 1)

    assert event == f"functions.hello.executions.{made.body['$id']}.create"
    (item,) = (await client.executions(function="audit")).body["executions"]
    seen = json.loads((await client.execution(item["$id"], "audit")).body["responseBody"])
    assert json.loads(seen["variables"]["APPWRITE_FUNCTION_EVENT_DATA"]) == made.body


async def test_an_async_execution_is_told_of_when_it_is_accepted_and_when_it_has_ended(client: Client) -> None:
    id_ = (await client.execute(body={"async": True})).body["$id"]

    found = await expect(client, 2)

    assert found == [f"functions.hello.executions.{id_}.{action}" for action in ("create", "update")]


async def test_an_execution_by_an_event_from_outside_is_told_of(client: Client) -> None:
    reply = await client.call("POST", "/v1/events", CLOUD_EVENT, Content_Type="application/cloudevents+json")

    (made,) = reply.body["events"][0]["executions"]
    assert await expect(client, 2) == [
        f"functions.new-user.executions.{made['executionId']}.{action}" for action in ("create", "update")
    ]


async def test_a_function_is_not_told_of_itself(client: Client, shim: ShimServer, project: ProjectKit) -> None:
    made = (await client.execute("audit")).body["$id"]
    await project.ready("echo", events=["functions.*"], timeout=20)

    told_to_echo = await expect(client, 1, "echo")
    told_to_audit = await expect(client, 2)  # one it was called for

    assert told_to_echo == [f"functions.audit.executions.{made}.create"]
    assert told_to_audit == ["", "functions.echo.update"]
    assert told(shim, client.project) == 2


async def test_functions_that_listen_to_each_other_do_not_go_round_in_circles(
    client: Client, shim: ShimServer, invoker: FakeInvoker
) -> None:
    made = [(await client.execute()).body["$id"]]
    for listener in ("audit", "echo"):
        await expect(client, 1, listener)
    # Events are told in order: what the listeners' own executions caused would come before what this call does.
    made.append((await client.execute()).body["$id"])
    expected = [f"functions.hello.executions.{id_}.create" for id_ in made]

    assert await expect(client, 2, "audit") == await expect(client, 2, "echo") == expected
    assert told(shim, client.project) == 2
    assert len(invoker.started) == 6


async def test_what_nobody_wants_to_know_is_not_noticed(
    shim: ShimServer, project: ProjectKit, client: Client, invoker: FakeInvoker
) -> None:
    for listener in ("audit", "echo"):
        await project.ready(listener, events=[])

    async def probe() -> bool:
        return not shim.app[CATALOG].subscriptions.curious(project.namespace)

    await eventually(probe)
    own = shim.app[EXECUTOR].listener
    assert isinstance(own, OwnEvents)
    await own._waiting.join()  # the listeners' own changes are told while one of them still listens
    before = told(shim, project.namespace)
    await client.execute()
    await client.finished((await client.execute(body={"async": True})).body["$id"])

    assert told(shim, project.namespace) == before


# ---------------------------------------------------------------------- several shims


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as server:
        yield server.create_database()


@pytest.fixture(params=["sqlite", "postgresql"])
async def shims(
    request: pytest.FixtureRequest, cluster: KubeCluster, system: str, tmp_path: Path, project: ProjectKit
) -> AsyncIterator[list[ShimServer]]:
    """Two shims of one database that both know the project."""
    url = {"DATABASE_URL": request.getfixturevalue("postgres")} if request.param == "postgresql" else {}
    async with AsyncExitStack() as stack:
        running = []
        for name in ("shim-0", "shim-1"):
            config = shim_config(tmp_path, system, POD_NAME=name, **url)
            running.append(await stack.enter_async_context(running_shim(cluster, config, FakeInvoker())))
        for shim in running:
            await known(shim, project)
        yield running


async def test_what_kubectl_changes_is_told_once_though_two_shims_see_it(
    shims: list[ShimServer], project: ProjectKit
) -> None:
    client = Client(shims[0], project.namespace, await project.key("executions.read"), response_format="1.8.0")

    await project.function("made")
    await both(shims, project, 1)
    await project.function("made", timeout=20)
    await both(shims, project, 2)
    await project.deployment("made-v1", "made", phase=None)
    await both(shims, project, 3)
    await project.deployment("made-v1", "made", phase="building")
    await both(shims, project, 4)
    await project.deployment("made-v1", "made")
    await both(shims, project, 5)
    await project.function("made", active="made-v1", timeout=20)  # the operator's note of it is no change to tell
    await project.cluster.delete(DEPLOYMENT, Key(project.namespace, "made-v1"))
    await both(shims, project, 6)
    await project.delete_function("made")
    await both(shims, project, 7)

    assert await expect(client, 7) == [
        "functions.made.create",
        "functions.made.update",
        "functions.made.deployments.made-v1.create",
        "functions.made.deployments.made-v1.update",
        "functions.made.deployments.made-v1.update",
        "functions.made.deployments.made-v1.delete",
        "functions.made.delete",
    ]
    matched = [told(shim, project.namespace, "matched") for shim in shims]
    duplicates = [told(shim, project.namespace, "deduplicated") for shim in shims]
    assert (sum(matched), sum(duplicates)) == (14, 14)  # two listeners, two shims


async def both(shims: list[ShimServer], project: ProjectKit, count: int) -> None:
    """Return when both shims have told of so many events."""

    async def probe() -> bool:
        counts = [told(shim, project.namespace) for shim in shims]
        assert counts == [count] * len(shims), counts
        return True

    await eventually(probe, within=10)


async def test_a_function_is_told_of_with_its_model(client: Client, project: ProjectKit) -> None:
    await project.function("made", displayName="Made by hand", timeout=20)

    await expect(client, 1)

    (item,) = (await client.executions(function="audit")).body["executions"]
    seen = json.loads((await client.finished(item["$id"], "audit")).body["responseBody"])
    data: Json = json.loads(seen["variables"]["APPWRITE_FUNCTION_EVENT_DATA"])
    assert {name: data[name] for name in ("$id", "name", "timeout", "runtime")} == {
        "$id": "made",
        "name": "Made by hand",
        "timeout": 20,
        "runtime": project.runtime,
    }
