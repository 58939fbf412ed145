"""Variables from Secrets and ConfigMaps of the project."""

import json
from collections.abc import Mapping

import pytest

from appfn.api.kinds import SECRET, Key
from appfn.kube.client import KubeCluster
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import ShimServer


def from_secret(name: str, key: str, *, optional: bool = False, of: str = "credentials") -> dict[str, object]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": of, "key": key, "optional": optional}}}


def from_config_map(name: str, key: str) -> dict[str, object]:
    return {"name": name, "valueFrom": {"configMapKeyRef": {"name": "settings", "key": key}}}


async def deploy(project: ProjectKit, shim: ShimServer, *variables: Mapping[str, object]) -> None:
    await project.ready("configured", variables=list(variables))
    await shim.sees(project.namespace, "configured")


async def seen(client: Client) -> dict[str, str]:
    reply = await client.execute("configured")
    assert reply.body["status"] == "completed", reply
    return dict(json.loads(reply.body["response"])["variables"])


async def test_values_come_from_the_spec_from_secrets_and_from_config_maps(
    client: Client, project: ProjectKit, shim: ShimServer
) -> None:
    await project.secret("credentials", {"token": "s3cr3t ✓".encode()})
    await project.config_map("settings", {"mode": "fast"})
    plain = {"name": "PLAIN", "value": "v"}
    forged = {"name": "APPWRITE_FUNCTION_ID", "value": "forged"}
    await deploy(project, shim, plain, from_secret("TOKEN", "token"), from_config_map("MODE", "mode"), forged)

    variables = await seen(client)

    assert (variables["PLAIN"], variables["TOKEN"], variables["MODE"]) == ("v", "s3cr3t ✓", "fast")
    assert variables["APPWRITE_FUNCTION_ID"] == "configured"


async def test_an_optional_value_that_is_missing_is_left_out(
    client: Client, project: ProjectKit, shim: ShimServer
) -> None:
    await project.secret("credentials", {"token": b"x"})
    await deploy(
        project,
        shim,
        from_secret("A", "nope", optional=True),
        from_secret("B", "token", optional=True, of="none"),
        from_secret("C", "token", optional=True),
    )

    variables = await seen(client)

    assert {name: value for name, value in variables.items() if len(name) == 1} == {"C": "x"}


async def test_a_changed_secret_is_seen(client: Client, project: ProjectKit, shim: ShimServer) -> None:
    await project.secret("credentials", {"token": b"old"})
    await deploy(project, shim, from_secret("TOKEN", "token"))
    assert (await seen(client))["TOKEN"] == "old"

    await project.secret("credentials", {"token": b"new"})

    assert (await seen(client))["TOKEN"] == "new"


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_missing_secret_fails_the_execution_by_the_path_in_the_spec(
    client: Client, project: ProjectKit, shim: ShimServer, *, asynchronous: bool
) -> None:
    await deploy(project, shim, {"name": "A", "value": "b"}, from_secret("TOKEN", "token"))

    made = await client.execute("configured", body={"async": asynchronous})
    done = await client.finished(made.body["$id"], "configured")

    assert (done.body["status"], done.body["statusCode"]) == ("failed", 500)
    assert done.body["stderr"] == (
        "spec.variables[1].valueFrom.secretKeyRef: Secret 'credentials' does not exist; "
        "create it, or set optional: true"
    )


async def test_a_missing_key_and_a_value_that_is_no_text_are_told_without_the_value(
    client: Client, project: ProjectKit, shim: ShimServer, cluster: KubeCluster
) -> None:
    await project.secret("credentials", {"binary": b"\xff\xfe"})
    await deploy(project, shim, from_secret("TOKEN", "token"))
    await project.ready("binary", variables=[from_secret("BINARY", "binary")])
    await shim.sees(project.namespace, "binary")

    missing = await client.execute("configured")
    binary = await client.execute("binary")

    assert "Secret 'credentials' has no key 'token'" in missing.body["stderr"]
    assert "spec.variables[0].valueFrom.secretKeyRef" in binary.body["stderr"]
    assert "not UTF-8 text" in binary.body["stderr"]
    assert await cluster.delete(SECRET, Key(project.namespace, "credentials"))
