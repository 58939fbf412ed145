"""Events that come in: CloudEvents and Appwrite's webhooks, told durably, once, to the functions that subscribe."""

import asyncio
import base64
import hashlib
import hmac
import io
import json
import os
import signal
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from appfn.api.base import Json
from appfn.api.kinds import NAMESPACE, SECRET, Key, Kind
from appfn.kube.client import KubeCluster
from appfn.shim.services import CATALOG, METRICS
from localcluster.controlplane import ControlPlane
from support.cluster import SERVICE_ACCOUNT, token_of
from support.fake_invoker import FakeInvoker
from support.polling import eventually
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_processes import free_port, running_shims
from support.shim_server import Reply, ShimServer, running_shim, shim_config

ROLE = Kind(group="rbac.authorization.k8s.io", version="v1", plural="roles", name="Role")
ROLE_BINDING = Kind(group="rbac.authorization.k8s.io", version="v1", plural="rolebindings", name="RoleBinding")
URL = "https://appfn.example/v1/events?project=demo"
SIGNATURE_KEY = "key-of-the-webhook"
USER = {"$id": "u1", "name": "Zoë", "big": 12345678901234567890, "list": [1.5, None]}
STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


@pytest.fixture
async def project(cluster: KubeCluster, namespace: str, runtime: str) -> ProjectKit:
    """A project with functions that subscribe to what happens to users."""
    kit = ProjectKit(cluster, namespace, runtime)
    await kit.ready("hello")
    await kit.ready("any-user", events=["users.*"])
    await kit.ready("new-user", events=["users.*.create", "users.u1.create"])
    return kit


@pytest.fixture
async def client(shim: ShimServer, project: ProjectKit) -> Client:
    return Client(shim, project.namespace, await project.key("events.write", "executions.read"))


def cloud_event(**changes: Any) -> Json:
    event = {"specversion": "1.0", "id": "e1", "source": "/appwrite", "type": "users.u1.create", "data": USER}
    return {name: value for name, value in (event | changes).items() if value is not None}


async def send(client: Client, event: object, content_type: str = STRUCTURED) -> Reply:
    return await client.call("POST", "/v1/events", json.dumps(event).encode(), Content_Type=content_type)


def executed(reply: Reply) -> dict[str, str]:
    """Return the executions of a single event by function."""
    assert reply.status == 202, reply
    (event,) = reply.body["events"]
    return {item["functionId"]: item["executionId"] for item in event["executions"]}


async def given(client: Client, function: str, id_: str) -> Json:
    """Return what a function was given by an execution."""
    done = await client.finished(id_, function)
    content: Json = json.loads(done.body["response"])
    return content


# ---------------------------------------------------------------------- CloudEvents


async def test_a_structured_event_executes_the_functions_that_subscribe_to_one_of_its_names(client: Client) -> None:
    reply = await send(client, cloud_event())

    found = executed(reply)
    assert list(found) == ["any-user", "new-user"]
    assert reply.body["events"][0] | {"executions": []} == {
        "id": "e1",
        "source": "/appwrite",
        "event": "users.u1.create",
        "executions": [],
        "skipped": [],
    }
    done = await client.finished(found["new-user"], "new-user")
    assert (done.body["trigger"], done.body["status"]) == ("event", "completed")
    assert done.body["$permissions"] == []


async def test_a_function_sees_the_event_in_its_variables_and_no_payload(client: Client) -> None:
    found = executed(await send(client, cloud_event(type="users.u1.update.email", appwriteuserid="u7")))

    assert list(found) == ["any-user"]
    seen = await given(client, "any-user", found["any-user"])
    assert seen["payload"] == ""
    assert seen["variables"]["APPWRITE_FUNCTION_TRIGGER"] == "event"
    assert seen["variables"]["APPWRITE_FUNCTION_EVENT"] == "users.u1.update"
    assert json.loads(seen["variables"]["APPWRITE_FUNCTION_EVENT_DATA"]) == USER
    assert seen["variables"]["APPWRITE_FUNCTION_DATA"] == ""
    assert seen["variables"]["APPWRITE_FUNCTION_USER_ID"] == ""
    record = await client.execution(found["any-user"], "any-user")
    assert record.body["$permissions"] == ['read("user:u7")']


async def test_a_binary_event_is_told_likewise(client: Client) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "b1", "ce-source": "/x", "ce-type": "users.u1.create"}

    reply = await client.call(
        "POST", "/v1/events", json.dumps(USER).encode(), **headers, Content_Type="application/json"
    )

    seen = await given(client, "new-user", executed(reply)["new-user"])
    assert json.loads(seen["variables"]["APPWRITE_FUNCTION_EVENT_DATA"]) == USER


async def test_each_event_of_a_batch_is_told(client: Client) -> None:
    batch = [cloud_event(id="a"), cloud_event(id="b", type="users.u2.delete"), cloud_event(id="a")]

    reply = await send(client, batch, BATCH)

    assert reply.status == 202
    assert reply.body["total"] == 3
    first, second, third = ([item["functionId"] for item in event["executions"]] for event in reply.body["events"])
    assert (first, second, third) == (["any-user", "new-user"], ["any-user"], ["any-user", "new-user"])
    assert [item["duplicate"] for item in reply.body["events"][2]["executions"]] == [True, True]


async def test_a_type_that_is_not_appwrites_executes_who_subscribes_to_it(
    client: Client, shim: ShimServer, project: ProjectKit
) -> None:
    await project.ready("orders", events=["cloudevents.com.example.order.created"])
    await project.ready("all", events=["cloudevents.*"])
    await shim.sees(project.namespace, "orders")
    await shim.sees(project.namespace, "all")

    found = executed(await send(client, cloud_event(type="com.example.order.created", data="text")))

    assert sorted(found) == ["all", "orders"]
    seen = await given(client, "orders", found["orders"])
    assert seen["variables"]["APPWRITE_FUNCTION_EVENT"] == "cloudevents.com.example.order.created"
    assert seen["variables"]["APPWRITE_FUNCTION_EVENT_DATA"] == '"text"'


async def test_an_event_nobody_subscribes_to_is_taken_and_executes_nothing(client: Client) -> None:
    assert executed(await send(client, cloud_event(type="teams.t1.create"))) == {}


async def test_a_disabled_function_is_skipped_and_named(client: Client, shim: ShimServer, project: ProjectKit) -> None:
    await project.ready("off", events=["teams.*"], enabled=False)
    await subscribed(shim, project, "teams.*")

    reply = await send(client, cloud_event(type="teams.t1.create"))

    assert executed(reply) == {}
    assert reply.body["events"][0]["skipped"] == [{"functionId": "off", "reason": "disabled"}]


async def test_a_function_without_a_ready_deployment_is_executed_once_it_has_one(
    client: Client, shim: ShimServer, project: ProjectKit
) -> None:
    await project.function("late", events=["teams.*"])
    await subscribed(shim, project, "teams.*")
    found = executed(await send(client, cloud_event(type="teams.t1.create")))
    await project.ready("late", events=["teams.*"])

    assert (await client.finished(found["late"], "late")).body["status"] == "completed"


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": None},
        {"id": ""},
        {"id": 5},
        {"source": None},
        {"type": None},
        {"specversion": None},
        {"specversion": "0.3"},
        {"time": "yesterday"},
        {"time": 5},
        {"data": None, "data_base64": "a"},
        {"data": None, "data_base64": 5},
        {"Upper": "x"},
        {"type": "a" * 257},
        {"appwriteuserid": "a b"},
    ],
)
async def test_what_is_no_cloudevent_is_refused_with_a_reason(client: Client, wrong: Json) -> None:
    reply = await send(client, cloud_event(**wrong))

    assert reply.error == (400, "general_argument_invalid")
    assert "Zoë" not in reply.body["message"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", STRUCTURED),
        (b"nonsense", STRUCTURED),
        (b"[]", STRUCTURED),
        (b'"text"', STRUCTURED),
        (b"[" * 100_000, STRUCTURED),
        (b"\xff", STRUCTURED),
        (b'{"id": NaN}', STRUCTURED),
        (b"{}", BATCH),
        (b"[1]", BATCH),
        (b"[" * 100_000, BATCH),
        (b"{}", "application/json"),
        (b"", "text/plain"),
    ],
)
async def test_a_body_that_holds_no_event_is_refused(client: Client, body: bytes, content_type: str) -> None:
    reply = await client.call("POST", "/v1/events", body, Content_Type=content_type)

    assert reply.error == (400, "general_argument_invalid")


async def test_data_that_no_json_holds_is_refused(client: Client) -> None:
    body = json.dumps(cloud_event(data=float("nan"))).encode()

    assert (await client.call("POST", "/v1/events", body, Content_Type=STRUCTURED)).status == 400


async def test_a_batch_of_too_many_events_is_refused(client: Client) -> None:
    reply = await send(client, [cloud_event(id=str(number)) for number in range(101)], BATCH)

    assert reply.error == (400, "general_argument_invalid")
    assert "at most 100" in reply.body["message"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_events_that_are_too_large_are_refused(client: Client, *, chunked: bool) -> None:
    body = json.dumps(cloud_event(data="x" * 1_100_000)).encode()

    async def parts() -> Any:
        yield body

    headers = {
        "X-Appwrite-Project": client.project,
        "X-Appwrite-Key": client.key,
        "Content-Type": STRUCTURED,
    }
    content = parts() if chunked else io.BytesIO(body)
    async with client.shim.session.post(client.shim.base + "/v1/events", data=content, headers=headers) as response:
        assert response.status == 413
        assert (await response.json())["type"] == "general_payload_too_large"


# ---------------------------------------------------------------------- who may


async def test_a_key_needs_the_scope_for_events(shim: ShimServer, project: ProjectKit) -> None:
    client = Client(shim, project.namespace, await project.key("executions.write"))

    assert (await send(client, cloud_event())).error == (401, "general_unauthorized_scope")


async def test_a_guest_may_bring_no_events(shim: ShimServer, project: ProjectKit) -> None:
    assert (await send(Client(shim, project.namespace), cloud_event())).error == (401, "general_unauthorized_scope")


@pytest.mark.parametrize(("verb", "status"), [("create", 202), ("get", 401)])
async def test_a_workload_may_bring_events_where_rbac_lets_it_create_executions(
    shim: ShimServer, cluster: KubeCluster, project: ProjectKit, verb: str, status: int
) -> None:
    metadata: Json = {"name": "bringer", "namespace": project.namespace}
    await cluster.create(SERVICE_ACCOUNT, {"metadata": metadata})
    rule = {"apiGroups": ["appfn.dev"], "resources": ["executions"], "verbs": [verb]}
    await cluster.create(ROLE, {"metadata": metadata, "rules": [rule]})
    role = {"apiGroup": ROLE.group, "kind": "Role", "name": "bringer"}
    subject = {"kind": "ServiceAccount", **metadata}
    await cluster.create(ROLE_BINDING, {"metadata": metadata, "roleRef": role, "subjects": [subject]})
    token = await token_of(cluster, Key(project.namespace, "bringer"), audience="appfn")
    body = json.dumps(cloud_event()).encode()

    async def probe() -> bool:  # the authorizer of the API server may not have seen the role yet
        reply = await Client(shim, project.namespace).call(
            "POST", "/v1/events", body, Content_Type=STRUCTURED, Authorization=f"Bearer {token}"
        )
        assert reply.status == status, reply
        return True

    await eventually(probe)


async def test_the_key_of_another_project_brings_nothing_here(
    shim: ShimServer, cluster: KubeCluster, project: ProjectKit, invoker: FakeInvoker
) -> None:
    other = f"{project.namespace}-other"
    await cluster.create(NAMESPACE, {"metadata": {"name": other, "labels": {"appfn.dev/project": other}}})
    try:
        key = await ProjectKit(cluster, other, project.runtime).key("events.write")
        assert (await send(Client(shim, project.namespace, key), cloud_event())).status == 401

        async def probe() -> Reply | None:
            reply = await send(Client(shim, other, key), cloud_event())
            return reply if reply.status != 404 else None  # the shim may not have seen the namespace yet

        assert executed(await eventually(probe)) == {}
    finally:
        await cluster.delete(NAMESPACE, Key("", other))
    assert invoker.started == []


# ---------------------------------------------------------------------- once


async def test_an_event_that_comes_again_is_not_told_again(
    client: Client, shim: ShimServer, invoker: FakeInvoker
) -> None:
    first = executed(await send(client, cloud_event()))
    for function, id_ in first.items():
        await client.finished(id_, function)

    again = await send(client, cloud_event(data={"forged": True}))
    another = executed(await send(client, cloud_event(source="/elsewhere")))

    assert executed(again) == first
    assert all(item["duplicate"] for item in again.body["events"][0]["executions"])
    assert set(another.values()).isdisjoint(first.values())
    for function, id_ in another.items():
        await client.finished(id_, function)
    assert len(invoker.started) == 4
    text = shim.app[METRICS].render().decode()
    labels = f'{{namespace="{client.project}",source="cloudevents"}}'
    assert f"appfn_events_received_total{labels} 3.0" in text
    assert f"appfn_events_matched_total{labels} 4.0" in text
    assert f"appfn_events_deduplicated_total{labels} 2.0" in text


async def test_an_event_that_comes_again_after_its_execution_was_deleted_is_taken_and_runs_nothing(
    client: Client, project: ProjectKit, invoker: FakeInvoker
) -> None:
    first = executed(await send(client, cloud_event()))
    for function, id_ in first.items():
        await client.finished(id_, function)
    writer = replace(client, key=await project.key("executions.write"))
    at = f"/v1/functions/new-user/executions/{first['new-user']}"
    assert (await writer.call("DELETE", at)).status == 204

    again = await send(client, cloud_event())

    assert executed(again) == {"any-user": first["any-user"]}
    assert again.body["events"][0]["skipped"] == [{"functionId": "new-user", "reason": "deleted"}]
    assert len(invoker.started) == 2


async def test_an_event_half_taken_because_of_a_full_queue_is_completed_by_sending_it_again(
    cluster: KubeCluster, project: ProjectKit, invoker: FakeInvoker, tmp_path: Path, system: str
) -> None:
    narrow = shim_config(tmp_path, system, QUEUE_LIMIT="1")
    invoker.waiting_for_pod = gate = asyncio.Event()
    async with running_shim(cluster, narrow, invoker) as shim:
        client = Client(shim, project.namespace, await project.key("events.write", "executions.read"))
        filled = executed(await send(client, cloud_event(id="first", type="users.u1.delete")))
        refused = await send(client, cloud_event())
        gate.set()
        await client.finished(filled["any-user"], "any-user")
        reply = await send(client, cloud_event())
        for function, id_ in executed(reply).items():
            await client.finished(id_, function)

    assert refused.error == (429, "general_rate_limit_exceeded")
    assert "Retry-After" in refused.headers
    duplicates = {item["functionId"]: item["duplicate"] for item in reply.body["events"][0]["executions"]}
    assert duplicates == {"any-user": False, "new-user": True}
    assert sorted(invoker.started) == sorted([filled["any-user"], *executed(reply).values()])


async def test_an_event_whose_answer_was_lost_in_a_crash_runs_once(
    cluster: KubeCluster, control_plane: ControlPlane, system: str, tmp_path: Path, project: ProjectKit
) -> None:
    key = await project.key("events.write", "executions.read")
    # What the dead shim has claimed is its own until the lease is over.
    port, lease = str(free_port()), {"EXECUTION_LEASE_SECONDS": "1"}
    async with running_shims(tmp_path, control_plane.kubeconfig, system, processes=1, PORT=port, **lease) as doomed:
        (pid,) = doomed.pids
        crash = asyncio.create_task(killed_when_stored(tmp_path / "executions.db", pid))
        lost = send(Client(doomed.door, project.namespace, key), cloud_event())
        with suppress(aiohttp.ClientError):
            assert (await lost).status == 202  # the answer was faster
        stored = await crash
    invoker = FakeInvoker()
    config = shim_config(tmp_path, system, **lease)
    async with running_shim(cluster, config, invoker) as shim:
        client = Client(shim, project.namespace, key)
        again = executed(await send(client, cloud_event()))
        for function, id_ in again.items():
            await client.finished(id_, function)

    assert sorted(again.values()) == stored
    assert sorted(invoker.started) == stored


async def killed_when_stored(database: Path, pid: int) -> list[str]:
    """Kill a process as soon as its database holds executions; return their ids."""

    async def probe() -> list[str]:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return [id_ for (id_,) in connection.execute("SELECT id FROM executions ORDER BY id")]

    stored = await eventually(probe, within=30)
    os.kill(pid, signal.SIGKILL)
    return stored


# ---------------------------------------------------------------------- Appwrite's webhooks


async def know(project: ProjectKit, id_: str, *, key: str = SIGNATURE_KEY, label: str | None = None) -> None:
    """Make the Secret of a webhook."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": f"appfn-webhook-{id_}",
            "namespace": project.namespace,
            "labels": {"appfn.dev/webhook": label or id_},
        },
        "stringData": {"url": URL, "signatureKey": key},
    }
    await project.cluster.apply(SECRET, manifest, manager="tests")


async def hook(shim: ShimServer, project: ProjectKit, body: bytes, **changes: str) -> Reply:
    """Send what Appwrite sends."""
    digest = hmac.new(SIGNATURE_KEY.encode(), URL.encode() + body, hashlib.sha1).digest()
    names = "users.u1.create,users.*.create,users.u1,users.*"
    headers = {
        "Content_Type": "application/json",
        "X_Appwrite_Webhook_Id": "hook1",
        "X_Appwrite_Webhook_Events": names,
        "X_Appwrite_Webhook_Name": "to the cluster",
        "X_Appwrite_Webhook_User_Id": "u9",
        "X_Appwrite_Webhook_Project_Id": "theirs",
        "X_Appwrite_Webhook_Signature": base64.b64encode(digest).decode(),
    }
    path = f"/v1/events?project={project.namespace}"
    return await shim.call("POST", path, body, **(headers | changes))


async def test_a_webhook_that_is_signed_needs_no_key(shim: ShimServer, project: ProjectKit, client: Client) -> None:
    await know(project, "hook1")
    body = json.dumps(USER).encode()

    reply = await hook(shim, project, body)

    found = executed(reply)
    assert list(found) == ["any-user", "new-user"]
    done = await client.finished(found["new-user"], "new-user")
    assert done.body["$permissions"] == ['read("user:u9")']
    seen = json.loads(done.body["response"])
    assert seen["variables"]["APPWRITE_FUNCTION_EVENT"] == "users.u1.create"
    assert seen["variables"]["APPWRITE_FUNCTION_EVENT_DATA"] == body.decode()
    assert executed(await hook(shim, project, body)) == found
    assert set(executed(await hook(shim, project, b"{}")).values()).isdisjoint(found.values())


async def test_a_project_may_know_several_webhooks(shim: ShimServer, project: ProjectKit) -> None:
    await know(project, "hook1", key="another key")
    await know(project, "hook2")

    assert (await hook(shim, project, b"{}")).status == 401
    assert (await hook(shim, project, b"{}", X_Appwrite_Webhook_Id="hook2")).status == 202


@pytest.mark.parametrize(
    "wrong",
    [
        {"X_Appwrite_Webhook_Signature": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="},
        {"X_Appwrite_Webhook_Signature": ""},
        {"X_Appwrite_Webhook_Signature": "ü"},
        {"X_Appwrite_Webhook_Id": "unknown"},
        {"X_Appwrite_Webhook_Id": "../hook1"},
        {"X_Appwrite_Webhook_Id": ""},
    ],
)
async def test_a_webhook_that_is_not_signed_by_a_known_key_is_refused(
    shim: ShimServer, project: ProjectKit, wrong: dict[str, str]
) -> None:
    await know(project, "hook1")

    reply = await hook(shim, project, b"{}", **wrong)

    assert reply.error == (401, "general_access_forbidden")


async def test_a_secret_without_the_label_of_the_webhook_signs_nothing(shim: ShimServer, project: ProjectKit) -> None:
    await know(project, "hook1", label="other")

    assert (await hook(shim, project, b"{}")).error == (401, "general_access_forbidden")


@pytest.mark.parametrize(
    "wrong",
    [
        {"X_Appwrite_Webhook_Events": ""},
        {"X_Appwrite_Webhook_Events": "users.*"},
        {"X_Appwrite_Webhook_Events": ",".join(f"users.u{number}" for number in range(65))},
        {"X_Appwrite_Webhook_User_Id": "a b"},
    ],
)
async def test_a_webhook_that_tells_no_event_is_refused(
    shim: ShimServer, project: ProjectKit, wrong: dict[str, str]
) -> None:
    await know(project, "hook1")

    assert (await hook(shim, project, b"{}", **wrong)).error == (400, "general_argument_invalid")


async def subscribed(shim: ShimServer, project: ProjectKit, name: str) -> None:
    """Return when the shim knows somebody who subscribes."""

    async def probe() -> bool:
        return bool(shim.app[CATALOG].subscriptions.matching(project.namespace, [name]))

    await eventually(probe)
