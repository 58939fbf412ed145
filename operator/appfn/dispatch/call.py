"""One request to one pod, from the first byte sent to a judged outcome."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from msgspec.structs import replace

from appfn.api.execution import Failure
from appfn.core.records import Invocation, Outcome
from appfn.dispatch import failures
from appfn.dispatch.messages import Reply
from appfn.dispatch.protocols import v2
from appfn.dispatch.tasks import Tasks
from appfn.dispatch.upstream import Address, Exchange, LostError, MalformedError, NotSentError, Upstream
from appfn.dispatch.waiting import Slot

_OBITUARY_SECONDS: Final = 1.5
"""How long a broken call waits to be told why, as with OOMKilled: the kubelet reports within a second."""
_address: Final = lru_cache(maxsize=1024)(Address)
"""For a pod it is the same for each call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallServices:
    """What all calls share."""

    upstream: Upstream
    tasks: Tasks
    port: int
    """The runtime server's."""
    now: Callable[[], float]
    """Monotonic seconds."""


class Call:
    """Owns the request: whoever asked for it may leave, the call goes on until it ends or times out.

    It costs no task of its own: the connection tells when the reply is there.
    """

    __slots__ = (
        "_aborted",
        "_began",
        "_end",
        "_exchange",
        "_invocation",
        "_on_end",
        "_seconds",
        "_services",
        "answered",
        "pod_usable",
        "slot",
    )

    def __init__(
        self,
        services: CallServices,
        invocation: Invocation,
        slot: Slot,
        *,
        on_end: Callable[["Call"], None],
    ) -> None:
        """`on_end` is called once, when the slot is to be given back."""
        self.slot: Final = slot
        self.answered = False
        """Once it has ended: whether the pod gave an answer."""
        self.pod_usable = False
        """Likewise. False: what still happens in the pod is unknown, so it must take no more calls."""
        self._services = services
        self._invocation = invocation
        self._on_end = on_end
        self._aborted: Failure | None = None
        self._exchange: Exchange | None = None
        self._seconds = 0.0
        self._began = 0.0
        self._end: asyncio.Future[Reply | Outcome] = asyncio.get_running_loop().create_future()

    def abort(self, failure: Failure) -> None:
        """End the call now, with this failure."""
        if self._aborted is None:
            self._aborted = failure
            if self._exchange is not None:
                self._exchange.close()

    async def run(self) -> Outcome | None:
        """Send and judge. None: the pod took no connection, nothing was sent. Cancelling leaves what was sent alone."""
        pod, services, invocation = self.slot.pod, self._services, self._invocation
        try:
            request = v2.encode(invocation, key=pod.runtime_key)
            self._began = services.now()
            self._exchange = await services.upstream.send(
                _address(pod.address.result(), services.port),
                request,
                seconds=float(invocation.timeout),
                limit=v2.MAX_ENVELOPE,
                on_end=self._on_reply,
            )
        except NotSentError:
            self._on_end(self)
            return None
        except BaseException:
            self.pod_usable = True  # nothing was sent
            self._on_end(self)
            raise
        if self._aborted is not None:
            self._exchange.close()
        end = await self._end
        return self._outcome(v2.decode(end) if isinstance(end, Reply) else end)

    def _outcome(self, outcome: Outcome) -> Outcome:
        """Return the outcome with what it took, the wait for the pod included."""
        seconds = self._seconds
        times = replace(self.slot.waited, run_ms=round(seconds * 1000))
        return replace(outcome, duration=seconds, cold_start=self.slot.cold, times=times)

    def _on_reply(self, end: Reply | Exception) -> None:
        self._seconds = self._services.now() - self._began
        if isinstance(end, Reply):
            # A runtime whose answer was cut off is still busy with it.
            self.answered = self.pod_usable = end.complete
            self._conclude(end)
        elif self._aborted is not None:
            self._conclude(failures.failed(self._aborted))
        elif isinstance(end, LostError):
            self._mourn()
        elif isinstance(end, TimeoutError):
            self._conclude(failures.timeout(self._invocation.timeout))
        else:
            assert isinstance(end, MalformedError)
            self._conclude(failures.failed(failures.invalid_response(str(end))))

    def _mourn(self) -> None:
        """Find out why the connection broke before the pod is given up."""
        told = asyncio.wait({self.slot.pod.ending}, timeout=_OBITUARY_SECONDS)
        obituary = self._services.tasks.spawn(told, name=f"obituary {self._invocation.execution_id}")
        obituary.add_done_callback(self._bury)  # not in the task: it may be cancelled, even before it begins

    def _bury(self, _: object) -> None:
        pod = self.slot.pod
        why = pod.ending.result() if pod.ending.done() else "the connection broke"
        self._seconds = self._services.now() - self._began
        self._conclude(failures.failed(self._aborted or failures.pod_lost(pod.key.name, why)))

    def _conclude(self, end: Reply | Outcome) -> None:
        if not self._end.done():  # else whoever asked has left
            self._end.set_result(end)
        self._on_end(self)
