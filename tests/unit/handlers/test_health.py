"""What the operator says about itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from appfn.errors import ConflictError
from appfn.handlers.health import STALLED_SECONDS, Metrics, Role, Vitals, serving
from appfn.reconcile.queue import RUN_SECONDS, WorkQueue
from support.clock import on_virtual_clock


class Server:
    def __init__(self, vitals: Vitals[str], metrics: Metrics[str], session: aiohttp.ClientSession) -> None:
        self.vitals = vitals
        self.metrics = metrics
        self._session = session

    async def get(self, path: str) -> tuple[int, str]:
        async with self._session.get(path) as response:
            return response.status, await response.text()


@asynccontextmanager
async def served() -> AsyncIterator[Server]:
    vitals = Vitals(queue=WorkQueue[str]())
    metrics = Metrics(vitals, controller=lambda key: key)
    async with (
        serving(vitals, metrics, port=0) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        yield Server(vitals, metrics, session)


@pytest.mark.parametrize(
    ("role", "status"), [(Role.STARTING, 503), (Role.STANDBY, 200), (Role.LEADER, 200), (Role.STOPPING, 503)]
)
async def test_it_is_ready_as_standby_and_as_leader(role: Role, status: int) -> None:
    async with served() as server:
        server.vitals.role = role
        assert await server.get("/readyz") == (status, role)


async def test_an_idle_operator_is_healthy() -> None:
    async with served() as server:
        assert await server.get("/healthz") == (200, "ok")


async def test_a_queue_without_progress_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served() as server:
        monkeypatch.setattr(server.vitals.queue, "stalled_seconds", lambda: STALLED_SECONDS + 1)
        assert await server.get("/healthz") == (503, "nothing has been reconciled for 61 s while keys wait")


@on_virtual_clock
async def test_lost_workers_are_noticed_and_hanging_handlers_are_not_mistaken_for_them() -> None:
    queue = WorkQueue[str]()
    vitals = Vitals(queue=queue)

    async def hang(_: str) -> None:
        await asyncio.get_running_loop().create_future()

    running = asyncio.create_task(queue.run(hang, workers=1))
    queue.add("a")
    queue.add("b")
    for _ in range(3):
        await asyncio.wait({running}, timeout=RUN_SECONDS)
        assert vitals.illness() is None

    running.cancel()
    await asyncio.wait({running})
    queue.add("c")
    never = asyncio.get_running_loop().create_future()
    await asyncio.wait({never}, timeout=STALLED_SECONDS - 1)
    assert vitals.illness() is None
    await asyncio.wait({never}, timeout=2)
    assert vitals.illness() is not None


async def test_metrics_count_reconciles_by_controller_and_result() -> None:
    async def handler(key: str) -> float | None:
        if key == "deployment":
            raise ConflictError("taken")
        return None

    async with served() as server:
        measured = server.metrics.measured(handler)
        await measured("function")
        await measured("function")
        with pytest.raises(ConflictError):
            await measured("deployment")
        server.vitals.queue.add("waiting")
        server.vitals.role = Role.LEADER
        status, page = await server.get("/metrics")

    assert status == 200
    lines = page.splitlines()
    assert 'appfn_reconciles_total{controller="function",result="ok"} 2.0' in lines
    assert 'appfn_reconciles_total{controller="deployment",result="ConflictError"} 1.0' in lines
    assert 'appfn_reconcile_seconds_count{controller="function"} 2.0' in lines
    assert "appfn_queue_waiting 1.0" in lines
    assert "appfn_leader 1.0" in lines
