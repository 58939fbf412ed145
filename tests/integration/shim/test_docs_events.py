"""Every command of docs/events.md works as pasted."""

import asyncio
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from appfn.api.kinds import FUNCTION as FUNCTION_KIND
from appfn.api.kinds import RUNTIME, Key
from appfn.core import events
from appfn.kube.client import KubeCluster
from localcluster.controlplane import ControlPlane
from support.project import ProjectKit, apply_runtime
from support.shim_client import Client
from support.shim_server import ShimServer

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/events.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
FUNCTION = "on-events"


async def paste(script: str, environment: Mapping[str, str]) -> str:
    """Run what a reader pastes into a shell; return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-eu", "-o", "pipefail", "-c", script),
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, out.decode() + err.decode()
    return out.decode()


@pytest.fixture
async def environment(
    cluster: KubeCluster, control_plane: ControlPlane, shim: ShimServer, project: ProjectKit
) -> dict[str, str]:
    """What the commands are said to need."""
    await apply_runtime(cluster, "node-20.0")
    return {
        "KUBECONFIG": str(control_plane.kubeconfig),
        "APPFN": shim.base,
        "PROJECT": project.namespace,
        "KEY": await project.key("events.write", "executions.read"),
    }


async def test_the_commands_execute_the_function_by_each_event_they_bring(
    environment: dict[str, str], shim: ShimServer, project: ProjectKit, cluster: KubeCluster
) -> None:
    subscribe, *others = BLOCKS
    await paste(subscribe, environment)
    await project.deployment(f"{FUNCTION}-v1", FUNCTION)
    await activate(shim, project)

    said = [await paste(block, environment) for block in others]

    receipts = [event for text in said if text.startswith("{") for event in json.loads(text)["events"]]
    executions = {event["event"]: [item["executionId"] for item in event["executions"]] for event in receipts}
    assert {name: len(ids) for name, ids in executions.items()} == {
        "users.u1.create": 1,
        "cloudevents.com.example.order.created": 1,
        "users.u2.create": 1,
        "users.u2.delete": 0,
        "databases.shop.collections.orders.documents.o1.create": 1,
    }
    client = Client(shim, project.namespace, environment["KEY"], response_format="1.8.0")
    for name, ids in executions.items():
        for id_ in ids:
            done = await client.finished(id_, FUNCTION)
            variables = json.loads(done.body["responseBody"])["variables"]
            assert variables["APPWRITE_FUNCTION_EVENT"] == name
    await cluster.delete(RUNTIME, Key("", "node-20.0"))


async def activate(shim: ShimServer, project: ProjectKit) -> None:
    """Do what the operator does; return when the shim can call the function."""
    status = {
        "apiVersion": "appfn.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": FUNCTION, "namespace": project.namespace},
        "status": {"activeDeployment": f"{FUNCTION}-v1"},
    }
    await project.cluster.apply_status(FUNCTION_KIND, status, manager="tests")
    await shim.sees(project.namespace, FUNCTION)


def test_a_function_may_subscribe_to_all_that_the_table_names() -> None:
    table = TEXT.partition("| name | is told of |")[2].partition("\n\n")[0]

    found = re.findall(r"^\| `(.+?)` \|", table, flags=re.MULTILINE)

    assert len(found) == 5
    assert [name for name in found if not events.is_subscription(name)] == []
