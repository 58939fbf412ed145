"""Makes executions of events: each matched function gets one, durably, whatever is repeated."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from appfn.api.execution import Trigger
from appfn.api.function import Function
from appfn.core.records import ExecutionRequest, Origin
from appfn.errors import AppfnError, IdempotencyError
from appfn.shim.events.occurrence import Occurrence
from appfn.shim.events.subscriptions import Subscriptions
from appfn.shim.executor import Executor
from appfn.shim.ids import new_execution_id

MAX_BYTES = 16 * 1024 * 1024
"""Of data that is given to the store at once; more goes in several transactions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a matched function got."""

    function: Function
    execution_id: str = ""
    """Empty where it got none."""
    skipped: str = ""
    """Why it got none: it is `disabled`, or the execution that it got by an earlier delivery was `deleted`."""
    new: bool = False
    """Whether it was accepted now; an earlier delivery of the same event may have done so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """See the module."""

    executor: Executor
    subscriptions: Subscriptions

    def match(self, namespace: str, occurrence: Occurrence) -> list[Function]:
        """Return the functions that an event of a namespace executes, the disabled ones too."""
        return self.subscriptions.matching(namespace, occurrence.names)

    async def tell(self, matched: Sequence[tuple[Occurrence, Sequence[Function]]]) -> list[list[Told]]:
        """Return what functions got of each event when all of it is committed.

        An error leaves nothing half done that the same call would not complete: who was told already is not told again.

        Raises:
            QueueFullError: too many executions of a function wait.
            TransientError: the store can't answer.
        """
        attempts = await self.attempt(matched)
        for item in (item for items in attempts for item in items):
            if isinstance(item, AppfnError):
                raise item
        return [[item for item in items if isinstance(item, Told)] for items in attempts]

    async def attempt(self, matched: Sequence[tuple[Occurrence, Sequence[Function]]]) -> list[list[Told | AppfnError]]:
        """As `tell`, with the error in the place of what a function would have got."""
        pairs = [(occurrence, function) for occurrence, functions in matched for function in functions]
        results: list[Told | BaseException] = []
        for portion in _portions(pairs):
            results += await asyncio.gather(*(self._accept(*pair) for pair in portion), return_exceptions=True)
        found: list[Told | AppfnError] = []
        for result in results:
            if not isinstance(result, Told | AppfnError):
                raise result
            found.append(result)
        return [[found.pop(0) for _ in functions] for _, functions in matched]

    async def _accept(self, occurrence: Occurrence, function: Function) -> Told:
        if not function.spec.enabled:
            return Told(function=function, skipped="disabled")
        request = _request(occurrence, function, id_=new_execution_id(self.executor.now()))
        try:
            record = await self.executor.enqueue(request)
        except IdempotencyError:  # without a hash, for nothing else
            return Told(function=function, skipped="deleted")
        return Told(function=function, execution_id=record.id, new=record.id == request.id)


def counted(told: Sequence[Sequence[Told]]) -> dict[str, int]:
    """Return what `EventMetrics.told` counts: events, and executions that are new or were there already."""
    executions = [item for items in told for item in items if item.execution_id]
    new = sum(item.new for item in executions)
    return {"events": len(told), "new": new, "duplicates": len(executions) - new}


def _portions(pairs: Sequence[tuple[Occurrence, Function]]) -> list[list[tuple[Occurrence, Function]]]:
    """Part what is to be told, so that the data of no part is large."""
    portions: list[list[tuple[Occurrence, Function]]] = []
    size = MAX_BYTES
    for pair in pairs:
        size += len(pair[0].data)
        if size >= MAX_BYTES:
            portions.append([])
            size = len(pair[0].data)
        portions[-1].append(pair)
    return portions


def _request(occurrence: Occurrence, function: Function, *, id_: str) -> ExecutionRequest:
    return ExecutionRequest(
        id=id_,
        namespace=function.metadata.namespace,
        function=function.metadata.name,
        function_uid=function.metadata.uid,
        origin=Origin.EVENT,
        trigger=Trigger.EVENT,
        event=occurrence.names[0],
        event_data=occurrence.data,
        permissions=occurrence.permissions,
        # Without a hash of the body: who sends an event again with other data is not believed.
        idempotency_key=f"event:{function.metadata.uid}:{occurrence.key}",
        max_attempts=function.spec.retry.max_attempts,
    )
