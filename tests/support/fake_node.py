"""A node without containers: gives pods of a real API server an address and plays what would run in them.

Every runtime pod of a namespace gets a loopback address of its own where an agent and a runtime server listen. What the
runtime answers is up to the test: `node.function`. A deleted pod's servers end at once, connections included. As the
real one, an agent takes one load; those of a pool's pods believe any token, as nobody has told them theirs.
"""

import asyncio
import base64
import hashlib
import json
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp import web

from appfn.api.base import Json
from appfn.api.kinds import POD, Key
from appfn.kube.client import KubeCluster
from appfn.kube.protocols import WatchEvent, WatchEventType

MANAGER = "fake-node"
RUNTIME_PORT = 3000
AGENT_PORT = 3001


def _address() -> str:
    """Return an address of our own machine that nobody else has picked."""
    return f"127.{secrets.randbelow(250) + 2}.{secrets.randbelow(250) + 2}.{secrets.randbelow(250) + 2}"


@dataclass(slots=True, kw_only=True)
class FakePod:
    """A pod, and what was done to it."""

    key: Key
    body: Json
    address: str = field(default_factory=_address)
    loads: list[Json] = field(default_factory=list)
    tarballs: list[bytes] = field(default_factory=list)
    calls: list[Json] = field(default_factory=list)
    """Bodies of the requests, in the order they came."""
    running: int = 0
    most_running: int = 0
    runners: list[web.AppRunner] = field(default_factory=list)
    transports: set[asyncio.Transport] = field(default_factory=set)
    cut_off: bool = False
    """The node is out of reach: whatever is reported, its connections stand."""

    @property
    def name(self) -> str:
        return self.key.name

    def environment(self, name: str) -> str:
        """Return a variable that the agent is given by value."""
        variables = next(item["env"] for item in self.body["spec"]["containers"] if "env" in item)
        return next((str(item["value"]) for item in variables if item["name"] == name), "")


@dataclass(slots=True, kw_only=True)
class FakeCall:
    """A request to a runtime."""

    pod: FakePod
    request: web.Request
    body: Json
    node: "FakeNode"

    def raw(self, content: bytes, *, close: bool = True) -> web.Response:
        """Answer with these very bytes, not HTTP's; the connection is then closed."""
        transport = _transport(self.request)
        transport.write(content)
        if close:
            transport.close()
        return web.Response()  # goes nowhere

    def reset(self) -> web.Response:
        """Break the connection off."""
        transport = _transport(self.request)
        transport.abort()
        return web.Response()


Function = Callable[[FakeCall], Awaitable[web.StreamResponse]]
Agent = Callable[[FakePod], Awaitable[web.Response]]


async def echo(call: FakeCall) -> web.StreamResponse:
    """Answer with the payload and the pod's name."""
    return envelope(call.body["payload"], stdout=call.pod.name)


def envelope(response: Any = "", *, stdout: str = "", stderr: str = "", status: int = 200) -> web.Response:
    """Answer as a v2 runtime does."""
    return web.json_response({"response": response, "stdout": stdout, "stderr": stderr}, status=status)


async def loaded(_: FakePod) -> web.Response:
    """Answer a load as an agent that is pleased with it."""
    return web.json_response({"unpackMs": 1.0, "bootMs": 2.0})


def running(pod: FakePod) -> Json | None:
    """Be up at once, free to be loaded."""
    return {"phase": "Running", "podIP": pod.address, "conditions": [{"type": "Ready", "status": "True"}]}


class FakeNode:
    """The node. Change `function`, `agent` and `status` to change what its pods do."""

    def __init__(self, cluster: KubeCluster) -> None:
        self._cluster = cluster
        self._tasks: set[asyncio.Task[None]] = set()
        self.pods: dict[str, FakePod] = {}
        """Pods that are there, by name."""
        self.seen: list[FakePod] = []
        """All that ever were, oldest first."""
        self.function: Function = echo
        self.agent: Agent = loaded
        self.status: Callable[[FakePod], Json | None] = running
        """The status a new pod gets; None: none, and nothing listens."""
        self.tells_running = True
        """Whether runtimes tell how many calls they run, as appfn's own do."""
        self.gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        """Events for functions to wait on, by a name of the test's choice."""

    @asynccontextmanager
    async def running(self, namespace: str) -> AsyncIterator["FakeNode"]:
        """Play the node for all pods of a namespace."""
        async with self._cluster.watch(POD, namespace=namespace) as cache:
            cache.subscribe(self._on_event)
            try:
                yield self
            finally:
                # Not cancelled: a listening socket whose making is interrupted belongs to nobody.
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await asyncio.gather(*(_stop(pod) for pod in self.seen))

    async def report(self, pod: FakePod, status: Json) -> None:
        """Set a pod's status."""
        metadata = {"name": pod.key.name, "namespace": pod.key.namespace}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}
        await self._cluster.apply_status(POD, manifest, manager=MANAGER)

    async def stop_listening(self, pod: FakePod) -> None:
        """Let nothing listen in a pod any more, which nobody reports."""
        await _stop(pod)

    def crash_later(self, pod: FakePod) -> None:
        """Let the runtime's container end as soon as the event loop comes to it."""
        self._start(self.kill(pod, {"reason": "Error"}))

    async def kill(self, pod: FakePod, terminated: Json) -> None:
        """Let the runtime's container end."""
        await _stop(pod)
        container = {
            "name": "runtime",
            "image": "image",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": {"terminated": {"exitCode": 1, **terminated}},
        }
        await self.report(pod, {"phase": "Failed", "podIP": pod.address, "containerStatuses": [container]})

    def _on_event(self, event: WatchEvent) -> None:
        match event.type:
            case WatchEventType.SET if event.key.name not in self.pods:
                pod = FakePod(key=event.key, body=event.body)
                self.pods[event.key.name] = pod
                self.seen.append(pod)
                self._start(self._run(pod))
            case WatchEventType.GONE if event.key.name in self.pods:
                pod = self.pods.pop(event.key.name)
                if not pod.cut_off:
                    self._start(_stop(pod))
            case _:
                pass

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, pod: FakePod) -> None:
        status = self.status(pod)
        if status is None:
            return
        if status.get("podIP"):
            await self._listen(pod)
        await self.report(pod, status)

    async def _listen(self, pod: FakePod) -> None:
        runtime, agent = web.Application(client_max_size=2**26), web.Application(client_max_size=2**26)

        async def call(request: web.Request) -> web.StreamResponse:
            return await self._call(pod, request)

        async def load(request: web.Request) -> web.StreamResponse:
            return await self._load(pod, request)

        async def state(_: web.Request) -> web.StreamResponse:
            return await self._state(pod)

        async def count(_: web.Request) -> web.StreamResponse:
            return web.json_response({"running": pod.running})

        runtime.router.add_post("/", call)
        agent.router.add_post("/load", load)
        agent.router.add_get("/state", state)
        if self.tells_running:
            runtime.router.add_get("/appfn/running", count)
        for application, port in ((runtime, RUNTIME_PORT), (agent, AGENT_PORT)):
            runner = web.AppRunner(
                application, handle_signals=False, access_log=None, shutdown_timeout=0.01, max_field_size=65_536
            )
            await runner.setup()
            await web.TCPSite(runner, pod.address, port).start()
            pod.runners.append(runner)

    async def _load(self, pod: FakePod, request: web.Request) -> web.StreamResponse:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        expected = pod.environment("APPFN_LOAD_TOKEN_SHA256")
        if expected and hashlib.sha256(token.encode()).hexdigest() != expected:
            return web.json_response({}, status=401)
        if pod.loads:
            return web.json_response({"reason": "AlreadyLoaded"}, status=409)
        order = json.loads(base64.urlsafe_b64decode("".join(request.headers.getall("X-Appfn-Load"))))
        pod.loads.append(order)
        pod.tarballs.append(await request.read())
        return await self.agent(pod)

    async def _state(self, pod: FakePod) -> web.StreamResponse:
        digest = pod.loads[-1]["digest"] if pod.loads else ""
        return web.json_response({"loaded": bool(pod.loads), "digest": digest})

    async def _call(self, pod: FakePod, request: web.Request) -> web.StreamResponse:
        pod.transports.add(_transport(request))
        assert request.headers["x-internal-challenge"] == pod.loads[-1]["key"]
        body = await request.json()
        pod.calls.append(body)
        pod.running += 1
        pod.most_running = max(pod.most_running, pod.running)
        try:
            return await self.function(FakeCall(pod=pod, request=request, body=body, node=self))
        finally:
            pod.running -= 1


def _transport(request: web.Request) -> asyncio.Transport:
    """Return the connection; not every event loop's transports inherit from asyncio's."""
    return cast("asyncio.Transport", request.transport)


async def _stop(pod: FakePod) -> None:
    for transport in pod.transports:
        transport.abort()
    runners, pod.runners = pod.runners, []
    for runner in runners:
        await runner.cleanup()
