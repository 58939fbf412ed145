"""Web clients, as a browser's requests show them."""

import pytest

from appfn import names
from appfn.api.kinds import NAMESPACE, Key
from appfn.kube.client import KubeCluster
from support.fake_invoker import FakeInvoker
from support.polling import eventually
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import Reply, ShimServer

APP, STRANGER = "https://app.example.com", "https://evil.example.org"


@pytest.fixture
async def page(cluster: KubeCluster, shim: ShimServer, project: ProjectKit) -> Client:
    """A guest of a project that knows one page."""
    await project.ready("public", execute=["any"])
    await shim.sees(project.namespace, "public")
    note = {"metadata": {"annotations": {names.ANNOTATION_ORIGINS: "app.example.com"}}}
    await cluster.merge_patch(NAMESPACE, Key("", project.namespace), note, manager="tests")
    client = Client(shim, project.namespace)

    async def known() -> bool:
        return (await client.execute("public", Origin=APP)).status == 201

    await eventually(known)
    return client


def readable_by(reply: Reply) -> str | None:
    found = reply.headers.get("Access-Control-Allow-Origin")
    assert found is None or reply.headers["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in reply.headers["Vary"]
    return str(found) if found else None


async def test_a_preflight_allows_what_the_sdks_send(page: Client) -> None:
    asked = {
        "Origin": APP,
        "Access_Control_Request_Method": "POST",
        "Access_Control_Request_Headers": "content-type,x-appwrite-project,x-appwrite-response-format,x-sdk-name",
    }

    reply = await page.shim.call("OPTIONS", "/v1/functions/public/executions", **asked)

    assert reply.status == 204
    assert readable_by(reply) == APP
    assert "POST" in reply.headers["Access-Control-Allow-Methods"]
    allowed = reply.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert set(asked["Access_Control_Request_Headers"].split(",")) <= set(allowed)
    assert {"x-fallback-cookies", "x-appwrite-jwt", "authorization", "idempotency-key"} <= set(allowed)
    assert reply.headers["Content-Type"]


async def test_a_preflight_that_names_the_project_is_for_its_pages_alone(page: Client) -> None:
    path = f"/v1/functions/public/executions?project={page.project}"

    assert readable_by(await page.shim.call("OPTIONS", path, Origin=APP)) == APP
    assert readable_by(await page.shim.call("OPTIONS", path, Origin=STRANGER)) is None


async def test_a_known_page_may_read_answers_and_errors(page: Client) -> None:
    made = await page.execute("public", Origin=APP, X_Fallback_Cookies="{}")
    refused = await page.execute("nope", Origin=APP)

    assert made.status == 201
    assert readable_by(made) == APP
    assert "X-Fallback-Cookies" in made.headers["Access-Control-Expose-Headers"]
    assert refused.error == (404, "function_not_found")
    assert readable_by(refused) == APP


async def test_an_unknown_page_changes_nothing_and_reads_nothing(page: Client, invoker: FakeInvoker) -> None:
    calls = len(invoker.started)

    changed = await page.execute("public", Origin=STRANGER)
    read = await page.executions(function="public")

    assert changed.error == (403, "general_unknown_origin")
    assert f"({STRANGER})" in changed.body["message"]
    assert "appfn.dev/origins" in changed.body["message"]
    assert readable_by(changed) is None
    assert read.error == (401, "general_unauthorized_scope")
    assert len(invoker.started) == calls
    get = await page.call("GET", "/v1/functions/public/executions", Origin=STRANGER)
    assert readable_by(get) is None


async def test_a_page_on_the_users_own_machine_and_the_holder_of_a_key_are_let_through(
    page: Client, project: ProjectKit
) -> None:
    key = await project.key("executions.write")

    assert (await page.execute("public", Origin="http://localhost:5173")).status == 201
    assert (await page.execute("public", Origin=STRANGER, X_Appwrite_Key=key)).status == 201


async def test_other_clients_are_told_nothing_of_origins(page: Client) -> None:
    reply = await page.execute("public")

    assert reply.status == 201
    assert "Access-Control-Allow-Origin" not in reply.headers
    assert "Vary" not in reply.headers


async def test_what_is_no_projects_is_for_every_page(page: Client) -> None:
    assert readable_by(await page.shim.call("GET", "/v1/ping", Origin=STRANGER)) == STRANGER
    assert readable_by(await page.shim.call("POST", "/v1/functions/x/executions", {}, Origin=STRANGER)) == STRANGER
    inner = await page.shim.call("GET", "/internal/v1/changes", Origin=STRANGER)
    assert "Access-Control-Allow-Origin" not in inner.headers
