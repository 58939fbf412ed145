"""Who may do what, and that nobody reaches another project's objects."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import NAMESPACE, SECRET, Key, Kind
from appfn.config import Config
from appfn.kube.client import KubeCluster
from support.cluster import SERVICE_ACCOUNT, token_of
from support.fake_invoker import FakeInvoker
from support.polling import eventually
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import ShimServer, running_shim, shim_config

ROLE = Kind(group="rbac.authorization.k8s.io", version="v1", plural="roles", name="Role")
ROLE_BINDING = Kind(group="rbac.authorization.k8s.io", version="v1", plural="rolebindings", name="RoleBinding")
UNAUTHORIZED = (401, "general_unauthorized_scope")


@pytest.fixture
def guest(shim: ShimServer, project: ProjectKit) -> Client:
    return Client(shim, project.namespace)


@pytest.fixture
async def neighbour(cluster: KubeCluster, runtime: str, shim: ShimServer) -> AsyncIterator[ProjectKit]:
    """Another project with a function of the same name."""
    name = f"neighbour-{secrets.token_hex(4)}"
    await cluster.create(NAMESPACE, {"metadata": {"name": name, "labels": {names.LABEL_PROJECT: name}}})
    kit = ProjectKit(cluster, name, runtime)
    await kit.ready("hello")
    await shim.sees(name, "hello")
    yield kit
    await cluster.delete(NAMESPACE, Key("", name))


async def workload(cluster: KubeCluster, namespace: str, *, verbs: list[str], audience: str = names.AUDIENCE) -> str:
    """Make a ServiceAccount with rights on executions in its namespace; return a token of it."""
    name = f"caller-{secrets.token_hex(4)}"
    metadata: Json = {"name": name, "namespace": namespace}
    await cluster.create(SERVICE_ACCOUNT, {"metadata": metadata})
    if verbs:
        rule = {"apiGroups": [names.GROUP], "resources": ["executions"], "verbs": verbs}
        await cluster.create(ROLE, {"metadata": metadata, "rules": [rule]})
        role = {"apiGroup": ROLE.group, "kind": "Role", "name": name}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        await cluster.create(ROLE_BINDING, {"metadata": metadata, "roleRef": role, "subjects": [subject]})
    return await token_of(cluster, Key(namespace, name), audience=audience)


async def test_a_project_must_be_named(shim: ShimServer) -> None:
    reply = await shim.call("POST", "/v1/functions/hello/executions", {})

    assert reply.error == (400, "project_unknown")


async def test_an_unknown_project_is_not_found_before_anything_else(shim: ShimServer) -> None:
    reply = await shim.call("POST", "/v1/functions/nope/executions", b"{broken", X_Appwrite_Project="nope")

    assert reply.error == (404, "project_not_found")


async def test_a_project_may_be_named_in_the_query(client: Client) -> None:
    path = f"/v1/functions/hello/executions?project={client.project}"

    assert (await client.shim.call("POST", path, {}, X_Appwrite_Key=client.key)).status == 201


async def test_the_system_namespace_is_never_a_project(
    cluster: KubeCluster, shim: ShimServer, project: ProjectKit, system: str, runtime: str
) -> None:
    labels = {"metadata": {"labels": {names.LABEL_PROJECT: "takeover"}}}
    await cluster.merge_patch(NAMESPACE, Key("", system), labels, manager="tests")
    await ProjectKit(cluster, system, runtime).ready("hello")
    await project.ready("later")
    await shim.sees(project.namespace, "later")

    reply = await Client(shim, "takeover").execute()

    assert reply.error == (404, "project_not_found")


async def test_a_latecomer_cannot_take_over_a_project_id(cluster: KubeCluster, client: Client, runtime: str) -> None:
    name = f"thief-{secrets.token_hex(4)}"
    await cluster.create(NAMESPACE, {"metadata": {"name": name, "labels": {names.LABEL_PROJECT: client.project}}})
    await ProjectKit(cluster, name, runtime).ready("stolen")

    assert (await client.execute()).status == 201
    assert (await client.execute("stolen")).error == (404, "function_not_found")
    await cluster.delete(NAMESPACE, Key("", name))


@pytest.mark.parametrize("scope", ["executions.write", "execution.write"])
async def test_a_key_may_do_what_its_scopes_say(shim: ShimServer, project: ProjectKit, scope: str) -> None:
    writer = Client(shim, project.namespace, await project.key(scope))

    made = await writer.execute()

    assert made.status == 201
    refused = await writer.execution(made.body["$id"])
    assert refused.error == UNAUTHORIZED
    assert f"app.{project.namespace}@" in refused.body["message"]
    assert refused.body["message"].endswith("(role: applications) missing scope (executions.read)")
    assert (await writer.executions()).error == UNAUTHORIZED


async def test_a_key_that_only_reads_cannot_execute_even_what_is_not_there(
    shim: ShimServer, project: ProjectKit
) -> None:
    reader = Client(shim, project.namespace, await project.key("executions.read"))

    assert (await reader.executions()).status == 200
    assert (await reader.execute()).error == UNAUTHORIZED
    assert (await reader.execute("nope")).error == UNAUTHORIZED


async def test_unknown_wrong_and_malformed_keys_are_all_the_same_guest(client: Client) -> None:
    id_, secret = client.key.split("_")[1:]
    wrong = f"appfn_{id_}_{secret[::-1]}"
    unknown = f"appfn_{id_[::-1]}_{secret}"
    answers = [(await replace(client, key=key).executions()).body for key in (wrong, unknown, "x", "é" * 10, "")]

    assert answers == [answers[0]] * 5
    assert answers[0]["message"] == "User (role: guests) missing scope (executions.read)"


async def test_an_expired_key_says_so_to_its_holder_alone(shim: ShimServer, project: ProjectKit) -> None:
    key = await project.key("executions.read", expires=datetime.now(UTC) - timedelta(seconds=1))
    wrong = key[:-4] + ("0000" if not key.endswith("0000") else "1111")

    assert (await Client(shim, project.namespace, key).executions()).error == (401, "project_key_expired")
    assert (await Client(shim, project.namespace, wrong).executions()).error == UNAUTHORIZED


async def test_a_revoked_key_is_a_guest(cluster: KubeCluster, client: Client) -> None:
    assert (await client.executions()).status == 200

    await cluster.delete(SECRET, Key(client.project, names.api_key_secret(client.key.split("_")[1])))

    assert (await client.executions()).error == UNAUTHORIZED


async def test_a_key_is_believed_for_the_time_configured(
    cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory, system: str, project: ProjectKit
) -> None:
    config = shim_config(tmp_path_factory.mktemp("cached"), system, AUTH_CACHE_SECONDS="600")
    async with running_shim(cluster, config, FakeInvoker()) as shim:
        client = Client(shim, project.namespace, await project.key("executions.read"))
        assert (await client.executions()).status == 200

        await cluster.delete(SECRET, Key(client.project, names.api_key_secret(client.key.split("_")[1])))

        assert (await client.executions()).status == 200


async def test_a_guest_needs_a_role_of_the_function(guest: Client, project: ProjectKit, shim: ShimServer) -> None:
    await project.ready("public", execute=["any"])
    await project.ready("members", execute=["users", "team:x"])
    await shim.sees(project.namespace, "public")
    await shim.sees(project.namespace, "members")

    nobody = await guest.execute()
    others = await guest.execute("members")
    public = await guest.execute("public")

    assert nobody.error == (401, "user_unauthorized")
    assert nobody.body["message"] == "No permissions provided for action 'execute'"
    assert others.error == (401, "user_unauthorized")
    assert others.body["message"] == (
        'Missing "execute" permission for role "team:x". Only "["any","guests"]" scopes are allowed and '
        '"["users","team:x"]" was given.'
    )
    assert public.status == 201
    assert (public.body["stdout"], public.body["stderr"]) == ("", "")
    assert (await guest.execution(public.body["$id"], "public")).error == UNAUTHORIZED


async def test_a_workload_may_do_what_rbac_says(cluster: KubeCluster, guest: Client) -> None:
    token = await workload(cluster, guest.project, verbs=["create", "get"])
    bearer = {"Authorization": f"Bearer {token}"}

    async def allowed() -> bool:  # the API server's own view of RBAC lags a little
        return (await guest.execute(**bearer)).status == 201

    await eventually(allowed)
    made = await guest.execute(**bearer)
    assert made.body["stdout"] == "printed"
    path = "/v1/functions/hello/executions"
    assert (await guest.call("GET", f"{path}/{made.body['$id']}", **bearer)).status == 200
    listed = await guest.call("GET", path, **bearer)
    assert listed.error == UNAUTHORIZED
    assert f"RBAC must allow list on executions.appfn.dev in namespace {guest.project}" in listed.body["message"]


async def test_a_workload_without_rights_is_refused(cluster: KubeCluster, guest: Client) -> None:
    token = await workload(cluster, guest.project, verbs=[])

    assert (await guest.execute(Authorization=f"Bearer {token}")).error == UNAUTHORIZED


async def test_a_token_for_another_audience_is_not_taken(cluster: KubeCluster, guest: Client) -> None:
    token = await workload(cluster, guest.project, verbs=["create"], audience="vault")
    for_kubernetes = await workload(cluster, guest.project, verbs=["create"], audience="")

    assert (await guest.execute(Authorization=f"Bearer {token}")).error == (401, "user_jwt_invalid")
    assert (await guest.execute(Authorization=f"Bearer {for_kubernetes}")).error == (401, "user_jwt_invalid")


@pytest.mark.parametrize("token", ["x", "a.b.c", "e30.e30.e30", "x" * 9000])
async def test_a_made_up_token_is_not_taken(guest: Client, token: str) -> None:
    if len(token) > 8190:
        assert (await guest.execute(Authorization=f"Bearer {token}")).status == 400
    else:
        assert (await guest.execute(Authorization=f"Bearer {token}")).error == (401, "user_jwt_invalid")


async def test_another_projects_objects_are_out_of_reach_by_every_route(
    cluster: KubeCluster, client: Client, neighbour: ProjectKit, invoker: FakeInvoker
) -> None:
    theirs = Client(client.shim, neighbour.namespace, await neighbour.key("executions.read", "executions.write"))
    secret = (await theirs.execute(body={"data": "secret"})).body["$id"]
    calls = len(invoker.started)
    mine = replace(client, project=neighbour.namespace)  # my key, their project
    token = await workload(cluster, client.project, verbs=["create", "get", "list"])
    bearer = {"Authorization": f"Bearer {token}"}
    stranger = replace(mine, key="")

    assert (await client.execution(secret)).error == (404, "execution_not_found")
    assert secret not in str((await client.executions()).body)
    assert (await client.executions(f'?queries[]=cursorAfter("{secret}")')).error == (400, "general_cursor_not_found")
    assert (await mine.execution(secret)).error == UNAUTHORIZED
    assert (await mine.executions()).error == UNAUTHORIZED
    assert (await mine.execute()).error == (401, "user_unauthorized")
    path = "/v1/functions/hello/executions"
    assert (await stranger.call("GET", path, **bearer)).error == UNAUTHORIZED
    assert (await stranger.call("GET", f"{path}/{secret}", **bearer)).error == UNAUTHORIZED
    assert (await stranger.call("POST", path, {}, **bearer)).error == UNAUTHORIZED
    assert len(invoker.started) == calls


async def test_two_callers_with_the_same_idempotency_key_never_meet(client: Client, project: ProjectKit) -> None:
    other = replace(client, key=await project.key("executions.write"))

    mine = await client.execute(body={"async": True}, Idempotency_Key="k")
    theirs = await other.execute(body={"async": True}, Idempotency_Key="k")

    assert mine.status == theirs.status == 202
    assert mine.body["$id"] != theirs.body["$id"]


def test_the_configuration_never_shows_its_secrets(config: Config) -> None:
    assert "executions.db" not in repr(config)
