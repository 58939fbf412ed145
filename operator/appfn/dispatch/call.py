"""One request to one pod, from the first byte sent to a judged outcome."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from appfn.api.execution import Failure, PhaseTimes
from appfn.core.records import Invocation, Outcome
from appfn.dispatch import failures
from appfn.dispatch.messages import Reply
from appfn.dispatch.pod import RuntimePod
from appfn.dispatch.protocols import v2
from appfn.dispatch.upstream import Address, LostError, MalformedError, NotSentError, Upstream

_OBITUARY_SECONDS: Final = 1.5
"""How long a broken call waits to be told why, as with OOMKilled: the kubelet reports within a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of a call."""

    outcome: Outcome
    pod_usable: bool
    """False: what still happens in the pod is unknown, so it must take no more calls."""


_Judgement: TypeAlias = tuple[Outcome, bool]
"""An outcome without its time, and `Ended.pod_usable`."""


class Call:
    """Owns the request: whoever asked for it may leave, the call goes on until it ends or times out."""

    def __init__(self, invocation: Invocation, pod: RuntimePod, *, upstream: Upstream, port: int) -> None:
        """`port`: the runtime server's."""
        self._invocation = invocation
        self._pod = pod
        self._upstream = upstream
        self._port = port
        self._aborted: Failure | None = None
        self._task: asyncio.Task[object] | None = None

    def abort(self, failure: Failure) -> None:
        """End the call now, with this failure."""
        if self._aborted is None:
            self._aborted = failure
            if self._task is not None:
                self._task.cancel()

    async def run(self, now: Callable[[], float]) -> Ended | None:
        """Send and judge; `now` gives monotonic seconds. None: the pod took no connection, nothing was sent."""
        self._task = asyncio.current_task()
        began = now()
        try:
            outcome, pod_usable = await self._attempt()
        except NotSentError:
            return None
        seconds = now() - began
        outcome = replace(outcome, duration=seconds, times=PhaseTimes(run_ms=round(seconds * 1000)))
        return Ended(outcome=outcome, pod_usable=pod_usable)

    async def _attempt(self) -> _Judgement:
        try:
            return await self._judged() if self._aborted is None else (failures.failed(self._aborted), False)
        except asyncio.CancelledError:
            if (failure := self._abortion()) is None:
                raise
            return failures.failed(failure), False

    def _abortion(self) -> Failure | None:
        """Return why the task was cancelled by `abort`, if it was."""
        if self._aborted is not None and self._task is not None:
            self._task.uncancel()
        return self._aborted

    async def _judged(self) -> _Judgement:
        try:
            reply = await self._exchange()
        except TimeoutError:
            return failures.timeout(self._invocation.timeout), False
        except MalformedError as error:
            return failures.failed(failures.invalid_response(str(error))), False
        except LostError:
            return failures.failed(await self._obituary()), False
        # A runtime whose answer was cut off is still busy with it.
        return v2.decode(reply), reply.complete

    async def _exchange(self) -> Reply:
        request = v2.encode(self._invocation, key=self._pod.runtime_key)
        address = Address(self._pod.address.result(), self._port)
        seconds = float(self._invocation.timeout)
        return await self._upstream.call(address, request, seconds=seconds, limit=v2.MAX_ENVELOPE)

    async def _obituary(self) -> Failure:
        await asyncio.wait({self._pod.ending}, timeout=_OBITUARY_SECONDS)
        why = self._pod.ending.result() if self._pod.ending.done() else "the connection broke"
        return failures.pod_lost(self._pod.key.name, why)
