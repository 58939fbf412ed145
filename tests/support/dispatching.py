"""A project with one function on a real API server, and the dispatcher that runs it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Any

from appfn import names
from appfn.api.function import Function
from appfn.api.kinds import DEPLOYMENT, POD, POOL
from appfn.api.runtime import Architecture, Runtime
from appfn.config import ShimConfig
from appfn.core.manifests.pool import PoolSettings, pool_deployment
from appfn.core.records import Invocation, Outcome
from appfn.dispatch.dispatcher import Dispatcher, Place, PodCluster, Target
from appfn.dispatch.podstatus import is_ready
from appfn.kube.client import KubeCluster
from support.fake_node import FakeNode, FakePod
from support.polling import eventually

TARBALL = b"code" * 100_000
DIGEST = "sha256:" + hashlib.sha256(TARBALL).hexdigest()
REPLICA = "appfn-shim-0"
AHEAD: Mapping[str, str] = MappingProxyType({"NAME": "ahead"})
_numbers = count(1)


class Artifacts:
    """An artifact store with one artifact."""

    async def open(self, namespace: str, digest: str) -> tuple[int, AsyncIterator[bytes]]:
        if digest != DIGEST:
            raise FileNotFoundError(digest)
        return len(TARBALL), self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        for start in range(0, len(TARBALL), 65_536):
            yield TARBALL[start : start + 65_536]


@dataclass(slots=True, kw_only=True)
class Project:
    """A namespace with a function; `dispatcher` is set while one runs."""

    namespace: str
    cluster: KubeCluster
    node: FakeNode
    deployments: dict[str, str] = field(default_factory=dict)
    """Name to uid."""
    runtime: Runtime
    scaling: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    generation: int = 1
    digest: str = DIGEST
    variables: dict[str, str] = field(default_factory=lambda: {"NAME": "Ada"})
    tasks: list[asyncio.Task[Outcome]] = field(default_factory=list)
    dispatcher: Dispatcher = field(init=False)

    def function(self) -> Function:
        spec = {"runtime": "node-20.0", "scaling": self.scaling, **self.spec}
        metadata = {
            "name": "greet",
            "namespace": self.namespace,
            "uid": self.uid,
            "generation": self.generation,
        }
        return Function.parse({"metadata": metadata, "spec": spec})

    async def deploy(self, name: str) -> None:
        source = {"inline": {"files": {"index.js": "module.exports = 1"}}}
        spec = {"functionRef": {"name": "greet"}, "source": source}
        manifest = {
            "apiVersion": DEPLOYMENT.api_version,
            "kind": DEPLOYMENT.name,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }
        body = await self.cluster.create(DEPLOYMENT, manifest)
        self.deployments[name] = body["metadata"]["uid"]

    def invocation(self, payload: str = "", *, deployment: str = "greet-1", timeout: int = 10) -> Invocation:
        return Invocation(
            execution_id=f"execution-{next(_numbers)}",
            namespace=self.namespace,
            function="greet",
            function_uid=self.uid,
            deployment=deployment,
            deployment_uid=self.deployments[deployment],
            entrypoint="index.js",
            artifacts={Architecture.AMD64: self.digest},
            variables=self.variables,
            payload=payload,
            headers={},
            timeout=timeout,
        )

    async def invoke(
        self,
        payload: str = "",
        *,
        deployment: str = "greet-1",
        timeout: int = 10,  # noqa: ASYNC109 - the function's own
        on_start: Callable[[], Awaitable[None]] | None = None,
    ) -> Outcome:
        invocation = self.invocation(payload, deployment=deployment, timeout=timeout)
        return await self.dispatcher.invoke(invocation, self.runtime, self.function(), on_start=on_start)

    def call(self, payload: str = "", **options: Any) -> asyncio.Task[Outcome]:
        """Begin a call that goes on while the test does."""
        task = asyncio.get_running_loop().create_task(self.invoke(payload, **options))
        self.tasks.append(task)
        return task

    def sync(self, *, deployment: str | None = "greet-1", variables: Mapping[str, str] | None = AHEAD) -> None:
        if deployment is None:
            self.dispatcher.sync({})
            return
        target = Target(
            function=self.function(),
            runtime=self.runtime,
            deployment=deployment,
            deployment_uid=self.deployments[deployment],
            entrypoint="index.js",
            artifacts={Architecture.AMD64: self.digest},
            variables=variables,
        )
        self.dispatcher.sync({self.uid: target})

    async def pods(self, number: int, *, within: float = 5.0) -> list[FakePod]:
        """Return the node's pods once there are so many."""

        async def probe() -> bool:
            return len(self.node.pods) == number

        await eventually(probe, within=within)
        return list(self.node.pods.values())

    @property
    def uid(self) -> str:
        """The function's."""
        return f"uid-{self.namespace}"

    def runtime_with(self, **spec: Any) -> Runtime:
        """Return the runtime with these fields of its spec changed."""
        return self.runtime.model_copy(update={"spec": self.runtime.spec.model_copy(update=spec)})

    async def pool(self, size: int) -> list[FakePod]:
        """Make a pool of the runtime, as the operator does; return its pods once they are free to be claimed."""
        settings = PoolSettings(
            namespace=self.namespace,
            architecture=Architecture.AMD64,
            size=size,
            agent_image="appfn/appfn:0.1.0",
            announce_url="http://shim.test",
        )
        manifest = pool_deployment(self.runtime, settings)
        del manifest["metadata"]["ownerReferences"]  # the Runtime is no object of this API server
        await self.cluster.apply(POOL, manifest, manager="tests")
        return await self.free(size)

    async def free(self, number: int) -> list[FakePod]:
        """Return the pods of pools that are Ready once there are so many."""

        async def probe() -> list[FakePod] | None:
            bodies = await self.cluster.list(POD, namespace=self.namespace, labels=names.LABEL_POOL)
            ready = [self.node.pods[body["metadata"]["name"]] for body in bodies if is_ready(body)]
            return ready if len(ready) == number else None

        return await eventually(probe, within=20)

    async def delete(self, pod: FakePod) -> None:
        """Delete a pod as a person would."""
        await self.cluster.delete(POD, pod.key)

    async def queued(self, number: int) -> None:
        """Return once so many calls wait."""

        async def probe() -> bool:
            return self.dispatcher.replicas(self.uid).queued == number

        await eventually(probe)

    async def ready(self, number: int) -> None:
        """Return once the function has so many loaded pods."""

        async def probe() -> bool:
            return self.dispatcher.replicas(self.uid).ready == number

        await eventually(probe)

    async def running(self, number: int) -> None:
        """Return once so many calls run in pods."""

        async def probe() -> bool:
            return sum(pod.running for pod in self.node.seen) == number

        await eventually(probe)

    @asynccontextmanager
    async def dispatching(
        self,
        *,
        through: PodCluster | None = None,
        **settings: Any,
    ) -> AsyncIterator[Dispatcher]:
        """Run a dispatcher; `settings` replace those of the configuration, `through` the way to the API server."""
        config = ShimConfig(**{"replica": REPLICA, "pod_start_seconds": 10.0, "sync_queue_limit": 100, **settings})
        dispatcher = Dispatcher(
            cluster=through or self.cluster,
            watcher=self.cluster,
            artifacts=Artifacts(),
            master_key=b"master",
            config=config,
            place=Place(namespace="appfn-system", image="appfn/appfn:0.1.0", announce_url="http://shim.test"),
        )
        async with dispatcher:
            self.dispatcher = dispatcher
            yield dispatcher


def a_runtime(**spec: Any) -> Runtime:
    """Return a runtime that runs one call at a time unless told otherwise."""
    fields = {
        "language": "node",
        "version": "20.0",
        "displayName": "Node.js",
        "loadMode": "Import",
        "images": [{"architecture": "amd64", "image": "appfn/runtime-node:20.0"}],
        "buildCommand": "build",
        "startCommand": "/start.sh",
    }
    return Runtime.parse({"metadata": {"name": "node-20.0", "uid": "uid-runtime"}, "spec": {**fields, **spec}})
