"""GraphQL as clients of both eras send it, with the rights that REST would give them."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from graphql import get_introspection_query

from appfn.api.base import Json
from appfn.kube.client import KubeCluster
from appfn.shim.auth import user_token
from appfn.shim.auth.identity import UserClaims
from appfn.shim.services import CATALOG, MASTER_KEY
from support.fake_invoker import FakeInvoker, completed
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import Reply, ShimServer, running_shim, shim_config

OLD = 'mutation { functionsCreateExecution(functionId: "hello") { _id statusCode response stdout stderr duration } }'
CREATE = (
    "mutation run($id: String!, $body: String, $headers: Json) "
    "{ functionsCreateExecution(functionId: $id, body: $body, headers: $headers) "
    "{ _id status responseStatusCode responseBody logs requestHeaders { name value } } }"
)
LIST = '{ functionsListExecutions(functionId: "hello") { total executions { _id status } } }'
TOO_DEEP = "Max query depth should be 3 but got"


async def ask(client: Client, content: object, path: str = "/v1/graphql", **headers: str) -> Reply:
    return await client.call("POST", path, content, **headers)


async def data(client: Client, query: str, **variables: object) -> Any:
    """Run a query that succeeds."""
    reply = await ask(client, {"query": query, "variables": variables})
    assert reply.status == 200
    assert "errors" not in reply.body, reply.body
    return reply.body["data"]


async def errors(client: Client, query: str, **variables: object) -> list[Json]:
    """Run a query that fails; return its errors."""
    reply = await ask(client, {"query": query, "variables": variables})
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json; charset=UTF-8")
    found = reply.body["errors"]
    assert isinstance(found, list)
    return found


@pytest.fixture
def current(client: Client) -> Client:
    return replace(client, response_format="1.8.0")


async def test_an_old_client_runs_a_function_and_reads_the_fields_of_its_time(client: Client) -> None:
    done = (await data(client, OLD))["functionsCreateExecution"]

    assert (done["statusCode"], done["stdout"], done["stderr"], done["duration"]) == (200, "printed", "warned", 0.125)
    assert json.loads(done["response"])["payload"] == ""
    assert (await client.execution(done["_id"])).status == 200


async def test_a_current_client_passes_variables(current: Client, invoker: FakeInvoker) -> None:
    done = (await data(current, CREATE, id="hello", body="ping", headers={"User-Agent": "me"}))[
        "functionsCreateExecution"
    ]

    assert (done["status"], done["responseStatusCode"], done["logs"]) == ("completed", 200, "printed")
    assert done["requestHeaders"] == [{"name": "user-agent", "value": "me"}]
    assert invoker.invocations[0].payload == "ping"


async def test_a_field_of_another_format_is_null(client: Client, current: Client) -> None:
    query = 'mutation { functionsCreateExecution(functionId: "hello") { response responseBody } }'

    assert (await data(client, query))["functionsCreateExecution"]["responseBody"] is None
    assert (await data(current, query))["functionsCreateExecution"]["response"] is None


async def test_a_format_older_than_graphql_is_answered_as_1_0(client: Client) -> None:
    oldest = replace(client, response_format="0.15.0")

    assert isinstance((await data(oldest, OLD))["functionsCreateExecution"]["duration"], float)


async def test_queries_read(client: Client) -> None:
    id_ = (await client.execute()).body["$id"]

    found = await data(
        client, LIST + f'query one {{ functionsGetExecution(functionId: "hello", executionId: "{id_}") {{ _id }} }}'[:0]
    )

    assert found["functionsListExecutions"] == {"total": 1, "executions": [{"_id": id_, "status": "completed"}]}


async def test_the_queries_of_a_list_are_its_own(client: Client) -> None:
    for _ in range(3):
        await client.execute()

    query = (
        "query q($few: [String!]) { "
        'a: functionsListExecutions(functionId: "hello", queries: $few) { total executions { _id } } '
        'b: functionsListExecutions(functionId: "hello", queries: ["limit(1)"]) { executions { _id } } }'
    )
    found = await data(client, query, few=['{"method":"limit","values":[2]}'])

    assert (found["a"]["total"], len(found["a"]["executions"]), len(found["b"]["executions"])) == (3, 2, 1)


async def test_the_query_may_stand_in_the_url(client: Client) -> None:
    reply = await client.call("GET", f"/v1/graphql?query={LIST.replace(' ', '%20')}&variables=%7B%7D&operationName=")

    assert reply.body == {"data": {"functionsListExecutions": {"total": 0, "executions": []}}}


async def test_a_mutation_does_not_come_by_get(client: Client, invoker: FakeInvoker) -> None:
    reply = await client.call("GET", f"/v1/graphql?query={OLD.replace(' ', '%20')}")

    assert "send mutations by POST" in reply.body["errors"][0]["message"]
    assert invoker.invocations == []


async def test_both_paths_take_both_kinds(client: Client) -> None:
    for path in ("/v1/graphql", "/v1/graphql/mutation"):
        for query in (LIST, OLD):
            assert "errors" not in (await ask(client, {"query": query}, path)).body


async def test_old_web_sdks_wrap_the_query(client: Client) -> None:
    reply = await ask(client, {"query": {"query": LIST}}, x_sdk_graphql="true")

    assert reply.body == {"data": {"functionsListExecutions": {"total": 0, "executions": []}}}


async def test_a_query_may_be_the_whole_body(client: Client) -> None:
    reply = await ask(client, LIST.encode(), Content_Type="application/graphql")

    assert reply.body["data"]["functionsListExecutions"]["total"] == 0


async def test_a_query_may_be_part_of_a_form(client: Client) -> None:
    def part(name: str, content: str) -> str:
        return f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{content}\r\n'

    asked = part("operations", json.dumps({"query": LIST})) + part("map", "{}")
    form = {"Content_Type": "multipart/form-data; boundary=x"}

    good = await ask(client, (asked + "--x--\r\n").encode(), **form)
    filed = await ask(client, (asked + part("0", "bytes") + "--x--\r\n").encode(), **form)
    broken = await ask(client, b"\xff\x00--x", **form)

    assert good.body["data"]["functionsListExecutions"]["total"] == 0
    assert filed.error == (400, "general_argument_invalid")
    assert broken.error == (400, "graphql_no_query")


async def test_several_queries_are_answered_in_order(client: Client) -> None:
    reply = await ask(client, [{"query": OLD}, {"query": LIST}, {"query": "{"}])

    assert [sorted(answer) for answer in reply.body] == [["data"], ["data"], ["errors"]]
    assert reply.body[1]["data"]["functionsListExecutions"]["total"] == 1


async def test_ten_queries_may_come_at_once(client: Client) -> None:
    assert (await ask(client, [{"query": LIST}] * 10)).status == 200
    assert (await ask(client, [{"query": LIST}] * 11)).error == (400, "graphql_too_many_queries")


@pytest.mark.parametrize("content", [{}, [], [{}], {"query": ""}, {"query": None}, {"query": {}}, None, 1, [1], "x"])
async def test_no_query_is_told(client: Client, content: object) -> None:
    assert (await ask(client, json.dumps(content).encode())).error == (400, "graphql_no_query")


@pytest.mark.parametrize(
    "content",
    [
        {"query": 1},
        {"query": LIST, "variables": 1},
        {"query": LIST, "variables": "{"},
        {"query": LIST, "operationName": 1},
    ],
)
async def test_what_is_no_query_is_told(client: Client, content: object) -> None:
    assert (await ask(client, content)).error == (400, "general_argument_invalid")


async def test_an_error_of_an_operation_has_appwrites_words(client: Client) -> None:
    (error,) = await errors(client, OLD.replace("hello", "nowhere"))

    assert error["message"] == "Function with the requested ID could not be found."
    assert error["extensions"] == {"code": 404, "type": "function_not_found"}
    assert error["path"] == ["functionsCreateExecution"]


async def test_the_other_operations_of_a_query_are_answered_all_the_same(client: Client) -> None:
    absent = 'a: functionsCreateExecution(functionId: "nowhere") { _id }'
    query = f'mutation {{ {absent} b: functionsCreateExecution(functionId: "hello") {{ status }} }}'

    reply = await ask(client, {"query": query})

    assert reply.body["data"] == {"a": None, "b": {"status": "completed"}}
    assert [error["path"] for error in reply.body["errors"]] == [["a"]]


async def test_an_argument_is_checked_as_rest_does(current: Client) -> None:
    (error,) = await errors(
        current, 'mutation { functionsCreateExecution(functionId: "hello", method: "SPLIT") { _id } }'
    )

    assert error["extensions"] == {"code": 400, "type": "general_argument_invalid"}
    assert error["message"].startswith("Invalid `method` param")


async def test_what_a_query_may_not_be_is_told(client: Client) -> None:
    (error,) = await errors(client, "{ nothing }")

    assert error["extensions"] == {"code": 400, "type": "general_argument_invalid"}
    assert "Cannot query field 'nothing'" in error["message"]


async def test_an_operation_that_breaks_tells_nothing_of_how(
    client: Client, invoker: FakeInvoker, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaks(_invocation: object) -> Any:
        raise RuntimeError("inner secret")

    invoker.answer = breaks

    (error,) = await errors(client, OLD)

    assert error["message"] == "Server Error"
    assert error["extensions"] == {"code": 500, "type": "general_server_error"}
    assert "request failed" in caplog.text


async def test_mutations_run_one_after_the_other(client: Client, invoker: FakeInvoker) -> None:
    running: list[int] = []
    most: list[int] = []

    async def answer(_invocation: object) -> Any:
        running.append(1)
        most.append(len(running))
        running.pop()
        return completed("done")

    invoker.answer = answer
    fields = " ".join(f'm{n}: functionsCreateExecution(functionId: "hello") {{ status }}' for n in range(5))

    await data(client, f"mutation {{ {fields} }}")

    assert most == [1] * 5


async def test_a_guest_runs_what_everybody_may_run_and_sees_no_logs(
    shim: ShimServer, project: ProjectKit, cluster: KubeCluster
) -> None:
    await project.ready("open", execute=["any"])
    await shim.sees(project.namespace, "open")
    guest = Client(shim, project.namespace)

    (refused,) = await errors(guest, OLD)
    done = (await data(guest, OLD.replace("hello", "open")))["functionsCreateExecution"]
    (hidden,) = await errors(guest, LIST)

    assert refused["extensions"] == {"code": 401, "type": "user_unauthorized"}
    assert (done["statusCode"], done["stdout"]) == (200, "")
    assert hidden["extensions"] == {"code": 401, "type": "general_unauthorized_scope"}


async def test_a_user_runs_and_reads_executions_of_its_own(
    client: Client, shim: ShimServer, project: ProjectKit
) -> None:
    await project.ready("ours", execute=["user:ada"])
    await shim.sees(project.namespace, "ours")
    own = shim.app[CATALOG].project(project.namespace)
    key = user_token.signing_key(shim.app[MASTER_KEY], own)
    token = user_token.sign(UserClaims(user_id="ada", verified=True), project=own, key=key, now=datetime.now(UTC))
    ada = Client(shim, project.namespace, token=token)
    listed = LIST.replace("hello", "ours")
    await data(client, OLD.replace("hello", "ours"))

    done = (await data(ada, OLD.replace("hello", "ours")))["functionsCreateExecution"]

    assert (done["statusCode"], done["stdout"]) == (200, "")
    assert (await data(ada, listed))["functionsListExecutions"]["executions"] == [
        {"_id": done["_id"], "status": "completed"}
    ]
    assert (await data(client, listed))["functionsListExecutions"]["total"] == 2


async def test_a_key_does_by_graphql_what_its_scopes_allow(shim: ShimServer, project: ProjectKit) -> None:
    reader = Client(shim, project.namespace, await project.key("executions.read"))

    assert (await data(reader, LIST))["functionsListExecutions"]["total"] == 0
    (error,) = await errors(reader, OLD)

    assert error["extensions"] == {"code": 401, "type": "general_unauthorized_scope"}
    assert "missing scope (executions.write)" in error["message"]


async def test_a_project_must_be_named(shim: ShimServer) -> None:
    assert (await shim.call("POST", "/v1/graphql", {"query": LIST})).error == (400, "project_unknown")


async def test_introspection_is_off(client: Client) -> None:
    found = await errors(client, get_introspection_query())

    assert any("introspection" in error["message"] for error in found)


@pytest.fixture
async def developers(
    cluster: KubeCluster, tmp_path: Path, system: str, invoker: FakeInvoker, project: ProjectKit
) -> AsyncIterator[Client]:
    """A client of a shim that lets its schema be asked for."""
    config = shim_config(tmp_path, system, GRAPHQL_INTROSPECTION="1")
    async with running_shim(cluster, config, invoker) as server:
        yield Client(server, project.namespace)


async def test_introspection_can_be_switched_on(developers: Client) -> None:
    types = (await data(developers, get_introspection_query()))["__schema"]["types"]

    assert {"Execution", "ExecutionList", "Json"} <= {type_["name"] for type_ in types}


async def test_an_answer_has_a_greatest_size(client: Client, invoker: FakeInvoker) -> None:
    async def large(_invocation: object) -> Any:
        return completed("x" * 1_000_000)

    invoker.answer = large
    fields = " ".join(f'm{n}: functionsCreateExecution(functionId: "hello") {{ status }}' for n in range(40))

    found = await errors(client, f"mutation {{ {fields} }}")

    assert {error["extensions"]["type"] for error in found} == {"general_payload_too_large"}


async def test_functions_are_made_changed_and_deleted(shim: ShimServer, project: ProjectKit) -> None:
    client = Client(shim, project.namespace, await project.key("functions.read", "functions.write"), "1.8.0")
    create = (
        "mutation make($runtime: String!) { "
        'functionsCreate(functionId: "made", name: "Made", runtime: $runtime, execute: ["any"], timeout: 5) '
        "{ _id name execute timeout vars { key } } "
        'functionsCreateVariable(functionId: "made", key: "A", value: "x", secret: false) { key value } }'
    )

    made = await data(client, create, runtime=project.runtime)
    listed = await data(client, '{ functionsList(search: "made") { total functions { _id vars { key value } } } }')
    gone = await data(client, 'mutation { functionsDelete(functionId: "made") { status } }')

    assert made["functionsCreate"] == {"_id": "made", "name": "Made", "execute": ["any"], "timeout": 5, "vars": []}
    assert made["functionsCreateVariable"] == {"key": "A", "value": "x"}
    assert listed["functionsList"]["functions"] == [{"_id": "made", "vars": [{"key": "A", "value": "x"}]}]
    assert gone == {"functionsDelete": {"status": "OK"}}


async def test_what_was_used_is_told_in_either_format(client: Client, shim: ShimServer, project: ProjectKit) -> None:
    reader = Client(shim, project.namespace, await project.key("functions.read"), "1.8.0")
    await client.execute()
    query = '{ functionsGetUsage(functionId: "hello", range: "24h") { executionsTotal executions { value } } }'

    assert (await data(reader, query))["functionsGetUsage"]["executionsTotal"] == 1
    assert (await data(replace(reader, response_format="1.0.0"), query))["functionsGetUsage"]["executionsTotal"] is None


@pytest.fixture
async def strict(
    cluster: KubeCluster, tmp_path: Path, system: str, invoker: FakeInvoker, project: ProjectKit
) -> AsyncIterator[ShimServer]:
    """A shim that lets each client ask three times a minute."""
    async with running_shim(cluster, shim_config(tmp_path, system, RATE_LIMIT="3"), invoker) as server:
        yield server


async def test_a_guest_is_limited_and_a_key_is_not(strict: ShimServer, project: ProjectKit) -> None:
    guest, holder = Client(strict, project.namespace), Client(strict, project.namespace, await project.key("x"))

    replies = [await ask(guest, {"query": "{ __typename }"}) for _ in range(8)]  # at most two windows

    assert replies[0].status == 200
    assert {reply.error for reply in replies if reply.status != 200} == {(429, "general_rate_limit_exceeded")}
    assert {(await ask(holder, {"query": "{ __typename }"})).status for _ in range(8)} == {200}


async def test_executions_of_one_query_count_each(strict: ShimServer, project: ProjectKit) -> None:
    await project.ready("open", execute=["any"])
    await strict.sees(project.namespace, "open")
    fields = " ".join(f'm{n}: functionsCreateExecution(functionId: "open") {{ status }}' for n in range(8))

    found = await errors(Client(strict, project.namespace), f"mutation {{ {fields} }}")

    assert "m0" not in {error["path"][0] for error in found}
    assert {error["extensions"]["type"] for error in found} == {"general_rate_limit_exceeded"}
