"""What nobody refers to any more goes; what anybody refers to stays."""

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appfn.api.deployment import Artifact
from appfn.api.kinds import DEPLOYMENT, FUNCTION, Key
from appfn.config import Config
from appfn.kube.client import KubeCluster
from appfn.shim.leftovers import UNUSED, Leftovers
from appfn.shim.services import ARTIFACTS, STORE
from appfn.store.artifacts import ArtifactStore, BuildOutput
from support.fake_invoker import FakeInvoker
from support.polling import eventually
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import ShimServer, running_shim

BUILD_KEY = "ab" * 32
LATER = datetime.now(UTC) + UNUSED + timedelta(hours=2)
"""Of the collection of the tests: these may run long after it."""


async def put(artifacts: ArtifactStore, namespace: str, content: str) -> Artifact:
    async def stream() -> AsyncIterator[bytes]:
        yield content.encode()

    return await artifacts.put(namespace, stream(), limit=100)


async def left(artifacts: ArtifactStore, namespace: str) -> set[str]:
    return {item.digest async for item in artifacts.list_artifacts(namespace)}


def sweeper(shim: ShimServer, cluster: KubeCluster, *, now: datetime = LATER) -> Leftovers:
    return Leftovers(cluster=cluster, store=shim.app[STORE], artifacts=shim.app[ARTIFACTS], now=lambda: now)


async def test_a_function_deleted_while_the_shim_was_down_is_forgotten(
    cluster: KubeCluster, config: Config, project: ProjectKit
) -> None:
    uids = {"hello": "", "other": ""}
    await project.ready("other")
    for name in uids:
        body = await cluster.get(FUNCTION, Key(project.namespace, name))
        assert body is not None
        uids[name] = body["metadata"]["uid"]
    async with running_shim(cluster, config, FakeInvoker()) as shim:
        client = Client(shim, project.namespace, await project.key("executions.write"))
        for name in uids:
            assert (await client.execute(name)).status == 201
    await cluster.delete(FUNCTION, Key(project.namespace, "hello"))

    async with running_shim(cluster, config, FakeInvoker()) as shim:
        store = shim.app[STORE]

        async def forgotten() -> bool:
            return await store.functions() == {uids["other"]}

        await eventually(forgotten)
        assert (await store.counts(uids["other"])).total == 1


async def test_artifacts_that_nothing_refers_to_are_deleted_when_they_are_old(
    cluster: KubeCluster, shim: ShimServer, project: ProjectKit
) -> None:
    artifacts, namespace = shim.app[ARTIFACTS], project.namespace
    names = ("source", "built", "log", "remembered", "remembered log", "unused")
    made = {name: await put(artifacts, namespace, name) for name in names}
    await project.deployment("from-artifact", "hello", source={"artifact": {"digest": made["source"].digest}})
    body = await cluster.get(DEPLOYMENT, Key(namespace, "from-artifact"))
    assert body is not None
    build = {"architecture": "amd64", "phase": "ready", "artifact": made["built"].to_json()}
    body["status"] = {"builds": [build | {"log": made["log"].to_json()}]}
    del body["metadata"]["managedFields"]
    await cluster.apply_status(DEPLOYMENT, body, manager="tests")
    remembered = BuildOutput(artifact=made["remembered"], log=made["remembered log"])
    await artifacts.put_build(namespace, BUILD_KEY, remembered)

    await sweeper(shim, cluster, now=LATER - timedelta(hours=4)).sweep_artifacts()
    young = await left(artifacts, namespace)
    await sweeper(shim, cluster).sweep_artifacts()

    assert young == {item.digest for item in made.values()}
    assert await left(artifacts, namespace) == young - {made["unused"].digest}


async def test_of_a_namespace_that_is_gone_nothing_stays(cluster: KubeCluster, shim: ShimServer) -> None:
    artifacts = shim.app[ARTIFACTS]
    built = await put(artifacts, "gone", "built")
    await artifacts.put_build("gone", BUILD_KEY, BuildOutput(artifact=built))

    for _ in range(2):
        await sweeper(shim, cluster).sweep_artifacts()

    assert await artifacts.get_build("gone", BUILD_KEY) is None
    assert await left(artifacts, "gone") == set()


async def test_what_is_stored_again_during_a_sweep_stays(tmp_path: Path) -> None:
    async with ArtifactStore.open(f"file://{tmp_path}/store", spool=tmp_path / "spool") as artifacts:
        artifact = await put(artifacts, "shop", "x")
        await artifacts.delete("shop", artifact.digest, stored_before=datetime.now(UTC) - timedelta(hours=1))
        assert artifact.digest == f"sha256:{hashlib.sha256(b'x').hexdigest()}"
        assert await artifacts.exists("shop", artifact.digest)
        await artifacts.delete("shop", artifact.digest, stored_before=datetime.now(UTC) + timedelta(hours=1))
        assert not await artifacts.exists("shop", artifact.digest)
