"""Variables over the API, in both generations, and what becomes of them in the cluster."""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from appfn.api.base import Json
from appfn.api.kinds import FUNCTION, SECRET, Key
from appfn.kube.client import KubeCluster, connect
from localcluster.controlplane import ControlPlane
from support.cluster import kubeconfig_with_server
from support.fake_invoker import FakeInvoker
from support.polling import eventually
from support.project import ProjectKit
from support.proxy import Fault, Proxy, proxy_to
from support.shim_client import Client
from support.shim_server import running_shim, shim_config

VARIABLES = "/v1/functions/hello/variables"
PLAIN = {"key": "MODE", "value": "fast", "secret": False}


async def create(client: Client, **body: object) -> Json:
    reply = await client.call("POST", VARIABLES, body)
    assert reply.status == 201, reply
    model: Json = reply.body
    return model


async def stored(cluster: KubeCluster, project: ProjectKit, function: str = "hello") -> dict[str, str]:
    """Return all values in the Secret of a function's variables."""
    uid = (await function_of(cluster, project, function))["metadata"]["uid"]
    found = await cluster.get(SECRET, Key(project.namespace, f"{function}-variables-{uid[:8]}"))
    assert found is not None
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Function", uid)
    return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}


async def function_of(cluster: KubeCluster, project: ProjectKit, name: str = "hello") -> Json:
    found = await cluster.get(FUNCTION, Key(project.namespace, name))
    assert found is not None
    return found


async def test_a_variable_is_made_read_changed_and_deleted(admin: Client) -> None:
    model = await create(admin, **PLAIN)
    at = f"{VARIABLES}/{model['$id']}"

    assert {name: model[name] for name in ("key", "value", "secret", "resourceType", "resourceId")} == {
        **PLAIN,
        "resourceType": "function",
        "resourceId": "hello",
    }
    assert (await admin.call("GET", at)).body == model
    assert (await admin.call("GET", VARIABLES)).body == {"total": 1, "variables": [model]}
    changed = (await admin.call("PUT", at, {"key": "MODE", "value": "slow"})).body
    assert changed["value"] == "slow"
    assert changed["$createdAt"] == model["$createdAt"]
    assert changed["$updatedAt"] > model["$updatedAt"]
    renamed = (await admin.call("PUT", at, {"key": "SPEED"})).body
    assert (renamed["$id"], renamed["key"], renamed["value"]) == (model["$id"], "SPEED", "slow")
    assert (await admin.call("GET", "/v1/functions/hello")).body["vars"] == [renamed]
    gone = await admin.call("DELETE", at)
    assert (gone.status, gone.body) == (204, b"")
    assert (await admin.call("GET", at)).error == (404, "variable_not_found")
    assert (await admin.call("DELETE", at)).error == (404, "variable_not_found")
    assert (await admin.call("GET", VARIABLES)).body == {"total": 0, "variables": []}


async def test_the_value_is_in_a_secret_and_what_is_not_used_any_more_goes(
    admin: Client, cluster: KubeCluster, project: ProjectKit
) -> None:
    first = await create(admin, key="TOKEN", value="t0p")
    second = await create(admin, **PLAIN)

    assert sorted((await stored(cluster, project)).values()) == ["fast", "t0p"]
    (item, _) = (await function_of(cluster, project))["spec"]["variables"]
    assert item["name"] == "TOKEN"
    assert set(item) == {"name", "valueFrom"}
    assert "t0p" not in str(await function_of(cluster, project))
    await admin.call("PUT", f"{VARIABLES}/{first['$id']}", {"key": "TOKEN", "value": "n3w"})
    assert sorted((await stored(cluster, project)).values()) == ["fast", "n3w"]
    await admin.call("DELETE", f"{VARIABLES}/{second['$id']}")
    assert list((await stored(cluster, project)).values()) == ["n3w"]


async def test_a_secret_is_never_read_back_and_stays_one(admin: Client) -> None:
    model = await create(admin, key="TOKEN", value="t0p")
    at = f"{VARIABLES}/{model['$id']}"

    assert (model["secret"], model["value"]) == (True, "")
    changed = await admin.call("PUT", at, {"key": "TOKEN", "value": "n3w"})
    assert (changed.body["secret"], changed.body["value"]) == (True, "")
    refused = await admin.call("PUT", at, {"key": "TOKEN", "secret": False})
    assert refused.error == (400, "variable_cannot_unset_secret")
    for format_ in ("0.15.0", "1.0.0", "1.4.0", "1.9.5"):
        old = replace(admin, response_format=format_)
        for path in (VARIABLES, at, "/v1/functions/hello", "/v1/functions"):
            reply = await old.call("GET", path)
            assert reply.status == 200, reply
            assert "n3w" not in str(reply.body)


async def test_what_is_no_secret_can_become_one(admin: Client) -> None:
    model = await create(admin, **PLAIN)

    changed = await admin.call("PUT", f"{VARIABLES}/{model['$id']}", {"key": "MODE", "secret": True})

    assert (changed.body["secret"], changed.body["value"]) == (True, "")


async def test_the_generation_of_1_0_reads_what_it_wrote(admin: Client) -> None:
    old = replace(admin, response_format="1.0.0")

    model = await create(old, key="MODE", value="fast")

    assert model.keys() == {"$id", "$createdAt", "$updatedAt", "key", "value", "functionId"}
    assert (model["value"], model["functionId"]) == ("fast", "hello")
    assert (await old.call("GET", "/v1/functions/hello")).body["vars"] == [model]


async def test_a_secret_survives_a_client_of_0_15_that_sends_back_what_it_was_shown(
    admin: Client, invoker: FakeInvoker
) -> None:
    model = await create(admin, key="TOKEN", value="t0p", secret=True)
    old = replace(admin, response_format="0.15.0")
    shown = (await old.call("GET", "/v1/functions/hello")).body
    assert shown["vars"] == {"TOKEN": ""}

    for given, wanted in (("", "t0p"), ("n3w", "n3w")):
        change = {"name": "hello", "execute": [], "vars": {"TOKEN": given, "MODE": "x"}}
        assert (await old.call("PUT", "/v1/functions/hello", change)).status == 200
        await admin.execute()
        assert invoker.invocations[-1].variables["TOKEN"] == wanted
        seen = (await admin.call("GET", f"{VARIABLES}/{model['$id']}")).body
        assert (seen["value"], seen["secret"]) == ("", True)


async def test_a_new_value_holds_for_the_next_call(admin: Client, project: ProjectKit, invoker: FakeInvoker) -> None:
    model = await create(admin, key="TOKEN", value="1")
    for value in ("2", "3", "4"):
        await admin.execute()
        await admin.call("PUT", f"{VARIABLES}/{model['$id']}", {"key": "TOKEN", "value": value})
        reply = await admin.execute()
        assert reply.status == 201, reply
        assert invoker.invocations[-1].variables["TOKEN"] == value
    await admin.call("DELETE", f"{VARIABLES}/{model['$id']}")
    await admin.execute()
    assert "TOKEN" not in invoker.invocations[-1].variables


async def test_names_and_ids_are_there_once(admin: Client) -> None:
    model = await create(admin, variableId="My_Id.1", **PLAIN)
    other = await create(admin, variableId="unique()", key="OTHER", value="x")

    assert model["$id"] == "My_Id.1"
    taken = await admin.call("POST", VARIABLES, {"key": "MODE", "value": "x"})
    assert taken.error == (409, "variable_already_exists")
    same_id = await admin.call("POST", VARIABLES, {"variableId": "My_Id.1", "key": "NEW", "value": "x"})
    assert same_id.error == (409, "variable_already_exists")
    renamed = await admin.call("PUT", f"{VARIABLES}/{other['$id']}", {"key": "MODE"})
    assert renamed.error == (409, "variable_already_exists")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"key": ""}, "key"),
        ({"key": None}, "key"),
        ({"key": "K" * 256}, "key"),
        ({"key": "1ST"}, "key"),
        ({"key": "a-b"}, "key"),
        ({"value": None}, "value"),
        ({"value": "v" * 8193}, "value"),
        ({"value": "a\x00b"}, "value"),
        ({"secret": "maybe"}, "secret"),
        ({"variableId": "-"}, "variableId"),
    ],
)
async def test_what_is_wrong_is_named(admin: Client, change: Json, names: str) -> None:
    reply = await admin.call("POST", VARIABLES, {"key": "MODE", "value": "x", **change})

    assert reply.error == (400, "general_argument_invalid"), reply
    assert f"`{names}`" in reply.body["message"] or f'"{names}"' in reply.body["message"]


async def test_the_longest_value_and_any_text_are_kept(admin: Client) -> None:
    long = await create(admin, key="LONG", value="ü" * 8192, secret=False)
    assert long["value"] == "ü" * 8192
    assert (await create(admin, key="_", value='line\n"two"', secret=False))["value"] == 'line\n"two"'
    assert (await create(admin, key="EMPTY", value="", secret=False))["value"] == ""


async def test_there_are_a_hundred_at_most(admin: Client, project: ProjectKit) -> None:
    await project.function("full", variables=[{"name": f"V{number}", "value": "x"} for number in range(100)])

    async def seen() -> bool:
        return bool((await admin.call("GET", "/v1/functions/full/variables")).body.get("total") == 100)

    await eventually(seen)
    reply = await admin.call("POST", "/v1/functions/full/variables", {"key": "MORE", "value": "x"})
    assert reply.error == (400, "general_argument_invalid")
    assert "100" in reply.body["message"]


async def test_variables_of_kubectl_are_shown_as_far_as_they_may_be(
    admin: Client, project: ProjectKit, invoker: FakeInvoker
) -> None:
    await project.secret("mine", {"key": b"hidden"})
    reference = {"secretKeyRef": {"name": "mine", "key": "key"}}
    await project.ready("both", variables=[{"name": "A", "value": "a"}, {"name": "B", "valueFrom": reference}])

    async def seen() -> list[Json]:
        reply = await admin.call("GET", "/v1/functions/both/variables")
        assert reply.body["total"] == 2
        models: list[Json] = reply.body["variables"]
        return models

    first, second = await eventually(seen)
    assert (first["key"], first["value"], first["secret"]) == ("A", "a", False)
    assert (second["key"], second["value"], second["secret"]) == ("B", "", True)
    got = await admin.call("GET", f"/v1/functions/both/variables/{first['$id']}")
    assert got.body == first


async def test_many_writers_at_once_lose_nothing(admin: Client, cluster: KubeCluster, project: ProjectKit) -> None:
    async def one(number: int) -> None:
        await create(admin, key=f"V{number}", value=str(number), secret=False)

    await asyncio.gather(*(one(number) for number in range(8)))

    models = (await admin.call("GET", VARIABLES)).body["variables"]
    assert {model["key"]: model["value"] for model in models} == {f"V{n}": str(n) for n in range(8)}
    assert sorted((await stored(cluster, project)).values()) == [str(n) for n in range(8)]


async def test_a_refused_change_leaves_no_value_behind(
    admin: Client, cluster: KubeCluster, project: ProjectKit
) -> None:
    await create(admin, **PLAIN)
    manifest = {"name": "LIST", "value": "x"}
    body = await function_of(cluster, project)
    spec = {"spec": {"variables": [*body["spec"]["variables"], manifest]}}
    await cluster.merge_patch(FUNCTION, Key(project.namespace, "hello"), spec, manager="somebody")

    async def seen() -> Json:
        models = (await admin.call("GET", VARIABLES)).body["variables"]
        found: Json = next(model for model in models if model["key"] == "LIST")
        return found

    model = await eventually(seen)
    refused = await admin.call("PUT", f"{VARIABLES}/{model['$id']}", {"key": "LIST", "value": "y"})
    assert refused.error == (409, "general_field_managed")
    assert "spec.variables[LIST] is managed by somebody" in refused.body["message"]
    assert list((await stored(cluster, project)).values()) == ["fast"]


async def test_a_new_value_holds_in_other_replicas_though_they_keep_values(
    admin: Client, cluster: KubeCluster, project: ProjectKit, system: str, tmp_path: Path
) -> None:
    keeping = shim_config(tmp_path / "other", system, VARIABLE_CACHE_SECONDS="300")
    other = FakeInvoker()
    async with running_shim(cluster, keeping, other) as replica:
        there = replace(admin, shim=replica)
        model = await create(admin, key="TOKEN", value="1", secret=False)

        async def called(wanted: str) -> bool:
            await there.execute()
            return other.invocations[-1].variables.get("TOKEN") == wanted

        for value in ("2", "3"):
            await eventually(partial(called, model["value"]))
            model = (await admin.call("PUT", f"{VARIABLES}/{model['$id']}", {"key": "TOKEN", "value": value})).body
            await eventually(partial(called, value))
        assert (await there.call("GET", VARIABLES)).body["variables"] == [model]


@pytest.fixture
async def proxy(cluster: KubeCluster) -> AsyncIterator[Proxy]:
    async with proxy_to(cluster) as running:
        yield running


@pytest.fixture
async def behind(
    proxy: Proxy, control_plane: ControlPlane, admin: Client, project: ProjectKit, system: str, tmp_path: Path
) -> AsyncIterator[Client]:
    """A client of another replica, which talks to the API server through the proxy."""
    other, file = shim_config(tmp_path / "behind", system), tmp_path / "proxied"
    through = kubeconfig_with_server(control_plane.kubeconfig, file, proxy.url)
    async with connect(through) as cluster, running_shim(cluster, other, FakeInvoker()) as replica:
        await replica.sees(project.namespace, "hello")
        yield replace(admin, shim=replica)


async def test_a_value_stays_though_the_answer_to_its_writing_got_lost(
    admin: Client, behind: Client, proxy: Proxy
) -> None:
    model = await create(behind, **PLAIN)
    proxy.losing, proxy.lost_answers = "/functions/hello", 1

    at = f"{VARIABLES}/{model['$id']}"
    assert (await behind.call("PUT", at, {"key": "MODE", "value": "slow"})).status == 503

    async def written() -> bool:
        return bool((await admin.call("GET", at)).body["$updatedAt"] > model["$updatedAt"])

    await eventually(written)
    assert (await admin.call("GET", at)).body["value"] == "slow"


async def test_a_replica_that_is_behind_keeps_what_it_is_not_told_to_change(
    admin: Client, behind: Client, proxy: Proxy
) -> None:
    model = await create(behind, **PLAIN)
    at = f"{VARIABLES}/{model['$id']}"
    await eventually(partial(_is_there, admin, at))
    proxy.cut(*[Fault.SILENT] * 8)
    renamed = (await admin.call("PUT", at, {"key": "TOKEN", "secret": True})).body

    assert (await behind.call("PUT", at, {"value": "t0p"})).status == 200

    async def changed() -> Json | None:
        found: Json = (await admin.call("GET", at)).body
        return found if found["$updatedAt"] > renamed["$updatedAt"] else None

    shown = await eventually(changed)
    assert {name: shown[name] for name in PLAIN} == {"key": "TOKEN", "value": "", "secret": True}


async def _is_there(client: Client, at: str) -> bool:
    return (await client.call("GET", at)).status == 200
