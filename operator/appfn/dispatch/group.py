"""All pods of one deployment of one function, and the calls that wait for them.

Everything here runs on the event loop's thread, and between two awaits the state is whole; so there are no locks. Each
change ends in `_step`: hand free slots to the queue, decide, act on the plan, set one timer for the next look.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from msgspec import structs

from appfn import names
from appfn.api.base import Json
from appfn.api.execution import Failure
from appfn.api.function import Function
from appfn.api.runtime import Architecture, Runtime
from appfn.core.manifests.runtime_pod import template_digest
from appfn.core.records import Invocation, Times
from appfn.dispatch import failures
from appfn.dispatch.call import Call
from appfn.dispatch.failures import NotServedError
from appfn.dispatch.group_services import GroupServices, Standing
from appfn.dispatch.launcher import Code, TakenError
from appfn.dispatch.pod import PodState, RuntimePod
from appfn.dispatch.scaling import Observed, Plan, PodView, decide
from appfn.dispatch.source import Source
from appfn.dispatch.stats import Replicas
from appfn.dispatch.target import code_of
from appfn.dispatch.trouble import Trouble
from appfn.dispatch.waiting import Line, Slot, Waiter
from appfn.errors import QueueFullError

_log = logging.getLogger(__name__)

_NOT_AT_ALL: Final = Times()
_RETRY_AFTER: Final = 1.0
"""Seconds a caller is told to wait when the queue is full."""
_LOST_CLAIMS: Final = 3
"""Claims lost in a row after which a pod is made: others may empty the pools faster than we hear of it."""


class Group:
    """Pods and queue of one deployment under one pod template."""

    def __init__(
        self,
        services: GroupServices,
        *,
        source: Source,
        code: Code,
        on_empty: Callable[["Group"], None],
    ) -> None:
        """`on_empty` is called when a retired group has nothing left."""
        self.template: Final = source.template()
        self._services = services
        self._source = source
        self._known_code = code
        self._latest: Invocation | None = None
        """The last call, where what pods are loaded with is to be found anew."""
        self._limits = source.limits()
        self._room = source.room(services.queue_limit)
        self._on_empty = on_empty
        self._standing = Standing.CALLED
        self._closed = False
        self._pods: dict[str, RuntimePod] = {}
        self._launches: dict[str, asyncio.Task[None]] = {}
        self._calls: defaultdict[str, set[Call]] = defaultdict(set)
        self._queue: Final = Line()
        self._trouble: Final = Trouble()
        self._lost_claims = 0
        self._full = False
        """No more pods may be made now: for calls that come and go while others wait, there is nothing to decide."""
        self._timer: asyncio.TimerHandle | None = None

    def serves(self, invocation: Invocation, runtime: Runtime, function: Function) -> bool:
        """Tell, at once, whether a call needs nothing but these pods: its settings are the very objects seen last."""
        if function is not self._source.function or runtime is not self._source.runtime:
            return False
        self._latest = invocation
        return True

    def adopt(self, source: Source, code: Code) -> bool:
        """Take newer settings; False where they need other pods than these."""
        if code.variables is None:  # pods that are started for calls in the queue must have their environment
            code = structs.replace(code, variables=self._code.variables)
        if source.same(self._source):
            self._known_code, self._latest = code, None
            return True
        if source.older(self._source):
            return True
        if source.template() != self.template:
            return False
        self._source, self._known_code, self._latest, self._limits = source, code, None, source.limits()
        self._room = source.room(self._services.queue_limit)
        self.step()
        return True

    def stand(self, standing: Standing) -> None:
        """Be told whether the group should be there."""
        if standing is not self._standing:
            self._standing = standing
            self.step()

    async def acquire(self, *, since: float, again: bool = False) -> Slot:
        """Return a slot, in the order of asking; `since`: when the call came in.

        A call that comes `again`, because its pod took no connection, is first in the queue.

        Raises:
            QueueFullError: at once.
            NotServedError: no pod within the time a call may wait, or it is certain that there will be none.
            TransientError: the group is being closed.
        """
        if not self._queue and (pod := self._free_pod()) is not None:
            if again:
                return self._grant(pod, since)
            pod.in_flight += 1
            return Slot(pod=pod, cold=False, waited=_NOT_AT_ALL)
        if not self._architectures():
            raise NotServedError(failures.no_architecture())
        if self.retry_after is not None and not again:
            message = f"{len(self._queue)} executions of function {self.template.function} are waiting already"
            raise QueueFullError(message, retry_after=self.retry_after)
        return await self._wait(Waiter(since), first=again)

    @property
    def _code(self) -> Code:
        """What pods are loaded with: those that are started for calls in the queue must have their environment."""
        if self._latest is not None:
            self._known_code, self._latest = code_of(self._latest), None
        return self._known_code

    @property
    def retry_after(self) -> float | None:
        """Seconds after which to try again where the queue is full, else None."""
        return _RETRY_AFTER if len(self._queue) >= self._room else None

    def release(self, slot: Slot, *, pod_usable: bool, answered: bool) -> None:
        """Give a slot back. `answered`: the pod has answered a call."""
        pod = slot.pod
        pod.in_flight -= 1
        pod.idle_since = self._services.now()
        if answered:
            pod.served += 1
            self._trouble.over()
        if self._closed:
            return  # what still runs in the pod may end; whoever comes after us asks it
        if not pod_usable or pod.state is PodState.DRAINING:
            self._discard(pod)
        elif self._settled or (self._full and self._hand_on(pod)):
            return
        self.step()

    def attach(self, call: Call) -> None:
        """Tell that a call runs in its slot, so that it ends when its pod vanishes."""
        self._calls[call.slot.pod.key.name].add(call)

    def end(self, call: Call) -> None:
        """Undo `attach`, and give the slot back."""
        self._calls[call.slot.pod.key.name].discard(call)
        self.release(call.slot, pod_usable=call.pod_usable, answered=call.answered)

    @property
    def timeout(self) -> float:
        """Seconds a call of the function may take."""
        return self._source.function.spec.timeout

    def fits(self, pod: Json, digest: str) -> bool:
        """Tell whether a pod is one like those made now, with this deployment's artifact in it."""
        metadata = pod["metadata"]
        try:
            architecture = Architecture(metadata["labels"][names.LABEL_ARCHITECTURE])
            wanted = template_digest(self.template, architecture)
        except (KeyError, ValueError):
            return False
        made = (metadata.get("annotations") or {}).get(names.ANNOTATION_TEMPLATE)
        return made == wanted and digest == self._code.artifacts.get(architecture)

    def take_in(self, pod: RuntimePod) -> None:
        """Use a pod that is loaded, and that nobody used any more."""
        self._know(pod)
        pod.idle_since = self._services.now()
        self.step()

    def replicas(self) -> Replicas:
        """Return what the group has now."""
        return Replicas.of(self._pods.values(), queued=len(self._queue))

    def close(self, failure: Failure) -> None:
        """Stop at once: running calls end with the failure, waiting ones are not served. Pods are left to the fleet."""
        self._closed = True
        self._set_timer(None)
        for launch in list(self._launches.values()):
            launch.cancel()
        for calls in self._calls.values():
            for call in list(calls):
                call.abort(failure)
        self._queue.close()

    @property
    def _settled(self) -> bool:
        """Tell whether a pod that falls idle calls for nothing: nobody waits, and the idle are looked after in time.

        The timer that is set may go off before a pod has been idle for long enough: then it is set anew.
        """
        if self._queue or self._standing is Standing.RETIRED:
            return False
        kept = self._limits.minimum if self._standing is Standing.TARGET else 0
        return self._timer is not None or len(self._pods) <= kept

    def step(self) -> None:
        """Bring pods and queue in line with what is wanted."""
        if self._closed:
            return
        while self._queue and (free := self._free_pod()) is not None:
            self._hand_on(free)
        plan = decide(self._observed(), self._services.now())
        self._full = plan.full
        self._act(plan)
        if self._standing is Standing.RETIRED and not self._pods and not self._queue:
            self._on_empty(self)

    async def _wait(self, waiter: Waiter, *, first: bool) -> Slot:
        self._queue.join(waiter, first=first)
        if not self._full:
            self.step()
        left = waiter.since + self._services.wait_seconds - self._services.now()
        try:
            async with asyncio.timeout(left):
                answer = await waiter.answer
        except TimeoutError:
            why = self._trouble.expired(self._pods.values(), waited=self._services.wait_seconds)
            answer = self._abandon(waiter) or why
            self.step()
        except BaseException:
            if (granted := self._abandon(waiter)) is not None:
                self.release(granted, pod_usable=True, answered=False)
            self.step()
            raise
        if isinstance(answer, Failure):
            raise NotServedError(answer)
        return answer

    def _abandon(self, waiter: Waiter) -> Slot | None:
        """Leave the queue; return the slot that was granted in the same moment, if one was."""
        self._queue.leave(waiter)
        return waiter.granted()

    def _grant(self, pod: RuntimePod, since: float) -> Slot:
        pod.in_flight += 1
        cold = pod.timeline.loaded > since
        return Slot(pod=pod, cold=cold, waited=pod.timeline.waited(since, self._services.now()))

    def _hand_on(self, pod: RuntimePod) -> bool:
        """Give a slot that has come free to the call that waits longest; False where none does, or none is free."""
        while self._queue and pod.in_flight < self._limits.concurrency:  # which may have been lowered
            waiter = self._queue.next()
            if not waiter.answer.done():
                waiter.answer.set_result(self._grant(pod, waiter.since))
                return True
        return False

    def _free_pod(self) -> RuntimePod | None:
        """Return the pod for the next call: the least busy, and the last used among equals: the others fall idle."""
        best = None
        for pod in self._pods.values():
            if pod.in_flight < self._limits.concurrency and pod.state is PodState.READY:
                order = pod.in_flight, -pod.idle_since
                if best is None or order < best[0]:
                    best = order, pod
        return None if best is None else best[1]

    def _observed(self) -> Observed:
        limits = self._limits
        return Observed(
            limits=limits if self._standing is Standing.TARGET else replace(limits, minimum=0),
            queued=len(self._queue),
            pods=[
                PodView(name=name, state=pod.state, in_flight=pod.in_flight, idle_since=pod.idle_since)
                for name, pod in self._pods.items()
            ],
            retired=self._standing is Standing.RETIRED,
            troubled=self._trouble.tries > 0,
            not_before=self._trouble.not_before,
        )

    def _act(self, plan: Plan) -> None:
        for name in plan.stop:
            self._discard(self._pods[name])
        candidates = self._architectures()
        for _ in range(plan.start if candidates else 0):
            # A failure may be the architecture's: no node has it, or its image is missing.
            self._start(candidates[self._trouble.tries % len(candidates)])
        self._set_timer(plan.wake_at)

    def _architectures(self) -> list[Architecture]:
        return [each for each in self._code.artifacts if each in self.template.images]

    def _start(self, architecture: Architecture) -> None:
        launcher = self._services.launcher
        claimed = launcher.claim(self.template, architecture) if self._lost_claims < _LOST_CLAIMS else None
        pod = claimed or launcher.draft(self.template, self._code, architecture)
        self._know(pod)
        self._launches[pod.key.name] = self._services.tasks.spawn(self._launch(pod), name=f"launch pod {pod.key}")

    def _know(self, pod: RuntimePod) -> None:
        self._pods[pod.key.name] = pod
        pod.ending.add_done_callback(lambda _: self._on_ended(pod))
        pod.vanished.add_done_callback(lambda _: self._on_vanished(pod))

    async def _launch(self, pod: RuntimePod) -> None:
        try:
            await self._services.launcher.launch(pod, self.template, self._code)
        except TakenError as error:
            self._on_claim_lost(pod, by_others=error.by_others)
        except NotServedError as error:
            self._on_launch_failed(pod, error.failure)
        except Exception:
            # Our own mistake must not leave a pod that starts for ever and calls that wait for it.
            self._on_launch_failed(pod, failures.pod_not_started("an internal error, see the shim's log"))
            raise
        else:
            self._count(pod)
            self._lost_claims = 0
            self.step()
        finally:
            self._launches.pop(pod.key.name, None)

    def _count(self, pod: RuntimePod) -> None:
        counters = self._services.counters
        counters.pods_claimed += pod.exists
        counters.pods_created += not pod.exists

    def _on_claim_lost(self, pod: RuntimePod, *, by_others: bool) -> None:
        """Go on without a pod that is not to be had; that is nobody's failure."""
        if pod.exists:
            self._services.counters.claims_lost += 1
            self._lost_claims += 1
        self._launches.pop(pod.key.name, None)
        if by_others:
            del self._pods[pod.key.name]
            pod.advance(PodState.GONE)
            self._services.fleet.release(pod)
        else:
            self._discard(pod)
        self.step()

    def _on_launch_failed(self, pod: RuntimePod, failure: Failure) -> None:
        context = {"pod": str(pod.key), "function": self.template.function, "reason": failure.message}
        _log.warning("runtime pod did not start", extra=context)
        self._count(pod)
        self._services.counters.pods_failed += 1
        self._trouble.note(failure, created=pod.timeline.created, now=self._services.now())
        self._launches.pop(pod.key.name, None)
        self._discard(pod)
        if not any(other.state.starting or other.state is PodState.READY for other in self._pods.values()):
            self._queue.refuse_all(failure)
        self.step()

    def _on_ended(self, pod: RuntimePod) -> None:
        """Deal with a pod that ended without being asked to; while it starts, its launch deals with it."""
        if pod.state is not PodState.READY or self._closed:
            return
        context = {"pod": str(pod.key), "function": self.template.function, "reason": pod.ending.result()}
        _log.warning("runtime pod ended", extra=context)
        self._services.counters.pods_lost += 1
        if not pod.served:
            failure = failures.pod_not_started(f"pod {pod.key.name}: {pod.ending.result()}")
            self._trouble.note(failure, created=pod.timeline.created, now=self._services.now())
        self._discard(pod)
        self.step()

    def _on_vanished(self, pod: RuntimePod) -> None:
        failure = failures.pod_lost(pod.key.name, pod.ending.result())
        for call in list(self._calls.get(pod.key.name, ())):
            call.abort(failure)

    def _discard(self, pod: RuntimePod) -> None:
        """Give the pod no more calls, and delete it once those in it have ended."""
        self._full = False
        if pod.in_flight:
            if pod.state is not PodState.DRAINING:
                pod.advance(PodState.DRAINING)
            return
        name = pod.key.name
        if (launch := self._launches.pop(name, None)) is not None:
            launch.cancel()
        del self._pods[name]
        self._calls.pop(name, None)
        pod.advance(PodState.GONE)
        self._services.fleet.remove(pod)

    def _set_timer(self, at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if at is None else asyncio.get_running_loop().call_at(at, self.step)
