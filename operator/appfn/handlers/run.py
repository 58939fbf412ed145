"""`python -m appfn operator`: the one place that knows all parts of the operator and in which order they live.

health server → API client → Lease → queue, feeds, kopf. Each part that runs until it is stopped is a task of a
TaskGroup; if one ends by itself, the process ends, and whoever started it starts it again: that is the only recovery
that is always tested.
"""

import asyncio
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import DEPLOYMENT, EXECUTION, FUNCTION, RUNTIME, Key, Kind
from appfn.config import Config, load
from appfn.errors import AppfnError, ConfigError, TransientError
from appfn.handlers import registry, watching
from appfn.handlers.events import Surroundings, keys_of
from appfn.handlers.health import Metrics, Role, Vitals, serving
from appfn.handlers.sweep import Sweep
from appfn.handlers.work import EVERYTHING, ROUND, Item, Scope, Work
from appfn.kube.backoff import full_jitter
from appfn.kube.client import KubeCluster, connect
from appfn.kube.lease import LeaderElection
from appfn.kube.protocols import Reader
from appfn.reconcile import shim_client
from appfn.reconcile.queue import WorkQueue
from appfn.reconcile.registry import Controller, Dependencies, Handler, Seen, Written, controllers, feeds
from appfn.telemetry import configure_logging

logger = logging.getLogger(__name__)

END_SECONDS = 5.0
"""How long the tasks that are left may take to notice that the process ends."""
DRAIN_SECONDS = 5.0
"""How long reconciles that run may take to finish when the process is asked to stop."""
SETTLE_SECONDS = 1.0
"""How long the pools of a namespace wait for more changes: to look at them is to list all its Functions."""
_SERVED_BASE = 0.5
_SERVED_CAP = 5.0


class PartEndedError(AppfnError):
    """A part that should run until it is stopped ended by itself."""


def main(arguments: list[str]) -> int:
    """Run the operator until SIGTERM or SIGINT; return the exit code: 0 asked to stop, 1 a part died, 2 misused."""
    if arguments:
        print("usage: python -m appfn operator (configured by the environment)", file=sys.stderr)  # noqa: T201
        return 2
    try:
        config = load(os.environ)
    except ConfigError as error:
        print(f"appfn operator: {error}", file=sys.stderr)  # noqa: T201 - logging is not configured yet
        return 2
    configure_logging(config.common.log_level)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # it tells of every event it hands on
    with asyncio.Runner() as runner:
        code = runner.run(run(config))
        _end_within(END_SECONDS, code)
    return code


def _end_within(seconds: float, code: int) -> None:
    """End the process even where tasks that nobody needs any more do not: one of kopf's may wait for ever."""
    timer = threading.Timer(seconds, os._exit, [code])
    timer.daemon = True
    timer.start()


async def run(config: Config) -> int:
    """Run the operator in this process until a signal; return the exit code."""
    process = Process(config)
    process.take_signals()
    working = asyncio.create_task(process.work(), name="operator")
    asked = asyncio.create_task(process.stop.wait(), name="stop signal")
    await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if process.vitals.role is not Role.LEADER:
        working.cancel()  # a leader drains by itself
    process.vitals.role = Role.STOPPING
    await asyncio.wait({working})
    error = None if working.cancelled() else working.exception()
    for leaf in _leaves(error):
        logger.error("operator stopped", extra={"error": f"{type(leaf).__name__}: {leaf}"}, exc_info=_unexpected(leaf))
    return 0 if error is None else 1


class Process:
    """The operator's parts and what they share."""

    def __init__(self, config: Config, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.stop = asyncio.Event()
        self.queue = WorkQueue[Item]()
        self.vitals = Vitals(queue=self.queue)
        self._config = config
        self._now = now
        self._metrics = Metrics(self.vitals, controller=_controller_of)
        self._surroundings = Surroundings()
        self._seen = Seen()
        self._swept = Seen()
        self._written = Written()

    def take_signals(self) -> None:
        """Let SIGTERM and SIGINT ask this process to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)

    async def work(self) -> None:
        """Serve health, wait for the Lease, lead until `stop` is set.

        Raises:
            ExceptionGroup: what died.
        """
        kubeconfig = Path(self._config.common.kubeconfig) if self._config.common.kubeconfig else None
        async with serving(self.vitals, self._metrics, port=self._config.operator.health_port) as port:
            logger.info("health server listens", extra={"port": port})
            async with connect(kubeconfig) as cluster:
                self.vitals.role = Role.STANDBY
                async with self._election(cluster).lead():
                    self.vitals.role = Role.LEADER
                    await self._lead(cluster)

    def _election(self, cluster: KubeCluster) -> LeaderElection:
        return LeaderElection(
            cluster=cluster,
            key=Key(self._config.common.namespace, names.LEASE_OPERATOR),
            identity=self._config.operator.identity,
            manager=names.FIELD_MANAGER_OPERATOR,
            seconds=self._config.operator.lease_seconds,
            now=self._now,
        )

    async def _lead(self, cluster: KubeCluster) -> None:
        """Reconcile until `stop` is set; then let what runs finish and forget the rest."""
        loop = asyncio.get_running_loop()
        common, operator = self._config.common, self._config.operator
        token = Path(operator.token_path)
        async with shim_client.connect(common.shim_url, token_path=token, clock=loop.time) as shim:
            deps = Dependencies(
                cluster=cluster,
                shim=shim,
                config=self._config,
                now=self._now,
                mark=self._mark,
                seen=self._seen,
                written=self._written,
            )
            handler = self._metrics.measured(self._dispatcher(deps))
            async with asyncio.TaskGroup() as parts:
                # kopf comes last: when it ends it cancels what was started after it.
                reconciling = parts.create_task(self.queue.run(handler, workers=operator.workers), name="queue")
                endless = [
                    parts.create_task(_endless("feeds", feeds(deps)), name="feeds"),
                    parts.create_task(_endless("kopf", self._watch(cluster)), name="kopf"),
                ]
                self.queue.add(EVERYTHING)
                self.queue.add_after(ROUND, operator.resync_seconds)
                await self.stop.wait()
                logger.info("stopping", extra={"running": self.queue.running})
                self.queue.close()
                await asyncio.wait({reconciling}, timeout=DRAIN_SECONDS)
                for task in (reconciling, *endless):
                    task.cancel()

    async def _watch(self, cluster: KubeCluster) -> None:
        await _served(cluster, self._config.common.namespace)
        handlers = registry.registry(self._on_event, cluster.connection)
        await watching.watch(handlers, registry.settings(), restore=self.take_signals)

    def _dispatcher(self, deps: Dependencies) -> Callable[[Item], Coroutine[None, None, float | None]]:
        handlers: Mapping[Controller, Handler] = controllers(deps)
        sweep = Sweep(
            cluster=deps.cluster, mark=deps.mark, seconds=self._config.operator.resync_seconds, swept=self._swept
        )

        async def dispatch(item: Item) -> float | None:
            match item:
                case Scope():
                    return await sweep(item)
                case Work(controller, key):
                    return await handlers[controller](key)

        return dispatch

    def _mark(self, controller: Controller, key: Key, *, after: float = 0.0) -> None:
        work = Work(controller, key)
        if after > 0:
            self.queue.add_after(work, after)
        else:
            self.queue.add(work)

    def _on_event(self, kind: Kind, body: Json, *, listed: bool, gone: bool) -> None:
        version = body["metadata"]["resourceVersion"]
        self._seen.note(kind, version)
        ours = self._written.told(kind, version)
        # At the start kopf's lists tell of thousands of objects that the first sweep has marked, and of some that were
        # made since.
        swept = listed and self._swept.covers(kind, version)
        if not swept:
            for work in keys_of(kind, body, ours=ours):
                self.queue.add(work)
        known = swept if kind in {FUNCTION, RUNTIME} else listed
        match self._surroundings.note(kind, body, listed=known, gone=gone):
            case Scope() as scope:
                self.queue.add(scope)
            case Work() as work:
                self.queue.add_after(work, SETTLE_SECONDS)
            case None:
                pass


async def _served(cluster: Reader, namespace: str) -> None:
    """Return when the API server serves our kinds: kopf would not notice when they come later."""
    for kind in (FUNCTION, DEPLOYMENT, EXECUTION, RUNTIME):
        failures = 0
        while True:
            try:
                await cluster.list(kind, namespace=namespace)
                break
            except TransientError as error:
                failures += 1
                logger.warning("waiting for the resource definitions", extra={"error": str(error)})
                delay = full_jitter(failures, base=_SERVED_BASE, cap=_SERVED_CAP, random=random.random)
                await asyncio.sleep(delay)


async def _endless(name: str, part: Coroutine[None, None, None]) -> NoReturn:
    """Run a part; whatever way it ends by itself, say which it was."""
    try:
        await part
    except Exception as error:
        raise PartEndedError(f"{name} failed: {type(error).__name__}: {error}") from error
    raise PartEndedError(f"{name} ended by itself")


def _controller_of(item: Item) -> str:
    return item.controller if isinstance(item, Work) else "sweep"


def _leaves(error: BaseException | None) -> list[BaseException]:
    if error is None:
        return []
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]


def _unexpected(error: BaseException) -> BaseException | None:
    """Return the error where its traceback is worth logging."""
    cause = error.__cause__ if isinstance(error, PartEndedError) else error
    return None if isinstance(cause, AppfnError) else cause
