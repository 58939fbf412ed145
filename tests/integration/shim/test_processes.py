"""One shim of several processes, as users start it: what holds for one holds for all of them together."""

import asyncio
import base64
import os
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import POD, SECRET, Key
from appfn.core.shares import Part
from appfn.kube.client import KubeCluster
from localcluster.controlplane import ControlPlane
from support.cluster import SERVICE_ACCOUNT, token_of
from support.fake_invoker import FakeInvoker
from support.fake_node import FakeCall, FakeNode, FakePod, envelope
from support.polling import eventually
from support.project import DIGEST, ProjectKit, apply_runtime
from support.shim_client import Client
from support.shim_processes import Shim, running_shims
from support.shim_server import ShimAt, running_shim, shim_config

RUN_SECONDS = 0.03
"""A function's run: time for another one to begin meanwhile, if it may."""
Start = Callable[..., AbstractAsyncContextManager[Shim]]


@dataclass(slots=True)
class Watched:
    """A function that takes note of who runs it, and how many at once; goes on when the gate is open."""

    runs: Counter[str] = field(default_factory=Counter)
    running: int = 0
    most: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, call: FakeCall) -> web.StreamResponse:
        self.runs[call.body["payload"]] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
            await asyncio.sleep(RUN_SECONDS)
        finally:
            self.running -= 1
        return envelope(call.body["payload"], stdout=call.pod.name)


@pytest.fixture
async def node(cluster: KubeCluster, namespace: str) -> AsyncIterator[FakeNode]:
    await cluster.create(SERVICE_ACCOUNT, {"metadata": {"name": "appfn-runtime", "namespace": namespace}})
    async with FakeNode(cluster).running(namespace) as running:
        yield running


@pytest.fixture
def watched(node: FakeNode) -> Watched:
    made = Watched()
    made.gate.set()
    node.function = made.run
    return made


@pytest.fixture
async def project(cluster: KubeCluster, namespace: str, runtime: str) -> ProjectKit:
    return ProjectKit(cluster, namespace, runtime)


@pytest.fixture
async def key(project: ProjectKit) -> str:
    return await project.key("executions.read", "executions.write")


@pytest.fixture
def start(control_plane: ControlPlane, system: str, tmp_path: Path, namespace: str) -> Start:
    """How to start a shim; all of a test share one folder."""
    artifact = tmp_path / "artifacts" / "artifacts" / namespace / DIGEST.removeprefix("sha256:")
    artifact.parent.mkdir(parents=True)
    artifact.write_bytes(b"code")

    def begin(processes: int = 2, **variables: str) -> AbstractAsyncContextManager[Shim]:
        return running_shims(tmp_path, control_plane.kubeconfig, system, processes=processes, **variables)

    return begin


async def pods_by_process(cluster: KubeCluster, namespace: str) -> Counter[str]:
    """Return how many pods there are of each process."""
    pods = await cluster.list(POD, namespace=namespace, labels=names.LABEL_SHIM)
    living = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    return Counter(pod["metadata"]["labels"][names.LABEL_SHIM] for pod in living)


async def metrics(shim: Shim, namespace: str) -> dict[tuple[str, str], float]:
    """Return sums of samples by name and process; of a project's, this one's alone, as events go on in others."""
    reply = await shim.metrics.call("GET", "/metrics")
    assert reply.status == 200
    sums: defaultdict[tuple[str, str], float] = defaultdict(float)
    for family in text_string_to_metric_families(reply.body.decode()):
        for sample in family.samples:
            if sample.labels.get("namespace", namespace) == namespace:
                sums[sample.name, sample.labels["process"]] += sample.value
    return sums


async def test_a_function_with_one_pod_has_one_whoever_is_called(
    start: Start, project: ProjectKit, key: str, node: FakeNode, watched: Watched
) -> None:
    await project.ready("hello", scaling={"maxReplicas": 1, "concurrency": 1})
    async with start() as shim:
        client = Client(shim.door, project.namespace, key)
        replies = await asyncio.gather(*(client.execute(body={"data": str(n)}) for n in range(60)))

        assert {(reply.status, reply.body.get("status")) for reply in replies} == {(201, "completed")}
        assert watched.runs == Counter({str(n): 1 for n in range(60)})
        assert (watched.most, len(node.seen)) == (1, 1)
        seen = await metrics(shim, project.namespace)
        assert all(seen["appfn_http_requests_total", process] > 10 for process in ("0", "1"))
        assert {seen.get(("appfn_executions_total", process), 0) for process in ("0", "1")} == {60, 0}


async def test_connections_that_are_kept_end_up_with_the_process_that_runs_their_function(
    start: Start, project: ProjectKit, key: str, watched: Watched
) -> None:
    await project.ready("hello", scaling={"maxReplicas": 1})
    async with start() as shim, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16)) as session:
        client = Client(ShimAt(shim.door.base, session), project.namespace, key)
        replies = await asyncio.gather(*(client.execute(body={"data": str(n)}) for n in range(64)))

        assert {(reply.status, reply.body.get("response")) for reply in replies} == {(201, str(n)) for n in range(64)}
        seen = await metrics(shim, project.namespace)
        [owner] = [process for process in ("0", "1") if seen.get(("appfn_executions_total", process), 0)]
        [other] = {"0", "1"} - {owner}
        assert seen["appfn_executions_total", owner] == 64
        assert seen.get(("appfn_http_requests_total", other), 0) == 0


async def test_graphql_executes_where_the_pod_is(
    start: Start, project: ProjectKit, key: str, node: FakeNode, watched: Watched
) -> None:
    uid = await project.ready("hello", scaling={"maxReplicas": 1, "concurrency": 1})
    fields = "_id status response"
    query = (
        f'mutation {{ a: functionsCreateExecution(functionId: "hello", data: "one") {{ {fields} }} '
        f'b: functionsCreateExecution(functionId: "hello", data: "two") {{ {fields} }} '
        f'c: functionsCreateExecution(functionId: "hello", path: "no") {{ {fields} }} }}'
    )
    async with start() as shim:
        for index in (0, 1):
            async with shim.process(index) as door:
                client = Client(door, project.namespace, key, response_format="0.15.0")
                reply = await client.call("POST", "/v1/graphql", {"query": query})
                done = reply.body["data"]
                assert [(done[name]["status"], done[name]["response"]) for name in "ab"] == [
                    ("completed", "one"),
                    ("completed", "two"),
                ], Part(index, 2).first_server(uid)
                (error,) = reply.body["errors"]
                assert (error["path"], error["extensions"]["type"]) == (["c"], "general_argument_invalid")
                assert error["message"].startswith("Invalid `path` param")

    assert watched.runs == Counter({"one": 2, "two": 2})
    assert len(node.seen) == 1


async def test_a_burst_has_all_the_pods_it_may_have_and_none_more(
    start: Start, project: ProjectKit, key: str, node: FakeNode, watched: Watched
) -> None:
    await project.ready("hello", scaling={"maxReplicas": 3, "concurrency": 1})
    async with start() as shim:
        client = Client(shim.door, project.namespace, key)
        replies = await asyncio.gather(*(client.execute() for _ in range(60)))

    assert {reply.body.get("status") for reply in replies} == {"completed"}
    assert (watched.most, len(node.seen)) == (3, 3)


@pytest.mark.parametrize("pods", [1, 4])
async def test_of_an_async_burst_each_runs_once(
    pods: int, start: Start, project: ProjectKit, key: str, node: FakeNode, watched: Watched
) -> None:
    await project.ready("hello", scaling={"maxReplicas": pods, "concurrency": 4})
    async with start() as shim:
        client = Client(shim.door, project.namespace, key)
        bodies = [{"data": str(n), "async": True} for n in range(150)]
        replies = await asyncio.gather(*(client.execute(body=body) for body in bodies))
        assert {reply.status for reply in replies} == {202}
        for reply in replies:
            assert (await client.finished(reply.body["$id"])).body["status"] == "completed"

    assert watched.runs == Counter({str(n): 1 for n in range(150)})
    assert len(node.seen) <= pods


async def test_as_many_pods_are_kept_warm_as_wanted_and_those_of_processes_that_are_no_more_go(
    start: Start, project: ProjectKit, watched: Watched, cluster: KubeCluster
) -> None:
    uid = await project.ready("hello", scaling={"minReplicas": 5, "maxReplicas": 5})
    for processes in (3, 1, 2):
        parts = [Part(index, processes) for index in range(processes)]
        wanted = {part.replica("shim-0"): part.share(5, uid) for part in parts}

        async def shared(wanted: dict[str, int] = wanted) -> bool:
            return await pods_by_process(cluster, project.namespace) == wanted

        async with start(processes) as shim:
            await eventually(shared, within=30)
            for pid in {shim.supervisor.pid, *shim.pids}:  # so that nobody cleans up
                os.kill(pid, signal.SIGKILL)
            await shim.ended()


async def test_a_call_under_way_in_another_process_is_answered_before_all_leave(
    start: Start, project: ProjectKit, key: str, node: FakeNode, watched: Watched
) -> None:
    uid = await project.ready("hello", scaling={"maxReplicas": 1})
    owner = Part(0, 2).first_server(uid)
    watched.gate.clear()
    async with start() as shim, shim.process(1 - owner) as door:
        running = asyncio.create_task(Client(door, project.namespace, key).execute(body={"data": "late"}))

        async def begun() -> bool:
            return watched.running == 1

        await eventually(begun, within=20)
        assert len(shim.living()) == 2
        shim.supervisor.send_signal(signal.SIGTERM)

        async def draining() -> bool:
            async with shim.process(owner) as sibling:
                return (await sibling.call("GET", "/readyz")).status == 503

        await eventually(draining)
        watched.gate.set()
        assert (await running).body["response"] == "late"
        assert await shim.ended() == 0


async def test_when_a_process_is_killed_all_end_and_the_container_is_started_again(
    start: Start, project: ProjectKit, key: str, watched: Watched
) -> None:
    owner = Part(0, 3).first_server(await project.ready("hello", scaling={"maxReplicas": 1}))
    watched.gate.clear()
    async with start(3) as shim, shim.process((owner + 1) % 3) as door:
        running = asyncio.create_task(Client(door, project.namespace, key).execute())

        async def begun() -> bool:
            return watched.running == 1

        await eventually(begun, within=20)
        os.kill(shim.pids[owner], signal.SIGKILL)

        reply = await running
        assert reply.error == (500, "general_server_error")
        assert "unknown" in reply.body["message"]
        assert "Retry-After" not in reply.headers
        assert await shim.ended() != 0


async def test_when_the_supervisor_is_killed_no_process_stays(start: Start) -> None:
    async with start() as shim:
        shim.supervisor.kill()

        await shim.ended()


async def test_a_process_that_hangs_is_seen_whoever_is_asked(start: Start) -> None:
    async with start() as shim, shim.process(0) as door:
        assert (await door.call("GET", "/healthz")).status == 200
        os.kill(shim.pids[1], signal.SIGSTOP)
        try:
            assert (await door.call("GET", "/healthz")).status == 503
        finally:
            os.kill(shim.pids[1], signal.SIGCONT)


async def test_what_ended_in_one_process_is_read_in_the_other_at_once(
    start: Start, project: ProjectKit, key: str, watched: Watched
) -> None:
    await project.ready("hello", scaling={"maxReplicas": 2})
    async with start(FLUSH_SECONDS="3600") as shim, shim.process(0) as here, shim.process(1) as there:
        made = await Client(here, project.namespace, key).execute()
        client = Client(there, project.namespace, key)

        assert made.status == 201
        assert (await client.execution(made.body["$id"])).body["status"] == "completed"
        made = await Client(here, project.namespace, key).execute()
        assert made.body["$id"] in {each["$id"] for each in (await client.executions()).body["executions"]}


async def test_an_agent_that_announces_itself_to_another_process_is_heard(
    start: Start, project: ProjectKit, key: str, node: FakeNode, watched: Watched, cluster: KubeCluster
) -> None:
    owner = Part(0, 2).first_server(await project.ready("hello", scaling={"maxReplicas": 1}))
    node.status = lambda _: None  # nobody but the agent tells the pod's address
    async with start() as shim, shim.process(1 - owner) as door:
        running = asyncio.create_task(Client(door, project.namespace, key).execute())

        async def made() -> FakePod | None:
            return next(iter(node.pods.values()), None)

        pod = await eventually(made, within=20)
        await node._listen(pod)
        account = Key(project.namespace, names.SERVICE_ACCOUNT_RUNTIME)
        token = await token_of(cluster, account, audience=names.AUDIENCE, pod=pod.body)
        body = {"address": pod.address, "booted": False}
        reply = await door.call("POST", "/internal/v1/pods", body, Authorization=f"Bearer {token}")

        assert reply.status == 200
        assert (await running).body["status"] == "completed"


async def test_a_pod_of_one_container_is_heard_by_its_deployments_token_whichever_process_it_asks(
    start: Start, project: ProjectKit, key: str, node: FakeNode, watched: Watched, cluster: KubeCluster
) -> None:
    await apply_runtime(cluster, project.runtime, agent_command="/agent.sh")
    owner = Part(0, 2).first_server(await project.ready("hello", scaling={"maxReplicas": 1}))
    node.status = lambda _: None  # nobody but the agent tells the pod's address
    async with start() as shim, shim.process(1 - owner) as door:
        running = asyncio.create_task(Client(door, project.namespace, key).execute())

        async def made() -> tuple[FakePod, Json] | None:
            for pod in node.pods.values():
                [container] = pod.body["spec"]["containers"]
                [token] = [item["valueFrom"] for item in container["env"] if item["name"] == "APPFN_ANNOUNCE_TOKEN"]
                if secret := await cluster.get(SECRET, Key(project.namespace, token["secretKeyRef"]["name"])):
                    return pod, secret
            return None

        pod, secret = await eventually(made, within=20)
        await node._listen(pod)
        credentials = {
            "Authorization": f"Bearer {base64.b64decode(secret['data']['token']).decode()}",
            "X_Appfn_Pod": pod.environment("APPFN_ANNOUNCE_AS"),
        }
        body = {"address": pod.address, "booted": False}
        reply = await door.call("POST", "/internal/v1/pods", body, **credentials)

        assert reply.status == 200
        assert (await running).body["status"] == "completed"


async def test_what_siblings_ask_each_other_is_nobody_elses(start: Start, key: str, project: ProjectKit) -> None:
    async with start() as shim:
        client = Client(shim.door, project.namespace, key)
        for method, path in (
            ("POST", "flush"),
            ("GET", "health"),
            ("GET", "metrics"),
            ("GET", "replicas/uid"),
            ("POST", "pods/a/b/c/own"),
        ):
            assert (await client.call(method, f"/siblings/{path}")).error == (404, "general_route_not_found")
        assert shim.sockets.stat().st_mode & 0o777 == 0o700


async def test_a_process_that_is_gone_is_a_503_with_the_time_to_come_back(
    cluster: KubeCluster, tmp_path: Path, system: str, project: ProjectKit, key: str
) -> None:
    uid = await project.ready("hello", scaling={"maxReplicas": 1})
    other = 1 - Part(0, 2).first_server(uid)
    variables = {"PROCESSES": "2", "PROCESS_INDEX": str(other), "SOCKETS_DIR": str(tmp_path)}
    config = shim_config(tmp_path, system, **variables)
    invoker = FakeInvoker()
    async with running_shim(cluster, config, invoker) as shim:
        reply = await Client(shim, project.namespace, key).execute()

        assert reply.error == (503, "general_service_disabled")
        assert int(reply.headers["Retry-After"]) >= 1
        assert invoker.started == []
