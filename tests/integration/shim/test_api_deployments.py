"""Deployments over the API: what a kubectl user made is there, and the other way round."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest

from appfn.api.base import Json
from appfn.api.deployment import Deployment
from appfn.api.function import Function
from appfn.api.kinds import DEPLOYMENT, FUNCTION, Key
from appfn.core.activation import choose
from appfn.shim import own_writes
from appfn.shim.services import ARTIFACTS, CATALOG
from support.polling import eventually
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import Reply, ShimServer
from support.uploading import Uploader, tarball

BASE = "/v1/functions/hello/deployments"
CODE = tarball(3000)


@pytest.fixture
async def client(shim: ShimServer, project: ProjectKit) -> Client:
    """A holder of a key that may write functions, with an SDK of today."""
    key = await project.key("functions.read", "functions.write")
    return Client(shim, project.namespace, key, response_format="1.9.5")


def old(client: Client, response_format: str = "1.0.0") -> Client:
    """Return the same caller with an old SDK."""
    return Client(client.shim, client.project, client.key, response_format=response_format)


async def uploaded(client: Client, **fields: str) -> str:
    reply = await Uploader(client).whole(CODE, **fields)
    assert reply.status == 202, reply
    return str(reply.body["$id"])


async def resource(project: ProjectKit, id_: str) -> Json:
    """Return the Deployment of an id."""
    found = await project.cluster.list(DEPLOYMENT, namespace=project.namespace)
    return next(body for body in found if body["spec"].get("id", body["metadata"]["name"]) == id_)


async def built(project: ProjectKit, shim: ShimServer, id_: str, phase: str = "ready", **build: Any) -> None:
    """Say of a Deployment's build what the operator would, and wait until the shim knows."""
    metadata = (await resource(project, id_))["metadata"]
    entry: Json = {"architecture": "amd64", "phase": phase, **build}
    if phase == "ready" and "artifact" not in entry:
        stored = await shim.app[ARTIFACTS].put(project.namespace, pieces(b"built"), limit=100)
        entry["artifact"] = stored.to_json()
    ready = {"type": "Ready", "status": "True" if phase == "ready" else "False", "reason": "Test"}
    status = {
        "apiVersion": "appfn.dev/v1alpha1",
        "kind": "Deployment",
        "metadata": {"name": metadata["name"], "namespace": project.namespace},
        "status": {
            "phase": phase,
            "builds": [entry],
            "conditions": [{**ready, "lastTransitionTime": "2026-03-01T12:00:00Z"}],
        },
    }
    written = await project.cluster.apply_status(DEPLOYMENT, status, manager="tests")
    await own_writes.seen(shim.app[CATALOG], DEPLOYMENT, written)


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def listed(client: Client, *queries: Json, query: str = "") -> list[str]:
    asked = "&".join(f"queries[{at}]={quote(json.dumps(item))}" for at, item in enumerate(queries))
    reply = await client.call("GET", f"{BASE}?{asked}{query}")
    assert reply.status == 200, reply
    return [item["$id"] for item in reply.body["deployments"]]


def filtered(method: str, attribute: str, *values: object) -> Json:
    return {"method": method, "attribute": attribute, "values": list(values)}


# ---------------------------------------------------------------- reading


async def test_what_kubectl_made_and_what_the_api_made_are_in_one_list(
    client: Client, project: ProjectKit, shim: ShimServer
) -> None:
    first, second = await uploaded(client), await uploaded(client, activate="false")

    reply = await client.call("GET", BASE)

    assert reply.body["total"] == 3
    assert {item["$id"] for item in reply.body["deployments"]} == {"hello-v1", first, second}
    assert [item["activate"] for item in reply.body["deployments"] if item["$id"] == second] == [False]


async def test_a_list_is_filtered_ordered_and_paged(client: Client, project: ProjectKit, shim: ShimServer) -> None:
    first, second = await uploaded(client, entrypoint="a.py"), await uploaded(client, entrypoint="b.py", activate="0")
    await built(project, shim, first)

    assert set(await listed(client, filtered("equal", "status", "ready"))) == {"hello-v1", first}
    assert await listed(client, filtered("equal", "activate", *[False])) == [second]
    assert await listed(client, filtered("greaterThan", "sourceSize", 100)) == [first, second]
    last = {"method": "orderDesc", "attribute": "entrypoint"}, {"method": "limit", "values": [1]}
    assert await listed(client, *last) == [second]
    assert await listed(client, query=f"&search={first}") == [first]
    everything = await listed(client)  # its order is that of whole seconds, and then of ids
    behind = everything[everything.index(first) + 1 :]
    assert await listed(client, {"method": "cursorAfter", "values": [first]}) == behind
    assert (await old(client).call("GET", f'{BASE}?queries[0]=equal("size",+[{len(CODE)}])')).body["total"] == 2
    unknown = quote(json.dumps(filtered("equal", "secret", 1)))
    assert (await client.call("GET", f"{BASE}?queries[0]={unknown}")).error == (400, "general_query_invalid")


async def test_one_deployment_shows_the_whole_log_of_its_build(
    client: Client, project: ProjectKit, shim: ShimServer
) -> None:
    id_ = await uploaded(client)
    log = b"first line\nthe last line\n"
    stored = await shim.app[ARTIFACTS].put(project.namespace, pieces(log), limit=len(log))
    await built(project, shim, id_, log=stored.to_json(), logTail="the last line")

    reply = await client.call("GET", f"{BASE}/{id_}")
    in_list = next(item for item in (await client.call("GET", BASE)).body["deployments"] if item["$id"] == id_)

    assert reply.body["buildLogs"] == "first line\nthe last line\n"
    assert in_list["buildLogs"] == "the last line"
    assert reply.body["sourceSize"] == len(CODE)
    assert reply.body["totalSize"] == len(CODE) + len(b"built")
    stdout = (await old(client).call("GET", f"{BASE}/{id_}")).body["buildStdout"]
    assert stdout == "first line\nthe last line\n"


async def test_a_log_that_is_gone_leaves_its_last_lines(client: Client, project: ProjectKit, shim: ShimServer) -> None:
    id_ = await uploaded(client)
    lost = {"digest": f"sha256:{'1' * 64}", "size": 3}
    await built(project, shim, id_, "failed", log=lost, logTail="all that is left", message="no such file")

    assert (await client.call("GET", f"{BASE}/{id_}")).body["buildLogs"] == "all that is left\nno such file"


@pytest.mark.parametrize("path", ["nobody", "0" * 20, "hello-v1%2F..", "x" * 200])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_deployment_that_is_not_there_is_not_found(client: Client, method: str, path: str) -> None:
    assert (await client.call(method, f"{BASE}/{path}")).error == (404, "deployment_not_found")


async def test_a_deployment_is_found_under_its_own_function_alone(
    client: Client, project: ProjectKit, shim: ShimServer
) -> None:
    await project.ready("other")
    await shim.sees(project.namespace, "other")
    id_ = await uploaded(client)

    for reply in [
        await client.call("GET", f"/v1/functions/other/deployments/{id_}"),
        await client.call("DELETE", f"/v1/functions/other/deployments/{id_}"),
        await client.call("GET", f"/v1/functions/other/deployments/{id_}/download"),
    ]:
        assert reply.error == (404, "deployment_not_found")
    assert (await client.call("GET", "/v1/functions/nobody/deployments")).error == (404, "function_not_found")


async def test_a_deleted_deployment_is_gone_for_kubectl_too(client: Client, project: ProjectKit) -> None:
    id_ = await uploaded(client)
    name = (await resource(project, id_))["metadata"]["name"]

    reply = await client.call("DELETE", f"{BASE}/{id_}", {})

    assert reply.status == 204
    assert reply.headers["Content-Type"]  # Python's SDK reads it
    assert await project.cluster.get(DEPLOYMENT, Key(project.namespace, name)) is None
    assert (await client.call("GET", f"{BASE}/{id_}")).error == (404, "deployment_not_found")


# ---------------------------------------------------------------- downloads


async def test_source_and_output_are_downloaded(client: Client, project: ProjectKit, shim: ShimServer) -> None:
    id_ = await uploaded(client)
    await built(project, shim, id_)

    source = await client.call("GET", f"{BASE}/{id_}/download", Accept="*/*")
    output = await client.call("GET", f"{BASE}/{id_}/download?type=output&token=x")

    assert (source.status, source.body) == (200, CODE)
    assert source.headers["Content-Type"] == "application/gzip"
    assert source.headers["Content-Length"] == str(len(CODE))
    assert source.headers["Content-Disposition"] == f'attachment; filename="{id_}-source.tar.gz"'
    assert source.headers["ETag"] == f'"sha256:{hashlib.sha256(CODE).hexdigest()}"'
    assert output.body == (await client.call("GET", f"{BASE}/{id_}/build/download")).body == b"built"


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=100-", 100, len(CODE)), ("bytes=-5", len(CODE) - 5, len(CODE))],
)
async def test_a_range_is_downloaded(client: Client, asked: str, start: int, end: int) -> None:
    reply = await client.call("GET", f"{BASE}/{await uploaded(client)}/download", Range=asked)

    assert (reply.status, reply.body) == (206, CODE[start:end])
    assert reply.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(CODE)}"


async def test_a_range_beyond_the_end_is_refused(client: Client) -> None:
    reply = await client.call("GET", f"{BASE}/{await uploaded(client)}/download", Range="bytes=999999-")

    assert reply.error == (416, "storage_invalid_range")


async def test_what_is_not_stored_is_not_downloaded(client: Client) -> None:
    id_ = await uploaded(client)

    assert (await client.call("GET", f"{BASE}/{id_}/download?type=output")).error == (404, "deployment_not_found")
    assert (await client.call("GET", f"{BASE}/hello-v1/download")).error == (404, "deployment_not_found")
    assert (await client.call("GET", f"{BASE}/{id_}/download?type=secrets")).error == (400, "general_argument_invalid")


# ---------------------------------------------------------------- activation


async def activated(project: ProjectKit, name: str) -> None:
    """Do what the operator does once a Deployment of `hello` is the one to be active: say so in the Function."""
    status = {"activeDeployment": name}
    body = {"apiVersion": "appfn.dev/v1alpha1", "kind": "Function", "status": status}
    await project.cluster.apply_status(
        FUNCTION, {**body, "metadata": {"name": "hello", "namespace": project.namespace}}, manager="tests"
    )


async def chosen(project: ProjectKit) -> str | None:
    """Return what the operator would make the active one."""
    function = await project.cluster.get(FUNCTION, Key(project.namespace, "hello"))
    found = await project.cluster.list(DEPLOYMENT, namespace=project.namespace)
    return choose(Function.parse(function or {}), [Deployment.parse(body) for body in found]).active


async def follow(project: ProjectKit, stop: asyncio.Event) -> None:
    """Be the operator until it is enough."""
    while not stop.is_set():
        if (name := await chosen(project)) is not None:
            await activated(project, name)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.05)


@pytest.fixture
async def operator(project: ProjectKit) -> AsyncIterator[None]:
    """An operator that activates."""
    stop = asyncio.Event()
    task = asyncio.create_task(follow(project, stop))
    yield
    stop.set()
    await task


@pytest.mark.usefixtures("operator")
async def test_an_earlier_deployment_is_activated_and_a_later_upload_takes_over(
    client: Client, project: ProjectKit, shim: ShimServer
) -> None:
    first, second = await uploaded(client), await uploaded(client)
    for id_ in (first, second):
        await built(project, shim, id_)

    back = await client.call("PATCH", "/v1/functions/hello/deployment", {"deploymentId": first})
    assert (back.status, back.body["$id"], back.body["deploymentId"]) == (200, "hello", first)
    assert await chosen(project) == (await resource(project, first))["metadata"]["name"]

    third = await uploaded(client)
    assert await chosen(project) == (await resource(project, first))["metadata"]["name"]
    await built(project, shim, third)
    assert await chosen(project) == (await resource(project, third))["metadata"]["name"]


@pytest.mark.usefixtures("operator")
async def test_one_that_did_not_ask_for_it_is_activated_by_the_old_route(
    client: Client, project: ProjectKit, shim: ShimServer
) -> None:
    quiet = await uploaded(client, activate="false")
    await built(project, shim, quiet)
    assert await chosen(project) != (await resource(project, quiet))["metadata"]["name"]

    reply = await old(client).call("PATCH", f"{BASE}/{quiet}", {})

    assert (reply.status, reply.body["deployment"]) == (200, quiet)


async def test_what_is_not_ready_is_not_activated(client: Client, project: ProjectKit, shim: ShimServer) -> None:
    id_ = await uploaded(client)
    for phase in (None, "building", "failed", "canceled"):
        if phase is not None:
            await built(project, shim, id_, phase)
        reply = await client.call("PATCH", "/v1/functions/hello/deployment", {"deploymentId": id_})
        assert reply.error == (400, "build_not_ready")
    missing = await client.call("PATCH", "/v1/functions/hello/deployment", {"deploymentId": "nobody"})
    assert missing.error == (404, "deployment_not_found")
    assert (await client.call("PATCH", "/v1/functions/hello/deployment", {})).error == (400, "general_argument_invalid")


@pytest.mark.usefixtures("operator")
async def test_a_pin_of_gitops_is_not_overruled_unless_it_lets_the_api_win(
    client: Client, project: ProjectKit, shim: ShimServer
) -> None:
    id_ = await uploaded(client)
    for each in (id_, "hello-v1"):
        await built(project, shim, each)
    manifest = {
        "apiVersion": "appfn.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": "hello", "namespace": project.namespace},
        "spec": {"runtime": project.runtime, "deployment": "hello-v1"},
    }
    await own_writes.seen(shim.app[CATALOG], FUNCTION, await project.cluster.apply(FUNCTION, manifest, manager="flux"))

    refused = await client.call("PATCH", "/v1/functions/hello/deployment", {"deploymentId": id_})
    assert refused.error == (409, "general_field_managed")
    assert "flux" in refused.body["message"]
    assert "appfn.dev/activated" not in (await resource(project, "hello-v1"))["metadata"].get("annotations", {})
    assert await chosen(project) == "hello-v1"

    allow = {"metadata": {"annotations": {"appfn.dev/api-writes": "force"}}}
    await project.cluster.merge_patch(FUNCTION, Key(project.namespace, "hello"), allow, manager="flux")
    reply = await client.call("PATCH", "/v1/functions/hello/deployment", {"deploymentId": id_})
    assert (reply.status, reply.body["deploymentId"]) == (200, id_)


# ---------------------------------------------------------------- builds again, and cancels


async def test_a_duplicate_is_the_same_code_with_what_the_function_says_now(
    client: Client, project: ProjectKit
) -> None:
    original = await uploaded(client, entrypoint="old.py")
    change = {"spec": {"commands": "make", "entrypoint": "new.py"}}
    await project.cluster.merge_patch(FUNCTION, Key(project.namespace, "hello"), change, manager="tests")

    async def made() -> Reply | None:
        reply = await client.call("POST", f"{BASE}/duplicate", {"deploymentId": original, "buildId": ""})
        return reply if reply.body["entrypoint"] == "new.py" else None

    reply = await eventually(made)

    assert reply.status == 202
    assert (reply.body["status"], reply.body["sourceSize"]) == ("waiting", len(CODE))
    before, after = await resource(project, original), await resource(project, reply.body["$id"])
    assert before["metadata"]["name"] != after["metadata"]["name"]
    assert after["spec"]["source"] == before["spec"]["source"]
    assert after["spec"]["commands"] == "make"


@pytest.mark.parametrize("path", ["{}/build", "{}/builds/whatever"])
async def test_the_old_paths_of_1_4_make_a_duplicate_too(client: Client, project: ProjectKit, path: str) -> None:
    original = await uploaded(client)

    reply = await old(client, "1.4.0").call("POST", f"{BASE}/{path.format(original)}")

    assert reply.status == 202
    assert reply.body["$id"] != original
    assert (await resource(project, reply.body["$id"]))["spec"]["functionRef"] == {"name": "hello"}


@pytest.mark.parametrize("response_format", ["0.13.0", "1.0.0"])
async def test_before_1_4_a_failed_build_is_tried_again(
    client: Client, project: ProjectKit, shim: ShimServer, response_format: str
) -> None:
    sdk, id_ = old(client, response_format), await uploaded(client)
    early = await sdk.call("POST", f"{BASE}/{id_}/builds/{id_}", {})
    assert (early.error, early.body["message"]) == ((400, "build_in_progress"), "Build not failed")
    await built(project, shim, id_, "failed")
    assert (await sdk.call("POST", f"{BASE}/{id_}/builds/other", {})).error == (404, "build_not_found")

    reply = await sdk.call("POST", f"{BASE}/{id_}/builds/{id_}", {})

    assert reply.status == 204
    assert (await resource(project, id_))["metadata"]["annotations"]["appfn.dev/retry"]
    assert len(await project.cluster.list(DEPLOYMENT, namespace=project.namespace)) == 2


@pytest.mark.parametrize("path", ["status", "build"])
async def test_a_build_is_canceled(client: Client, project: ProjectKit, shim: ShimServer, path: str) -> None:
    id_ = await uploaded(client)
    await built(project, shim, id_, "building")

    reply = await client.call("PATCH", f"{BASE}/{id_}/{path}", {})
    again = await client.call("PATCH", f"{BASE}/{id_}/{path}", {})

    assert (reply.status, reply.body["status"]) == (again.status, again.body["status"]) == (200, "canceled")
    assert "appfn.dev/cancel" in (await resource(project, id_))["metadata"]["annotations"]
    assert (await client.call("GET", f"{BASE}/{id_}")).body["status"] == "canceled"


@pytest.mark.parametrize("phase", ["ready", "failed"])
async def test_a_build_that_has_ended_is_not_canceled(
    client: Client, project: ProjectKit, shim: ShimServer, phase: str
) -> None:
    id_ = await uploaded(client)
    await built(project, shim, id_, phase)

    assert (await client.call("PATCH", f"{BASE}/{id_}/status", {})).error == (400, "build_already_completed")


async def test_the_functions_own_entrypoint_and_commands_are_used_where_an_upload_names_none(
    client: Client, project: ProjectKit, shim: ShimServer
) -> None:
    await project.function("words", entrypoint="src/words.py", commands="make words")
    await shim_knows(client, "words")

    reply = await Uploader(client, "words").whole(CODE)
    other = await Uploader(client, "words").whole(CODE, entrypoint="other.py", commands="true")

    spec = (await resource(project, reply.body["$id"]))["spec"]
    assert (spec["entrypoint"], spec["commands"]) == ("src/words.py", "make words")
    spec = (await resource(project, other.body["$id"]))["spec"]
    assert (spec["entrypoint"], spec["commands"]) == ("other.py", "true")


async def shim_knows(client: Client, function: str) -> None:
    async def probe() -> bool:
        return (await client.call("GET", f"/v1/functions/{function}")).status == 200

    await eventually(probe)
