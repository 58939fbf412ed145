"""What the CLI has beside the SDKs: usage, and the commands that deploy what `appwrite.json` describes."""

import json
from typing import Any

from support.clients.drivers import CliDriver
from support.clients.story import RUNTIME, built
from support.clients.table import Steps, World

steps = Steps()


@steps.add("functions.listUsage")
def list_usage(world: World) -> None:
    found = world.call("functions.listUsage", range="24h")
    assert found["range"] == "24h", found
    assert found["executionsTotal"] >= 1, found


@steps.add("functions.getUsage")
def get_usage(world: World) -> None:
    """Of a function in new clients, of the project in old ones."""
    found = world.call("functions.getUsage", range="24h")
    assert found["range"] == "24h", found
    assert found["executionsTotal"], found


@steps.add("functions.getFunctionUsage")
def get_function_usage(world: World) -> None:
    found = world.call("functions.getFunctionUsage", range="24h")
    assert found["range"] == "24h", found
    assert sum(metric["value"] for metric in found["executionsTotal"]) >= 1, found


@steps.add("deploy.function")
def deploy_function(world: World) -> None:
    client = described(world, "appwrite.json")
    client.run("deploy", "function", "--functionId", world.function)
    newest(world)


@steps.add("push.function")
def push_function(world: World) -> None:
    client = described(world, "appwrite.config.json")
    (client.folder / "pushed" / ".env").write_text("GREETING=pushed\n")
    said = client.run("push", "function", "--function-id", world.function, "--with-variables", "--force")
    assert "Successfully pushed 1 functions" in said, said
    newest(world)


def described(world: World, name: str) -> CliDriver:
    """Write what a user has: a folder with code, and the file that tells of it."""
    client = world.client
    assert isinstance(client, CliDriver)
    (client.folder / "pushed").mkdir()
    (client.folder / "pushed" / "main.py").write_text("def main(req, res):\n    return res.send('pushed')\n")
    file = client.folder / name
    described_: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    described_["functions"] = [
        {
            "$id": world.function,
            "name": "A story",
            "runtime": RUNTIME,
            "path": "pushed",
            "entrypoint": "main.py",
            "execute": ["any"],
            "events": [],
            "schedule": "",
            "timeout": 60,
        }
    ]
    file.write_text(json.dumps(described_))
    return client


def newest(world: World) -> None:
    """See that the function answers as what was deployed last."""
    found = world.call("functions.listDeployments")["deployments"]
    last = max(found, key=lambda deployment: str(deployment["$createdAt"]))
    built(world, last["$id"])
    done = world.call("functions.createExecution", **{"async": False})
    assert world.field(done, old="response", new="responseBody") == "pushed", done
