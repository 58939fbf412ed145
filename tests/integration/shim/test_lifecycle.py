"""What survives a drain and a kill, and who gets a turn."""

import asyncio
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest

from appfn.api.execution import FailureReason
from appfn.config import Config
from appfn.core.records import Invocation, Outcome
from appfn.dispatch import failures
from appfn.kube.client import KubeCluster
from appfn.shim.services import DRAIN, STORE, WORKER
from localcluster.controlplane import ControlPlane
from support.fake_invoker import FakeInvoker, completed
from support.polling import eventually
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import ShimAt, ShimServer, running_shim, shim_config

ROOT = Path(__file__).parents[3]
BURST = 200


class Gate:
    """A function that waits until it may end."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def answer(self, _: Invocation) -> Outcome:
        await self.open.wait()
        return completed("late")


async def started(invoker: FakeInvoker, count: int) -> None:
    async def probe() -> bool:
        return len(invoker.started) >= count

    await eventually(probe)


async def test_a_draining_shim_says_so_and_finishes_what_it_has(
    cluster: KubeCluster, config: Config, project: ProjectKit
) -> None:
    gate = Gate()
    invoker = FakeInvoker(gate.answer)
    async with running_shim(cluster, config, invoker) as shim:
        client = Client(shim, project.namespace, await project.key("executions.write", "executions.read"))
        running = asyncio.create_task(client.execute())
        queued = await client.execute(body={"async": True})
        await started(invoker, 2)

        shim.app[DRAIN].begin()
        assert (await shim.call("GET", "/readyz")).status == 503
        leaving = asyncio.create_task(shim.leave())
        await asyncio.wait([leaving], timeout=0.2)
        assert not leaving.done()
        with pytest.raises(aiohttp.ClientConnectorError):
            async with aiohttp.ClientSession() as fresh:
                await fresh.get(shim.base + "/healthz")
        gate.open.set()
        await leaving

        assert (await running).body["response"] == "late"
    async with running_shim(cluster, config, FakeInvoker()) as shim:
        done = await Client(shim, project.namespace, client.key).execution(queued.body["$id"])
        assert (done.body["status"], done.body["response"]) == ("completed", "late")


async def test_what_has_not_begun_is_given_back_at_once_and_run_by_the_next(
    cluster: KubeCluster, tmp_path: Path, system: str, project: ProjectKit
) -> None:
    config = shim_config(tmp_path, system, EXECUTION_LEASE_SECONDS="600")  # no lease runs out in this test
    stuck = FakeInvoker()
    stuck.waiting_for_pod = asyncio.Event()
    async with running_shim(cluster, config, stuck) as shim:
        client = Client(shim, project.namespace, await project.key("executions.write", "executions.read"))
        made = [(await client.execute(body={"async": True})).body["$id"] for _ in range(3)]

        async def claimed() -> bool:
            return bool(shim.app[WORKER].busy == 3)

        await eventually(claimed)
    successor = FakeInvoker()
    async with running_shim(cluster, config, successor) as shim:
        next_client = Client(shim, project.namespace, client.key)

        for id_ in made:
            assert (await next_client.finished(id_)).body["status"] == "completed"

    assert stuck.started == []
    assert sorted(successor.started) == sorted(made)


async def test_a_call_that_outlives_the_drain_is_recorded_as_lost(
    cluster: KubeCluster, tmp_path: Path, system: str, project: ProjectKit
) -> None:
    config = shim_config(tmp_path, system, DRAIN_SECONDS="0.5")
    invoker = FakeInvoker(Gate().answer)
    async with running_shim(cluster, config, invoker) as shim:
        client = Client(shim, project.namespace, await project.key("executions.write", "executions.read"))
        running = asyncio.create_task(client.execute())
        await started(invoker, 1)
    with pytest.raises(aiohttp.ClientError):
        await running

    async with running_shim(cluster, config, FakeInvoker()) as shim:
        done = await Client(shim, project.namespace, client.key).execution(invoker.started[0])

    assert done.body["status"] == "failed"
    assert "whether it finished is unknown" in done.body["stderr"]


async def test_one_function_cannot_take_all_slots(
    cluster: KubeCluster, config: Config, project: ProjectKit, runtime: str
) -> None:
    gate = Gate()
    invoker = FakeInvoker(gate.answer)
    await project.ready("greedy", scaling={"maxReplicas": 2, "concurrency": 2})
    async with running_shim(cluster, config, invoker) as shim:
        client = Client(shim, project.namespace, await project.key("executions.write", "executions.read"))
        for _ in range(12):
            assert (await client.execute("greedy", body={"async": True})).status == 202
        await started(invoker, 4)
        await client.execute("hello", body={"async": True})
        await started(invoker, 5)

        counts = Counter(invocation.function for invocation in invoker.invocations)
        assert counts == {"greedy": 4, "hello": 1}
        gate.open.set()
        await started(invoker, 13)


async def test_a_full_dispatcher_loses_nothing(client: Client, invoker: FakeInvoker) -> None:
    invoker.room = 0
    made = await client.execute(body={"async": True})
    assert made.status == 202

    async def tried() -> bool:
        return bool((await client.execution(made.body["$id"])).body["status"] == "waiting")

    await eventually(tried)
    invoker.room = 10

    assert (await client.finished(made.body["$id"])).body["status"] == "completed"


@pytest.mark.parametrize(("attempts", "status"), [(1, "failed"), (2, "completed")])
async def test_an_execution_whose_pod_is_lost_runs_again_where_its_function_allows_it(
    client: Client, invoker: FakeInvoker, project: ProjectKit, attempts: int, status: str
) -> None:
    async def lose_the_first(_: Invocation) -> Outcome:
        if len(invoker.started) == 1:
            return failures.failed(failures.pod_lost("pod-1", "OOMKilled"))
        return completed("second")

    invoker.answer = lose_the_first
    await project.ready("again", retry={"maxAttempts": attempts})

    async def made() -> str:
        reply = await client.execute("again", body={"async": True})
        return str(reply.body["$id"]) if reply.status == 202 else ""

    done = await client.finished(await eventually(made), "again")

    assert done.body["status"] == status
    assert len(invoker.started) == attempts


async def test_an_execution_that_found_all_pods_busy_for_too_long_waits_on(
    client: Client, invoker: FakeInvoker
) -> None:
    invoker.unserved = [failures.failed(failures.queue_timeout(60.0))]

    made = await client.execute(body={"async": True})

    assert (await client.finished(made.body["$id"])).body["status"] == "completed"
    assert invoker.unserved == []


async def test_too_many_waiting_executions_are_429(
    cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory, system: str, project: ProjectKit
) -> None:
    config = shim_config(tmp_path_factory.mktemp("full"), system, QUEUE_LIMIT="3", ASYNC_CONCURRENCY="1")
    gate = Gate()
    async with running_shim(cluster, config, FakeInvoker(gate.answer)) as shim:
        client = Client(shim, project.namespace, await project.key("executions.write", "executions.read"))

        replies = [await client.execute(body={"async": True}) for _ in range(6)]

        assert replies[-1].error == (429, "general_rate_limit_exceeded")
        assert int(replies[-1].headers["Retry-After"]) >= 1
        gate.open.set()
        for reply in replies:
            if reply.status == 202:
                assert (await client.finished(reply.body["$id"])).body["status"] == "completed"


async def test_a_function_that_is_gone_when_its_turn_comes_is_told(
    client: Client, project: ProjectKit, shim: ShimServer, invoker: FakeInvoker
) -> None:
    invoker.room = 0
    made = await client.execute(body={"async": True})
    await project.function("hello", active="hello-v1", enabled=False)

    async def failed() -> bool:
        record = await shim.app[STORE].get(client.project, made.body["$id"])
        assert record is not None
        assert record.outcome is not None
        assert record.outcome.failure is not None
        return record.outcome.failure.reason is FailureReason.FUNCTION_UNAVAILABLE

    await eventually(failed, within=10)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@asynccontextmanager
async def shim_process(
    folder: Path, kubeconfig: Path, system: str, session: aiohttp.ClientSession
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run the shim as a process of its own; yield it and its URL."""
    port = free_port()
    paths = os.pathsep.join(str(ROOT / part) for part in ("operator", "tests", "."))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.shim_process",
        str(folder),
        str(kubeconfig),
        system,
        str(port),
        env=os.environ | {"PYTHONPATH": paths},
    )
    url = f"http://127.0.0.1:{port}"
    try:

        async def serving() -> bool:
            assert process.returncode is None, f"the shim ended with {process.returncode}"
            try:
                async with session.get(f"{url}/readyz") as response:
                    return response.status == HTTPStatus.OK
            except aiohttp.ClientConnectorError:
                return False

        await eventually(serving, within=60)
        yield process, url
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def test_of_a_burst_with_the_shim_killed_all_end_and_none_starts_twice(
    control_plane: ControlPlane, project: ProjectKit, system: str, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    key = await project.key("executions.write", "executions.read")
    ledger = tmp_path / "ledger"

    def starts() -> Counter[str]:
        return Counter(ledger.read_text().split() if ledger.exists() else [])

    async with shim_process(tmp_path, control_plane.kubeconfig, system, session) as (process, url):
        client = Client(ShimAt(url, session), project.namespace, key)
        replies = await asyncio.gather(*(client.execute(body={"async": True}) for _ in range(BURST)))
        accepted = {reply.body["$id"] for reply in replies if reply.status == 202}

        async def under_way() -> bool:
            return len(starts()) > BURST // 4

        await eventually(under_way, within=30)
        process.kill()
        await process.wait()
    assert len(accepted) == BURST
    before = starts()
    assert len(before) < BURST

    async with shim_process(tmp_path, control_plane.kubeconfig, system, session) as (process, url):
        client = Client(ShimAt(url, session), project.namespace, key)
        ends: Counter[str] = Counter()
        for id_ in accepted:
            ends[(await client.finished(id_)).body["status"]] += 1

    assert process.returncode == 0  # the second one left in good order
    assert sum(ends.values()) == BURST
    assert max(starts().values()) == 1
    assert starts().keys() <= accepted
    assert ends["failed"] <= 8  # those that were running when it was killed: nobody knows whether they finished


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened
