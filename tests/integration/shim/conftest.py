"""A shim with a real API server, a real database and real files; only the pods are not there."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appfn.api.kinds import NAMESPACE, RUNTIME, Key
from appfn.config import Config
from appfn.kube.client import KubeCluster
from support.fake_invoker import FakeInvoker
from support.project import ProjectKit, apply_runtime
from support.shim_client import Client
from support.shim_server import ShimServer, running_shim, shim_config


@pytest.fixture
async def system(cluster: KubeCluster) -> AsyncIterator[str]:
    """A system namespace."""
    name = f"system-{secrets.token_hex(4)}"
    await cluster.create(NAMESPACE, {"metadata": {"name": name}})
    yield name
    await cluster.delete(NAMESPACE, Key("", name))


@pytest.fixture
async def runtime(cluster: KubeCluster) -> AsyncIterator[str]:
    """An enabled Runtime."""
    name = f"python-{secrets.token_hex(4)}"
    await apply_runtime(cluster, name)
    yield name
    await cluster.delete(RUNTIME, Key("", name))


@pytest.fixture
async def project(cluster: KubeCluster, namespace: str, runtime: str) -> ProjectKit:
    """A project with one function, `hello`, that can be called."""
    kit = ProjectKit(cluster, namespace, runtime)
    await kit.ready("hello")
    return kit


@pytest.fixture
def config(tmp_path: Path, system: str) -> Config:
    return shim_config(tmp_path, system)


@pytest.fixture
def invoker() -> FakeInvoker:
    return FakeInvoker()


@pytest.fixture
async def shim(
    cluster: KubeCluster, config: Config, invoker: FakeInvoker, project: ProjectKit
) -> AsyncIterator[ShimServer]:
    """A running shim that knows the project."""
    async with running_shim(cluster, config, invoker) as server:
        yield server


@pytest.fixture
async def client(shim: ShimServer, project: ProjectKit) -> Client:
    """A holder of a key with both scopes."""
    return Client(shim, project.namespace, await project.key("executions.read", "executions.write"))


@pytest.fixture
async def admin(shim: ShimServer, project: ProjectKit) -> Client:
    """A holder of a key with every scope of functions, who speaks the current format."""
    key = await project.key("functions.read", "functions.write", "executions.read", "executions.write")
    return Client(shim, project.namespace, key, response_format="1.9.5")
