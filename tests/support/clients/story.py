"""The story of a function as every client can tell it, from its making to its end."""

import gzip
import hashlib
import json
from typing import Any

from support.clients.drivers import CliDriver, File, Query
from support.clients.released import Kind
from support.clients.table import Steps, World
from support.polling import wait_for

RUNTIME = "python-3.13"
GREETING = "bonjour"
PAYLOAD = "of a story"
BUILD_SECONDS = 150.0
CALL_SECONDS = 60.0
_PAUSE = 0.5

steps = Steps()


@steps.add("client.ping")
def ping(world: World) -> None:
    world.client.call("client.ping")


@steps.add("functions.listRuntimes")
def list_runtimes(world: World) -> None:
    found = world.call("functions.listRuntimes")
    assert RUNTIME in {runtime["$id"] for runtime in found["runtimes"]}, found


@steps.add("functions.listSpecifications")
def list_specifications(world: World) -> None:
    assert world.call("functions.listSpecifications")["total"] >= 1


@steps.add("functions.create")
def create(world: World) -> None:
    made = world.call(
        "functions.create",
        name="Story",
        runtime=RUNTIME,
        execute=["any"],
        events=[],
        schedule="",
        timeout=45,
        enabled=True,
        logging=True,
        entrypoint="main.py",
    )
    assert made["$id"] == world.function, made
    assert made["execute"] == ["any"], made
    assert made["timeout"] == 45, made


@steps.add("functions.get")
def get(world: World) -> None:
    found = world.call("functions.get")
    assert (found["name"], found["runtime"], found["enabled"]) == ("Story", RUNTIME, True), found


@steps.add("functions.update")
def update(world: World) -> None:
    changed = world.call(
        "functions.update", name="A story", runtime=RUNTIME, execute=["any"], timeout=60, entrypoint="main.py"
    )
    assert (changed["name"], changed["timeout"]) == ("A story", 60), changed
    assert world.call("functions.get")["name"] == "A story"


@steps.add("functions.list")
def list_functions(world: World) -> None:
    queries = [Query("equal", ("runtime", [RUNTIME])), Query("limit", (100,))]
    found = world.call("functions.list", queries=queries)
    assert world.function in {function["$id"] for function in found["functions"]}, found
    none = world.call("functions.list", queries=[Query("equal", ("name", ["No such story"]))])
    assert none["functions"] == [], none


@steps.add("functions.createVariable")
def create_variable(world: World) -> None:
    made = world.call("functions.createVariable", variableId="greeting", key="GREETING", value="hello", secret=False)
    assert (made["key"], made["value"]) == ("GREETING", "hello"), made
    world.seen["variable"] = made["$id"]


@steps.add("functions.getVariable")
def get_variable(world: World) -> None:
    found = world.call("functions.getVariable", variableId=world.seen["variable"])
    assert (found["key"], found["value"]) == ("GREETING", "hello"), found


@steps.add("functions.updateVariable")
def update_variable(world: World) -> None:
    changed = world.call("functions.updateVariable", variableId=world.seen["variable"], key="GREETING", value=GREETING)
    assert changed["value"] == GREETING, changed


@steps.add("functions.deleteVariable")
def delete_variable(world: World) -> None:
    doomed = world.call("functions.createVariable", variableId="doomed", key="DOOMED", value="x", secret=True)
    if not world.release.old:
        assert doomed["value"] == "", "a secret was read back"
    world.call("functions.deleteVariable", variableId=doomed["$id"])
    assert world.refusal("functions.getVariable", variableId=doomed["$id"]) == "variable_not_found"


@steps.add("functions.listVariables")
def list_variables(world: World) -> None:
    found = world.call("functions.listVariables")
    assert [variable["key"] for variable in found["variables"]] == ["GREETING"], found


@steps.add("functions.createDeployment")
def create_deployment(world: World) -> None:
    made = world.call("functions.createDeployment", entrypoint="main.py", code=File(world.code), activate=True)
    assert made["resourceId"] == world.function, made
    world.seen["deployment"] = made["$id"]


@steps.add("functions.getDeployment")
def get_deployment(world: World) -> None:
    ready = built(world, world.seen["deployment"])
    assert world.field(ready, old="size", new="sourceSize") > 12 << 20, ready


def built(world: World, deployment: str) -> Any:
    """Return a deployment once it is ready."""

    def probe() -> Any:
        found = world.call("functions.getDeployment", deploymentId=deployment)
        if found["status"] == "failed":
            raise ValueError(found)
        return found if found["status"] == "ready" else None

    return wait_for(probe, within=BUILD_SECONDS, pause=_PAUSE)


@steps.add("functions.listDeployments")
def list_deployments(world: World) -> None:
    found = world.call("functions.listDeployments", queries=[Query("limit", (1,))])
    assert [deployment["$id"] for deployment in found["deployments"]] == [world.seen["deployment"]], found


@steps.add(
    "functions.getDeploymentDownload",
    cli_12_0_1="puts its endpoint before the address twice, which leads nowhere (`…/v1http://…/v1/functions/…`)",
)
def get_deployment_download(world: World) -> None:
    brought = world.call(
        "functions.getDeploymentDownload",
        deploymentId=world.seen["deployment"],
        type="source",
        destination="downloaded.tar.gz",
    )
    if isinstance(world.client, CliDriver):
        brought = (world.client.folder / "downloaded.tar.gz").read_bytes()
        assert len(gzip.decompress(brought)) > 12 << 20
    else:
        assert hashlib.sha256(brought).digest() == hashlib.sha256(world.code.read_bytes()).digest()


@steps.add("functions.createExecution")
def create_execution(world: World) -> None:
    done = world.call(
        "functions.createExecution",
        data=PAYLOAD,
        body=PAYLOAD,
        path="/told?by=story",
        xpath="/told?by=story",
        method="POST",
        headers={"x-story": "1"},
        **{"async": False},
    )
    assert done["status"] == "completed", done
    assert world.field(done, old="statusCode", new="responseStatusCode") == 200, done
    if not world.release.old:
        assert (done["requestMethod"], done["requestPath"]) == ("POST", "/told?by=story"), done
    said = json.loads(world.field(done, old="response", new="responseBody"))
    assert said["payload"] == PAYLOAD, said
    assert said["greeting"] == GREETING, said
    waiting = world.call("functions.createExecution", data=PAYLOAD, body=PAYLOAD, **{"async": True})
    assert waiting["status"] in {"waiting", "processing"}, waiting
    world.seen["execution"] = waiting["$id"]


@steps.add("functions.getExecution")
def get_execution(world: World) -> None:
    def probe() -> Any:
        found = world.call("functions.getExecution", executionId=world.seen["execution"])
        return found if found["status"] in {"completed", "failed"} else None

    done = wait_for(probe, within=CALL_SECONDS, pause=_PAUSE)
    assert done["status"] == "completed", done
    logs = world.field(done, old="stdout", new="logs")
    assert logs == "" if world.release.kind is Kind.WEB else "told" in logs, done  # logs are not for users


@steps.add("functions.listExecutions")
def list_executions(world: World) -> None:
    completed = Query("equal", ("status", ["completed"]))
    first = world.call("functions.listExecutions", queries=[completed, Query("limit", (1,))])
    assert first["total"] >= 2, first
    (one,) = first["executions"]
    queries = [completed, Query("cursorAfter", (one["$id"],))]
    rest = world.call("functions.listExecutions", queries=queries)
    assert one["$id"] not in {execution["$id"] for execution in rest["executions"]}, rest
    assert rest["executions"], rest


@steps.add("functions.deleteExecution")
def delete_execution(world: World) -> None:
    execution = world.seen["execution"]
    world.call("functions.deleteExecution", executionId=execution)
    assert world.refusal("functions.getExecution", executionId=execution) == "execution_not_found"


@steps.add("functions.updateFunctionDeployment", "functions.updateDeployment")
def update_function_deployment(world: World) -> None:
    method = "updateDeployment" if world.release.old else "updateFunctionDeployment"
    changed = world.call(f"functions.{method}", deploymentId=world.seen["deployment"])
    assert world.field(changed, old="deployment", new="deploymentId") == world.seen["deployment"], changed


@steps.add("functions.createDuplicateDeployment")
def create_duplicate_deployment(world: World) -> None:
    made = world.call("functions.createDuplicateDeployment", deploymentId=world.seen["deployment"])
    assert made["$id"] != world.seen["deployment"], made


@steps.add("functions.updateDeploymentStatus")
def update_deployment_status(world: World) -> None:
    made = world.call(
        "functions.createDeployment",
        entrypoint="main.py",
        commands="sleep 300",
        code=File(world.spare),
        activate=False,
    )
    canceled = world.call("functions.updateDeploymentStatus", deploymentId=made["$id"])
    assert canceled["status"] == "canceled", canceled


@steps.add("functions.createBuild")
def create_build(world: World) -> None:
    """Build again what failed, which is what this call of old clients is for."""
    made = world.call("functions.createDeployment", entrypoint="none.py", code=File(world.spare), activate=False)

    def probe() -> Any:
        found = world.call("functions.getDeployment", deploymentId=made["$id"])
        return found if found["status"] == "failed" else None

    failed = wait_for(probe, within=BUILD_SECONDS, pause=_PAUSE)
    world.call("functions.createBuild", deploymentId=made["$id"], buildId=failed["buildId"])


@steps.add("functions.deleteDeployment")
def delete_deployment(world: World) -> None:
    made = world.call("functions.createDeployment", entrypoint="main.py", code=File(world.spare), activate=False)
    world.call("functions.deleteDeployment", deploymentId=made["$id"])
    assert world.refusal("functions.getDeployment", deploymentId=made["$id"]) == "deployment_not_found"


@steps.add("graphql.query")
def graphql_query(world: World) -> None:
    fields = f'functionId: "{world.function}"'
    wanted = (
        f"query {{ functionsListExecutions({fields}) {{ total }} }}"
        if world.release.kind is Kind.WEB
        else f"query {{ functionsGet({fields}) {{ _id name }} }}"
    )
    found = world.client.call("graphql.query", query={"query": wanted})
    assert "errors" not in found, found
    (answer,) = found["data"].values()
    assert answer.get("name") == "A story" or answer["total"] >= 1, found


@steps.add("graphql.mutation")
def graphql_mutation(world: World) -> None:
    wanted = f'mutation {{ functionsCreateExecution(functionId: "{world.function}") {{ _id status }} }}'
    made = world.client.call("graphql.mutation", query={"query": wanted})
    assert made["data"]["functionsCreateExecution"]["status"] == "completed", made
