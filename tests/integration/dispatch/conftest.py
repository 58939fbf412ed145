"""A project with one function, a node that plays its pods, and the dispatcher under test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from appfn.kube.client import KubeCluster
from support.cluster import SERVICE_ACCOUNT
from support.dispatching import Project, a_runtime
from support.fake_node import FakeNode


@pytest.fixture
async def project(cluster: KubeCluster, namespace: str) -> AsyncIterator[Project]:
    """A project without a dispatcher yet."""
    await cluster.create(SERVICE_ACCOUNT, {"metadata": {"name": "appfn-runtime", "namespace": namespace}})
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(FakeNode(cluster).running(namespace))
        made = Project(namespace=namespace, cluster=cluster, node=node, runtime=a_runtime())
        await made.deploy("greet-1")
        yield made
        for task in made.tasks:
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)


@pytest.fixture
async def app(project: Project) -> AsyncIterator[Project]:
    """A project with its dispatcher."""
    async with project.dispatching():
        yield project
