"""Runs executions: a sync one at once, an async one through the durable queue.

Sync without an idempotency key: dispatched right away, recorded when it ended. All else is committed to the store
before anything is answered, and run by a worker (`worker.py`); a sync caller with a key waits for the worker's result,
so that a repeated call finds the first one whatever happened to this process meanwhile.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec.structs import replace

from appfn.api.execution import Component, ExecutionPhase, Failure, FailureReason
from appfn.core import variables
from appfn.core.records import ExecutionRecord, ExecutionRequest, Invocation, Outcome
from appfn.errors import InvalidSpecError, QueueFullError
from appfn.shim.auth.users import Users
from appfn.shim.callee import Callee
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.metrics import Metrics
from appfn.shim.ports import Invoker, Listener
from appfn.shim.rollouts import Rollouts
from appfn.shim.variables import VariableResolver
from appfn.store.executions import ExecutionStore

_FAILED_STATUS = 500
_LOOK_AGAIN_SECONDS = 1.0
"""Pause between looks for the end of an execution that another replica runs; our own workers tell at once."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor:
    """See the module."""

    store: ExecutionStore
    invoker: Invoker
    resolver: VariableResolver
    metrics: Metrics
    endings: "Endings"
    rollouts: Rollouts
    users: Users
    listener: Listener
    queue_limit: int
    pod_start_seconds: float
    """How long a call may wait for a pod."""
    now: Callable[[], datetime]

    def refuse_overload(self, callee: Callee) -> None:
        """Raise QueueFullError where a call would find its function's queue full."""
        uid, deployment_uid = callee.function.metadata.uid, callee.deployment.metadata.uid
        seconds = self.invoker.overloaded(uid, deployment_uid)
        if seconds is not None:
            raise QueueFullError("As many calls of the function wait as may wait.", retry_after=seconds)

    async def run(self, callee: Callee, request: ExecutionRequest, *, created: datetime) -> ExecutionRecord:
        """Run an execution now and return its record, terminal. At most once; recorded even where we are stopped.

        Raises:
            QueueFullError: nothing was accepted.
            TransientError: it was not started.
        """
        callee = self.rollouts.serving(callee)
        try:
            outcome = await self.attempt(callee, request)
        except asyncio.CancelledError:
            await self._record(callee, request, created=created, outcome=executor_lost())
            raise
        return await self._record(callee, request, created=created, outcome=outcome)

    async def enqueue(self, request: ExecutionRequest) -> ExecutionRecord:
        """Commit an execution to the queue, or find the one that its idempotency key stands for.

        Raises:
            IdempotencyError: the key was used for another request.
            QueueFullError: nothing was accepted.
            TransientError: the store can't answer.
        """
        record, created = await self.store.accept(request, queue_limit=self.queue_limit)
        if created:
            self.metrics.accepted(request)
            self.listener.execution_created(record)
        return record

    async def wait(self, record: ExecutionRecord, *, within: float) -> ExecutionRecord:
        """Return an accepted execution when it is terminal.

        Raises:
            AppwriteError: function_synchronous_timeout; the execution goes on.
        """
        try:
            async with asyncio.timeout(within):
                while not record.phase.terminal:
                    with self.endings.waiting(record.id) as ended:
                        found = await self.store.get(record.request.namespace, record.id)
                        if found is None:
                            raise AppwriteError(Problem.EXECUTION_NOT_FOUND)
                        record = found
                        if not record.phase.terminal:
                            await _first(ended, within=_LOOK_AGAIN_SECONDS)
        except TimeoutError:
            message = f"Synchronous function execution timed out. Execution {record.id} goes on."
            raise AppwriteError(Problem.SYNCHRONOUS_TIMEOUT, message) from None
        return record

    async def attempt(
        self,
        callee: Callee,
        request: ExecutionRequest,
        *,
        on_start: Callable[[], Awaitable[None]] | None = None,
    ) -> Outcome:
        """Run one attempt; raises as `Invoker.invoke` does."""
        try:
            own = await self.resolver.resolve(callee.function) if callee.function.spec.variables else {}
        except InvalidSpecError as error:
            return failed(FailureReason.VARIABLE_UNAVAILABLE, str(error))
        if request.jwt:
            request = replace(request, jwt=self.users.token(callee.project, request.jwt))
        invocation = _invocation(callee, request, own)
        outcome = await self.invoker.invoke(invocation, callee.runtime, callee.function, on_start=on_start)
        return outcome if callee.function.spec.logging else _without_logs(outcome)

    async def _record(
        self,
        callee: Callee,
        request: ExecutionRequest,
        *,
        created: datetime,
        outcome: Outcome,
    ) -> ExecutionRecord:
        finished = self.now()
        record = ExecutionRecord(
            request=replace(request, jwt="") if request.jwt else request,
            phase=outcome.phase,
            created_at=created,
            updated_at=finished,
            deployment=callee.deployment.metadata.name,
            attempt=1,
            started_at=max(created, finished - timedelta(seconds=outcome.duration)),
            finished_at=finished,
            memory_mb=callee.memory_mb,
            outcome=outcome,
        )
        self.metrics.finished(request, outcome)
        await self.store.record(record)
        self.listener.execution_created(record)
        return record


class Endings:
    """Tells those who wait for an execution in this process that it ended."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def waiting(self, execution_id: str) -> "_Waiting":
        """Return a context whose event is set when the execution ends while the context is open."""
        return _Waiting(self._waiting, execution_id)

    def ended(self, execution_id: str) -> None:
        """Tell."""
        for event in self._waiting.get(execution_id, ()):
            event.set()


class _Waiting:
    def __init__(self, waiting: defaultdict[str, set[asyncio.Event]], execution_id: str) -> None:
        self._waiting = waiting
        self._id = execution_id
        self._event = asyncio.Event()

    def __enter__(self) -> asyncio.Event:
        self._waiting[self._id].add(self._event)
        return self._event

    def __exit__(self, *_: object) -> None:
        self._waiting[self._id].discard(self._event)
        if not self._waiting[self._id]:
            del self._waiting[self._id]


async def _first(event: asyncio.Event, *, within: float) -> None:
    try:
        async with asyncio.timeout(within):
            await event.wait()
    except TimeoutError:
        return


def failed(reason: FailureReason, message: str) -> Outcome:
    """Return the outcome of an execution that never reached its function; `message` is fit for the caller."""
    return Outcome(
        phase=ExecutionPhase.FAILED,
        status_code=_FAILED_STATUS,
        stderr=message,
        failure=Failure(component=Component.DISPATCHER, reason=reason, message=message),
    )


def executor_lost() -> Outcome:
    """Return the outcome of an execution whose end nobody saw."""
    message = "The executor was stopped before the function answered; whether it finished is unknown."
    return Outcome(
        phase=ExecutionPhase.FAILED,
        status_code=_FAILED_STATUS,
        stderr=message,
        failure=Failure(component=Component.EXECUTOR, reason=FailureReason.EXECUTOR_LOST, message=message),
    )


def _without_logs(outcome: Outcome) -> Outcome:
    """Return an outcome without what the code printed; why it failed is ours and stays."""
    return replace(outcome, stdout="", stderr=outcome.stderr if outcome.failure else "")


def _invocation(callee: Callee, request: ExecutionRequest, own: dict[str, str]) -> Invocation:
    function, deployment = callee.function, callee.deployment
    return Invocation(
        execution_id=request.id,
        namespace=request.namespace,
        function=request.function,
        function_uid=request.function_uid,
        deployment=deployment.metadata.name,
        deployment_uid=deployment.metadata.uid,
        entrypoint=callee.entrypoint,
        artifacts=callee.artifacts,
        variables={**own, **callee.constants, **variables.of_request(request)},
        payload=variables.payload(request),
        headers=request.headers,
        timeout=function.spec.timeout,
    )
