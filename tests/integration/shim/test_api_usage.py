"""What functions used, as the API tells it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from appfn.api.base import Json
from appfn.api.kinds import DEPLOYMENT, Key
from appfn.core.records import Invocation, Outcome
from appfn.kube.client import KubeCluster
from support.fake_invoker import FakeInvoker, completed
from support.polling import eventually
from support.project import DIGEST, ProjectKit
from support.shim_client import Client
from support.shim_server import Reply, ShimServer


@pytest.fixture
async def viewer(client: Client, project: ProjectKit) -> Client:
    """May look at functions, in today's dialect."""
    return replace(client, key=await project.key("functions.read"), response_format="1.9.5")


async def usage(client: Client, of: str = "", range_: str = "24h") -> Reply:
    return await client.call("GET", f"/v1/functions{of and f'/{of}'}/usage?range={range_}")


async def test_executions_are_counted_by_function_and_project(
    client: Client, viewer: Client, invoker: FakeInvoker, project: ProjectKit, shim: ShimServer
) -> None:
    await project.ready("big", resources={"limits": {"memory": "512Mi"}})
    await shim.sees(project.namespace, "big")

    async def answer(invocation: Invocation) -> Outcome:
        return structs.replace(completed("", status=int(invocation.payload or 200)), duration=2.0)

    invoker.answer = answer
    for function, data in (("hello", "200"), ("hello", "500"), ("big", "200"), ("big", "404")):
        await client.execute(function, body={"data": data})
    queued = await client.execute("big", body={"data": "200", "async": True})
    await client.finished(queued.body["$id"], "big")

    mine, all_ = (await usage(viewer, "big")).body, (await usage(viewer)).body

    assert (mine["executionsTotal"], mine["executionsFailedTotal"], mine["executionsTimeTotal"]) == (3, 0, 6000)
    assert mine["executionsMbSecondsTotal"] == 3 * 2 * 512
    assert mine["executions"][-1]["value"] + mine["executions"][-2]["value"] == 3  # the hour may have turned
    assert (all_["executionsTotal"], all_["executionsFailedTotal"], all_["functionsTotal"]) == (5, 1, 2)
    assert all_["deploymentsTotal"] == 2
    assert all_["buildsStorageTotal"] == 20
    old = (await usage(replace(viewer, response_format="1.0.0"), "hello")).body
    assert sum(point["value"] for point in old["executionsFailure"]) == 1
    oldest = (await usage(replace(viewer, response_format="0.15.3"), "hello")).body
    assert sum(point["value"] for point in oldest["functionsCompute"]) == 4000


async def built(cluster: KubeCluster, project: ProjectKit, name: str, *, phase: str, seconds: int) -> None:
    """Say of a Deployment what the operator says when its build ended."""
    await project.deployment(name, "hello", phase=None, source={"artifact": {"digest": DIGEST, "size": 500}})
    end = datetime.now(UTC).replace(microsecond=0)
    build: Json = {
        "architecture": "amd64",
        "phase": phase,
        "attempt": 1,
        "startTime": (end - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z"),
        "endTime": end.isoformat().replace("+00:00", "Z"),
    }
    if phase == "ready":
        build["artifact"] = {"digest": DIGEST, "size": 1000}
    status = {
        "apiVersion": "appfn.dev/v1alpha1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": project.namespace},
        "status": {"phase": phase, "builds": [build]},
    }
    await cluster.apply_status(DEPLOYMENT, status, manager="tests")


async def test_builds_count_once_also_after_their_deployment_is_gone(
    viewer: Client, cluster: KubeCluster, project: ProjectKit
) -> None:
    await built(cluster, project, "hello-v2", phase="ready", seconds=30)
    await built(cluster, project, "hello-v3", phase="failed", seconds=10)

    async def counted() -> bool:
        return bool((await usage(viewer, "hello")).body["buildsTotal"] == 2)

    await eventually(counted)
    key = Key(project.namespace, "hello-v2")
    await cluster.merge_patch(DEPLOYMENT, key, {"metadata": {"labels": {"x": "y"}}}, manager="tests")  # told again
    await cluster.delete(DEPLOYMENT, key)

    async def gone() -> bool:
        return bool((await usage(viewer, "hello")).body["deploymentsTotal"] == 2)

    await eventually(gone)
    found = (await usage(viewer, "hello")).body
    assert (found["buildsSuccessTotal"], found["buildsFailedTotal"], found["buildsTimeTotal"]) == (1, 1, 40_000)
    assert found["buildsTimeAverage"] == 20_000
    assert (found["deploymentsStorageTotal"], found["buildsStorageTotal"]) == (500, 10)
    assert found["buildsMbSecondsTotal"] == 40 * 1024


async def test_usage_of_another_project_is_not_to_be_had(
    client: Client, viewer: Client, cluster: KubeCluster, shim: ShimServer, runtime: str
) -> None:
    await client.execute()

    assert (await usage(client)).error == (401, "general_unauthorized_scope")
    assert (await usage(replace(viewer, key=""))).error == (401, "general_unauthorized_scope")
    assert (await usage(viewer, "nope")).error == (404, "function_not_found")
    assert (await usage(viewer, range_="1y")).error == (400, "general_argument_invalid")
    assert (await usage(replace(viewer, project="other"))).error == (404, "project_not_found")


async def test_the_range_is_thirty_days_where_none_is_asked_for(viewer: Client) -> None:
    reply = await viewer.call("GET", "/v1/functions/usage")

    assert reply.body["range"] == "30d"
    assert len(reply.body["executions"]) == 30
