"""What the operator says about itself over HTTP: /healthz, /readyz and /metrics."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from appfn.reconcile.queue import WorkQueue

STALLED_SECONDS = 60.0
"""Longer than a run may take: a queue in which nothing starts or ends for so long has lost its workers."""
_SHUTDOWN_SECONDS = 0.5
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

K = TypeVar("K", bound=Hashable)


class Role(StrEnum):
    """What this process is, in the order in which it becomes it."""

    STARTING = "starting"
    STANDBY = "standby"
    LEADER = "leader"
    STOPPING = "stopping"


@dataclass(slots=True, kw_only=True)
class Vitals(Generic[K]):
    """What is asked about; the parts that run the operator keep it up to date. A part that dies ends the process."""

    queue: WorkQueue[K]
    role: Role = Role.STARTING

    def illness(self) -> str | None:
        """Return why the process should be replaced, None where it is well."""
        stalled = self.queue.stalled_seconds()
        return f"nothing has been reconciled for {stalled:.0f} s while keys wait" if stalled > STALLED_SECONDS else None


class Metrics(Generic[K]):
    """The operator's own metrics."""

    def __init__(self, vitals: Vitals[K], *, controller: Callable[[K], str]) -> None:
        self.registry = CollectorRegistry()
        self._controller = controller
        self._runs = Counter(
            "appfn_reconciles", "Reconciles that ended, by result.", ["controller", "result"], registry=self.registry
        )
        self._seconds = Histogram(
            "appfn_reconcile_seconds",
            "Duration of reconciles.",
            ["controller"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        queue = vitals.queue
        self._gauge("appfn_queue_waiting", "Keys that wait for a worker.", lambda: queue.depth)
        self._gauge("appfn_queue_running", "Keys being reconciled.", lambda: queue.running)
        self._gauge("appfn_queue_delayed", "Keys that will be looked at again later.", lambda: queue.delayed)
        self._gauge("appfn_leader", "1 in the replica that works.", lambda: vitals.role is Role.LEADER)

    def _gauge(self, name: str, help_: str, read: Callable[[], float]) -> None:
        Gauge(name, help_, registry=self.registry).set_function(read)

    def measured(self, handler: Callable[[K], Awaitable[float | None]]) -> Callable[[K], Awaitable[float | None]]:
        """Return the handler, counted and timed."""

        async def measure(item: K) -> float | None:
            controller, result, start = self._controller(item), "ok", time.perf_counter()
            try:
                return await handler(item)
            except BaseException as error:
                result = type(error).__name__
                raise
            finally:
                self._runs.labels(controller, result).inc()
                self._seconds.labels(controller).observe(time.perf_counter() - start)

        return measure


@asynccontextmanager
async def serving(vitals: Vitals[K], metrics: Metrics[K], *, port: int) -> AsyncIterator[int]:
    """Serve until the context ends; yield the port. Port 0, for outside a pod: a free one of the loopback address."""
    runner = web.AppRunner(application(vitals, metrics), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, None if port else "127.0.0.1", port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def application(vitals: Vitals[K], metrics: Metrics[K]) -> web.Application:
    """Return the application with the three paths."""

    async def healthz(_: web.Request) -> web.Response:
        illness = vitals.illness()
        return web.Response(status=503, text=illness) if illness else web.Response(text="ok")

    async def readyz(_: web.Request) -> web.Response:
        ready = vitals.role in {Role.STANDBY, Role.LEADER}
        return web.Response(status=200 if ready else 503, text=vitals.role)

    async def metrics_page(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics_page)
    return app
