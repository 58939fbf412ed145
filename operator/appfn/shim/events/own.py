"""Appfn's own events: what happens to functions, deployments and executions, told to functions that subscribe to it.

No loops: no function is told of itself, and an execution caused by an event of a function causes no further events.
All replicas see the same change of a resource and name it alike, so that the store accepts it once.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from appfn.api.base import Json, ObjectMeta
from appfn.api.deployment import Deployment
from appfn.api.execution import Trigger
from appfn.api.function import Function
from appfn.core.events import DEPLOYMENTS, EXECUTIONS, FUNCTIONS, Event
from appfn.core.records import ExecutionRecord, ExecutionRequest
from appfn.errors import AppfnError
from appfn.shim.catalog import Catalog
from appfn.shim.events import payloads
from appfn.shim.events.delivery import Delivery, Told, counted
from appfn.shim.events.occurrence import Occurrence
from appfn.shim.metrics import Metrics

MAX_WAITING = 1000
"""Events that wait to be stored; what happens beyond is not told, but counted."""
_BATCH = 100
_TRIES = 30
_RETRY_SECONDS = 1.0
_CLOSING_SECONDS = 5.0
_SOURCE = ""
"""No CloudEvent can pass for one of ours: their sources are not empty."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Noticed:
    """An event that somebody is to be told of."""

    namespace: str
    occurrence: Occurrence
    functions: Sequence[Function]
    tries: int = 1


class OwnEvents:
    """See the module. What is noticed is told while `running`."""

    def __init__(self, *, catalog: Catalog, metrics: Metrics) -> None:
        self._catalog = catalog
        self._metrics = metrics
        self._waiting: asyncio.Queue[_Noticed] = asyncio.Queue(MAX_WAITING)
        self._trying_again = 0
        """How many events wait for another try; they hold up nobody else's."""

    @asynccontextmanager
    async def running(self, delivery: Delivery) -> AsyncIterator[None]:
        """Tell what happens while the context is open; at its end, for some seconds, what is left."""
        self._catalog.on_resource(self._resource_changed)
        telling = asyncio.create_task(self._tell_loop(delivery))
        try:
            yield
        finally:
            try:
                await asyncio.wait_for(self._waiting.join(), _CLOSING_SECONDS)
            except TimeoutError:
                _logger.warning("events of functions are lost", extra={"waiting": self._waiting.qsize()})
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    # ------------------------------------------------------------------ what happens

    def execution_created(self, record: ExecutionRecord) -> None:
        """Take in that an execution was accepted, or has run at once. Costs one look-up where nobody wants to know."""
        if self._catalog.subscriptions.curious(record.request.namespace):
            self._execution(record, "create")

    def execution_ended(self, record: ExecutionRecord) -> None:
        """Take in that an execution has ended that was accepted before."""
        if self._catalog.subscriptions.curious(record.request.namespace):
            self._execution(record, "update")

    def _execution(self, record: ExecutionRecord, action: str) -> None:
        request = record.request
        function = self._catalog.named(request.namespace, request.function)
        if function is None or function.metadata.uid != request.function_uid or _is_of_a_function(request):
            return
        event = Event(((FUNCTIONS, function.appwrite_id), (EXECUTIONS, record.id)), action)
        if subscribers := self._subscribers(function.metadata, event):
            deployment_id = self._catalog.deployment_id(request.namespace, record.deployment)
            content = payloads.execution(record, function=function, deployment_id=deployment_id)
            self._notice(subscribers, _occurrence(event, record.id, content, user_id=request.user_id))

    def _resource_changed(self, before: Function | Deployment | None, after: Function | Deployment | None) -> None:
        for resource, action, version in _changes(before, after):
            namespace = resource.metadata.namespace
            if not self._catalog.subscriptions.curious(namespace) or self._catalog.project_of(namespace) is None:
                continue
            event, subject, content = self._described(resource, action)
            if subscribers := self._subscribers(subject, event):
                self._notice(subscribers, _occurrence(event, f"{resource.metadata.uid}:{version}", content))

    def _described(self, resource: Function | Deployment, action: str) -> tuple[Event, ObjectMeta, Json]:
        """Return the event, the function it is about, and what is told of it."""
        if isinstance(resource, Function):
            event = Event(((FUNCTIONS, resource.appwrite_id),), action)
            return event, resource.metadata, payloads.function(resource, self._catalog)
        name = resource.spec.function_ref.name
        owner = self._catalog.named(resource.metadata.namespace, name)
        id_ = owner.appwrite_id if owner else name
        event = Event(((FUNCTIONS, id_), (DEPLOYMENTS, resource.appwrite_id)), action)
        return event, owner.metadata if owner else resource.metadata, payloads.deployment(resource, function_id=id_)

    def _subscribers(self, subject: ObjectMeta, event: Event) -> list[Function]:
        """Return who is to be told of an event: never the function that it is about."""
        found = self._catalog.subscriptions.matching(subject.namespace, event.names())
        return [function for function in found if function.metadata.uid != subject.uid]

    def _notice(self, functions: Sequence[Function], occurrence: Occurrence) -> None:
        self._put(_Noticed(namespace=functions[0].metadata.namespace, occurrence=occurrence, functions=functions))

    def _put(self, item: _Noticed) -> None:
        try:
            self._waiting.put_nowait(item)
        except asyncio.QueueFull:
            self._metrics.events.lost(item.namespace)

    # ------------------------------------------------------------------ telling

    async def _tell_loop(self, delivery: Delivery) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < _BATCH and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            again: list[_Noticed] = []
            try:
                again = await self._tell(delivery, batch)
            except Exception:
                _logger.exception("telling events of functions failed")
            for item in again:
                asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._again, item)
            for _ in batch[len(again) :]:  # those that are tried again are not done
                self._waiting.task_done()

    async def _tell(self, delivery: Delivery, batch: Sequence[_Noticed]) -> list[_Noticed]:
        """Store the executions of some events; return what to try again, for those functions that have got none."""
        again = []
        attempts = await delivery.attempt([(item.occurrence, item.functions) for item in batch])
        for item, results in zip(batch, attempts, strict=True):
            told = [result for result in results if isinstance(result, Told)]
            failed = [error for error in results if isinstance(error, AppfnError)]
            counts = counted([told]) | ({"events": 0} if failed else {})
            self._metrics.events.told(item.namespace, "own", **counts)
            if failed and item.tries < _TRIES and self._trying_again < MAX_WAITING:
                pairs = zip(item.functions, results, strict=True)
                left = [function for function, result in pairs if isinstance(result, AppfnError)]
                again.append(replace(item, functions=left, tries=item.tries + 1))
                self._trying_again += 1
            elif failed:
                _logger.warning("cannot store an event of a function", extra={"error": str(failed[0])})
                self._metrics.events.lost(item.namespace)
        return again

    def _again(self, item: _Noticed) -> None:
        self._trying_again -= 1
        self._put(item)
        self._waiting.task_done()


def _is_of_a_function(request: ExecutionRequest) -> bool:
    """Tell whether an execution was caused by what happened to a function, here or in another Appwrite."""
    return request.trigger is Trigger.EVENT and request.event.split(".")[0] == FUNCTIONS


def _occurrence(event: Event, what: str, content: Json, *, user_id: str = "") -> Occurrence:
    return Occurrence(
        names=event.names(),
        id=f"{what}:{event.action}",
        source=_SOURCE,
        data=json.dumps(content, ensure_ascii=False, separators=(",", ":")),
        user_id=user_id,
    )


def _changes(
    before: Function | Deployment | None, after: Function | Deployment | None
) -> Iterator[tuple[Function | Deployment, str, str]]:
    """Yield resource, action, and what tells this change from others of the same kind."""
    same = before is not None and after is not None and before.metadata.uid == after.metadata.uid
    if before is not None and not same:
        yield before, "delete", ""
    if after is not None and not same:
        yield after, "create", ""
    if before is not None and after is not None and same and not after.metadata.deletion_timestamp:
        version = _version(after)
        if version != _version(before):
            yield after, "update", version


def _version(resource: Function | Deployment) -> str:
    """Return what is another one when there is something to tell; all who see the resource find the same."""
    if isinstance(resource, Function):
        return str(resource.metadata.generation)
    status = resource.status
    attempts = sum(build.attempt for build in status.builds)
    return f"{resource.metadata.generation}:{status.phase or ''}:{attempts}:{status.retry_token}"
