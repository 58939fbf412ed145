"""Functions made, changed and deleted over the API are the custom resources of the cluster, and the other way round."""

from dataclasses import replace

import pytest

from appfn.api.base import Json
from appfn.api.kinds import FUNCTION, Key
from appfn.kube.client import KubeCluster
from support.polling import eventually
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import ShimServer

NEWEST = "1.9.5"


async def spec(cluster: KubeCluster, project: ProjectKit, name: str) -> Json:
    found = await cluster.get(FUNCTION, Key(project.namespace, name))
    assert found is not None
    fields: Json = found["spec"]
    return fields


async def made(client: Client, project: ProjectKit, id_: str = "cats", **more: object) -> Json:
    body = {"functionId": id_, "name": "Cats", "runtime": project.runtime, "execute": ["any"], **more}
    reply = await client.call("POST", "/v1/functions", body)
    assert reply.status == 201, reply
    model: Json = reply.body
    return model


async def test_a_function_made_by_the_api_is_a_custom_resource(
    admin: Client, cluster: KubeCluster, project: ProjectKit
) -> None:
    model = await made(
        admin,
        project,
        events=["users.*.create"],
        schedule="*/5 * * * *",
        timeout=30,
        enabled=False,
        logging=False,
        entrypoint="src/main.py",
        commands="pip install .",
        scopes=["users.read"],
        runtimeSpecification="s-2vcpu-2gb",
        deploymentRetention=0,
    )

    assert model["runtimeSpecification"] == "s-2vcpu-2gb"
    assert model["scopes"] == ["users.read"]
    made_spec = await spec(cluster, project, "cats")
    wanted = {
        "displayName": "Cats",
        "runtime": project.runtime,
        "execute": ["any"],
        "events": ["users.*.create"],
        "schedule": "*/5 * * * *",
        "timeout": 30,
        "enabled": False,
        "logging": False,
        "entrypoint": "src/main.py",
        "commands": "pip install .",
        "resources": {"limits": {"cpu": "2", "memory": "2048Mi"}, "requests": {"cpu": "50m", "memory": "64Mi"}},
    }
    assert {name: made_spec[name] for name in wanted} == wanted
    assert "id" not in made_spec


async def test_an_id_that_is_no_resource_name_is_kept_beside_it(
    admin: Client, cluster: KubeCluster, project: ProjectKit
) -> None:
    model = await made(admin, project, "My_Cats.1")
    generated = await made(admin, project, "unique()")

    assert model["$id"] == "My_Cats.1"
    assert len(generated["$id"]) == 20
    found = [body["spec"].get("id") for body in await cluster.list(FUNCTION, namespace=project.namespace)]
    assert "My_Cats.1" in found
    assert (await admin.call("GET", "/v1/functions/My_Cats.1")).body["$id"] == "My_Cats.1"
    assert (await admin.call("DELETE", "/v1/functions/My_Cats.1")).status == 204


async def test_clients_read_their_own_writes(admin: Client, project: ProjectKit) -> None:
    for round_ in range(5):
        model = await made(admin, project, f"f{round_}")
        got = await admin.call("GET", f"/v1/functions/f{round_}")
        assert got.body == model
        updated = await admin.call("PUT", f"/v1/functions/f{round_}", {"name": "New", "execute": [], "timeout": 20})
        assert updated.status == 200, updated
        got = await admin.call("GET", f"/v1/functions/f{round_}")
        assert (got.body["name"], got.body["execute"], got.body["timeout"]) == ("New", [], 20)
        assert got.body == updated.body
        gone = await admin.call("DELETE", f"/v1/functions/f{round_}")
        assert (gone.status, gone.body) == (204, b"")
        assert "Content-Type" in gone.headers
        assert (await admin.call("GET", f"/v1/functions/f{round_}")).error == (404, "function_not_found")


async def test_an_update_gives_what_it_leaves_out_its_default(
    admin: Client, cluster: KubeCluster, project: ProjectKit
) -> None:
    await made(admin, project, schedule="* * * * *", timeout=30, entrypoint="a.py", events=["users.*"], enabled=False)

    reply = await admin.call("PUT", "/v1/functions/cats", {"name": "Cats"})

    assert reply.status == 200, reply
    left = {name: reply.body[name] for name in ("schedule", "timeout", "entrypoint", "events", "execute", "enabled")}
    assert left == {"schedule": "", "timeout": 15, "entrypoint": "", "events": [], "execute": [], "enabled": True}
    assert (await spec(cluster, project, "cats"))["runtime"] == project.runtime


async def test_an_old_client_leaves_what_it_does_not_know(admin: Client, project: ProjectKit) -> None:
    await made(admin, project, entrypoint="a.py", logging=False, runtimeSpecification="s-2vcpu-4gb")
    old = replace(admin, response_format="1.0.0")

    reply = await old.call("PUT", "/v1/functions/cats", {"name": "Cats", "execute": ["users"]})

    assert reply.status == 200, reply
    now = (await admin.call("GET", "/v1/functions/cats")).body
    assert (now["entrypoint"], now["logging"], now["runtimeSpecification"]) == ("a.py", False, "s-2vcpu-4gb")
    assert now["execute"] == ["users"]


async def test_the_generation_before_1_0_is_understood(
    admin: Client, cluster: KubeCluster, project: ProjectKit
) -> None:
    old = replace(admin, response_format="0.15.0")

    model = await made(old, project, execute=["role:all", "team:t1"], vars={"MODE": "fast"})

    assert model["execute"] == ["role:all", "team:t1"]
    assert model["status"] == "enabled"
    assert model["vars"] == {"MODE": "fast"}
    assert isinstance(model["$createdAt"], int)
    assert model["scheduleNext"] == 0
    assert (await spec(cluster, project, "cats"))["execute"] == ["any", "team:t1"]
    reply = await old.call(
        "PUT", "/v1/functions/cats", {"name": "C", "execute": [], "vars": {"MODE": "slow", "N": "1"}}
    )
    assert reply.body["vars"] == {"MODE": "slow", "N": "1"}, reply
    reply = await old.call("PUT", "/v1/functions/cats", {"name": "C", "execute": []})
    assert reply.body["vars"] == {"MODE": "slow", "N": "1"}, "left out is not taken away"
    reply = await old.call("PUT", "/v1/functions/cats", {"name": "C", "execute": [], "vars": {}})
    assert reply.body["vars"] == {}


@pytest.mark.parametrize(
    ("format_", "has", "has_not"),
    [
        ("1.0.0", {"deployment", "vars", "scheduleNext", "enabled"}, {"deploymentId", "logging"}),
        ("1.4.0", {"deployment", "logging", "specification"}, {"deploymentId", "latestDeploymentId"}),
        ("1.6.0", {"deployment", "logging", "scopes"}, {"deploymentId", "latestDeploymentId"}),
        (NEWEST, {"deploymentId", "latestDeploymentStatus", "runtimeSpecification"}, {"deployment"}),
    ],
)
async def test_each_format_has_its_model(admin: Client, format_: str, has: set[str], has_not: set[str]) -> None:
    reply = await replace(admin, response_format=format_).call("GET", "/v1/functions/hello")

    assert has <= reply.body.keys()
    assert not has_not & reply.body.keys()
    deployment = reply.body.get("deployment", reply.body.get("deploymentId"))
    assert deployment == "hello-v1"


async def test_a_function_made_by_kubectl_is_in_the_list(admin: Client, project: ProjectKit) -> None:
    await project.function("dogs", displayName="Dogs", id="Dogs_1")

    async def probe() -> Json:
        reply = await admin.call("GET", '/v1/functions?queries[]=equal("name",["Dogs"])')
        assert reply.body["total"] == 1
        model: Json = reply.body["functions"][0]
        return model

    model = await eventually(probe)
    assert (model["$id"], model["runtime"], model["timeout"]) == ("Dogs_1", project.runtime, 15)
    assert model["$updatedAt"] >= model["$createdAt"] > "2020"


async def test_functions_are_paged_searched_and_ordered(admin: Client, project: ProjectKit) -> None:
    for name in ("bees", "ants"):
        await made(admin, project, name, name=name.upper(), timeout=60)

    async def ids(query: str) -> list[str]:
        reply = await admin.call("GET", f"/v1/functions?{query}")
        assert reply.status == 200, reply
        return [model["$id"] for model in reply.body["functions"]]

    assert await ids('queries[]={"method":"orderAsc","attribute":"name"}') == ["ants", "bees", "hello"]
    assert set(await ids("search=ANT")) == {"ants"}
    assert set(await ids('queries[]=greaterThan("timeout",15)')) == {"ants", "bees"}
    assert await ids('queries[]=orderAsc("name")&queries[]=cursorAfter("ants")&queries[]=limit(1)') == ["bees"]
    pages = [id_ for offset in range(4) for id_ in await ids(f"limit=1&offset={offset}&orderType=ASC")]
    assert sorted(pages) == ["ants", "bees", "hello"]
    wrong = await admin.call("GET", '/v1/functions?queries[]=equal("nope",1)')
    assert wrong.error == (400, "general_query_invalid")
    assert "timeout" in wrong.body["message"]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"functionId": "-x"}, "functionId"),
        ({"functionId": "x" * 37}, "functionId"),
        ({"functionId": None}, "functionId"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"runtime": "cobol-85"}, "runtime"),
        ({"execute": ["role:all"]}, "execute"),
        ({"execute": "everybody"}, "execute"),
        ({"events": ["nonsense"]}, "events"),
        ({"schedule": "now and then"}, "schedule"),
        ({"schedule": "0 0 31 2 *"}, "schedule"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": 901}, "timeout"),
        ({"entrypoint": "../main.py"}, "entrypoint"),
        ({"runtimeSpecification": "huge"}, "runtimeSpecification"),
        ({"deploymentRetention": 5}, "deploymentRetention"),
        ({"vars": {"1": "x"}}, "vars"),
        ({"vars": {"A": 1}}, "vars"),
    ],
)
async def test_what_is_wrong_is_named(admin: Client, project: ProjectKit, change: Json, names: str) -> None:
    body = {"functionId": "cats", "name": "Cats", "runtime": project.runtime, "execute": [], **change}

    reply = await admin.call("POST", "/v1/functions", body)

    assert reply.error == (400, "general_argument_invalid"), reply
    assert f"`{names}`" in reply.body["message"] or f'"{names}"' in reply.body["message"]


async def test_an_id_that_is_taken_is_refused(admin: Client, project: ProjectKit) -> None:
    await project.function("other", id="Other")
    body = {"functionId": "hello", "name": "Hello", "runtime": project.runtime, "execute": []}

    assert (await admin.call("POST", "/v1/functions", body)).error == (409, "function_already_exists")
    taken = await admin.call("POST", "/v1/functions", body | {"functionId": "other"})
    assert taken.error == (409, "function_already_exists"), "the resource's name is another function's"


async def test_a_git_integration_is_refused(admin: Client, project: ProjectKit) -> None:
    body = {"functionId": "cats", "name": "Cats", "runtime": project.runtime, "installationId": "i1"}

    assert (await admin.call("POST", "/v1/functions", body)).error == (405, "general_not_implemented")
    for kind in ("vcs", "template"):
        reply = await admin.call("POST", f"/v1/functions/hello/deployments/{kind}", {})
        assert reply.error == (405, "general_not_implemented")


async def test_who_may_only_read_changes_nothing(admin: Client, project: ProjectKit) -> None:
    reader = replace(admin, key=await project.key("functions.read"))

    assert (await reader.call("GET", "/v1/functions/hello")).status == 200
    for method, path in (("POST", ""), ("PUT", "/hello"), ("DELETE", "/hello")):
        reply = await reader.call(method, f"/v1/functions{path}", {})
        assert reply.error == (401, "general_unauthorized_scope")
    assert (await replace(admin, key="").call("GET", "/v1/functions")).error == (401, "general_unauthorized_scope")


async def test_runtimes_sizes_and_templates_are_listed(admin: Client, project: ProjectKit) -> None:
    runtimes = (await admin.call("GET", "/v1/functions/runtimes")).body
    (model,) = [item for item in runtimes["runtimes"] if item["$id"] == project.runtime]
    assert model == {
        "$id": project.runtime,
        "key": "python",
        "name": "Python",
        "version": "3.13",
        "base": "appfn/runtime-python:3.13",
        "image": "appfn/runtime-python:3.13",
        "logo": "python.png",
        "supports": ["x86"],
    }
    assert runtimes["total"] == len(runtimes["runtimes"])
    sizes = (await admin.call("GET", "/v1/functions/specifications")).body
    assert {"slug": "s-0.5vcpu-512mb", "cpus": 0.5, "memory": 512, "enabled": True} in sizes["specifications"]
    assert (await admin.call("GET", "/v1/functions/templates")).body == {"total": 0, "templates": []}
    assert (await admin.call("GET", "/v1/functions/templates/x")).error == (404, "function_template_not_found")


async def test_a_function_without_logging_keeps_no_logs(admin: Client, shim: ShimServer, project: ProjectKit) -> None:
    await project.ready("quiet", logging=False)
    await shim.sees(project.namespace, "quiet")

    reply = await admin.execute("quiet")

    assert (reply.body["status"], reply.body["logs"], reply.body["errors"]) == ("completed", "", "")
    assert (await admin.execute("hello")).body["logs"] == "printed"
