"""The public face of dispatch: run an invocation in a runtime pod, keep the pods that are wanted.

Example:
    async with Dispatcher(cluster=…, watcher=…, artifacts=…, master_key=…, config=…, image=…) as dispatcher:
        dispatcher.sync(targets)  # each time the caller's caches change
        outcome = await dispatcher.invoke(invocation, runtime, function, on_start=mark_begun)
        await dispatcher.drain(seconds)  # at shutdown, before leaving the context

One dispatcher per process of a shim. It uses only pods that carry its own label, and nobody else touches those; so
limits per pod hold without asking anyone. `minReplicas` and `maxReplicas` are therefore per replica of the shim, whose
processes share them out.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self, TypeAlias

from msgspec import structs

from appfn import names
from appfn.api.base import Json
from appfn.api.function import Function
from appfn.api.kinds import POD, Key
from appfn.api.runtime import Runtime
from appfn.config import ShimConfig
from appfn.core.manifests.meta import controller_uid, selector
from appfn.core.records import Invocation, Outcome, Times
from appfn.core.shares import Part
from appfn.dispatch import failures
from appfn.dispatch.adoption import Adoption, Home
from appfn.dispatch.call import Call, CallServices
from appfn.dispatch.connections import HttpUpstream
from appfn.dispatch.failures import NotServedError
from appfn.dispatch.fleet import Fleet, PodCluster
from appfn.dispatch.group import Group
from appfn.dispatch.group_services import GroupServices, Standing
from appfn.dispatch.launcher import ArtifactSource, Code, Launcher, LaunchSettings, Ports
from appfn.dispatch.pod import milliseconds
from appfn.dispatch.source import Source
from appfn.dispatch.stats import Counters, Replicas
from appfn.dispatch.target import Target, code_of
from appfn.dispatch.tasks import Tasks, Work
from appfn.dispatch.tokens import load_token_hash
from appfn.dispatch.waiting import Slot
from appfn.errors import TransientError
from appfn.kube.protocols import Watcher

__all__ = ["ArtifactSource", "Counters", "Dispatcher", "Place", "PodCluster", "Ports", "Replicas", "Target"]

_TRIES: Final = 3
"""Pods that a call tries which take no connection."""
_HANDOVER_SECONDS: Final = 5.0
"""How long a deployment stays at least once another is to take over: calls to it may be on their way."""
_SHIMS: Final = selector({"app.kubernetes.io/name": "appfn-shim"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where this replica of the shim is."""

    namespace: str
    image: str
    """appfn's own, which agents run."""
    announce_url: str
    """Where the agents of its pods announce themselves."""


_GroupKey: TypeAlias = tuple[str, str]
"""Uids of a function and of a deployment."""


class Dispatcher:
    """Runs invocations in pods of its own."""

    def __init__(
        self,
        *,
        cluster: PodCluster,
        watcher: Watcher,
        artifacts: ArtifactSource,
        master_key: bytes,
        config: ShimConfig,
        place: Place,
        ports: Ports | None = None,
    ) -> None:
        """`master_key` is what load tokens and runtime keys are derived from.

        Must be called within a running event loop.
        """
        now = asyncio.get_running_loop().time
        self._ports: Final = ports or Ports()
        self._now: Final = now
        self._tasks: Final = Tasks()
        self._work: Final = Work()
        self._counters: Final = Counters()
        self._part: Final = Part.of(config)
        replica, former = self._part.replica(config.replica), self._part.former(config.replica)
        self._upstream: Final = HttpUpstream()
        self._cluster: Final = cluster
        self._namespace: Final = place.namespace
        self._fleet: Final = Fleet(
            cluster=cluster,
            watcher=watcher,
            replica=replica,
            former=former,
            tasks=self._tasks,
            replicas=self._replicas,
        )
        settings = LaunchSettings(
            replica=replica,
            agent_image=place.image,
            announce_url=place.announce_url,
            master_key=master_key,
            ports=self._ports,
            start_seconds=config.pod_start_seconds,
        )
        self._launcher: Final = Launcher(
            settings=settings,
            cluster=cluster,
            fleet=self._fleet,
            upstream=self._upstream,
            artifacts=artifacts,
            tasks=self._tasks,
            now=now,
        )
        adoption = Adoption(
            settings=settings,
            cluster=cluster,
            fleet=self._fleet,
            upstream=self._upstream,
            tasks=self._tasks,
            find_home=self._home,
            now=now,
        )
        self._fleet.on_orphan = adoption.consider
        self._services: Final = GroupServices(
            launcher=self._launcher,
            fleet=self._fleet,
            tasks=self._tasks,
            counters=self._counters,
            queue_limit=config.sync_queue_limit,
            wait_seconds=config.pod_start_seconds,
            now=now,
        )
        self._call_services: Final = CallServices(
            upstream=self._upstream, tasks=self._tasks, port=self._ports.runtime, now=now
        )
        self._groups: Final[dict[_GroupKey, Group]] = {}
        self._targets: Mapping[str, Target] = {}
        self._outgoing: Final[dict[_GroupKey, float]] = {}
        """Deployments that serve on until their successors are loaded, and since when."""
        self._replaced: Final[set[Group]] = set()
        """Groups that finish their work under an outdated pod template."""
        self._closing = False

    async def __aenter__(self) -> Self:
        self._fleet.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything and delete the pods, best effort within two seconds; call `drain` first."""
        self._closing = True
        for group in self._all_groups():
            group.close(failures.executor_lost())
        await self._fleet.close()
        await self._tasks.cancel()
        await self._upstream.close()

    async def invoke(
        self,
        invocation: Invocation,
        runtime: Runtime,
        function: Function,
        *,
        on_start: Callable[[], Awaitable[None]] | None = None,
    ) -> Outcome:
        """Run one attempt and return how it ended; never raises for what a function or its pod does.

        `on_start` is awaited right before the request is sent, at most once; if it raises, nothing is sent and its
        exception comes out of here. Cancelling the caller does not stop a request that was sent: its slot stays taken
        until it ends.

        Raises:
            QueueFullError: at once, with nothing accepted.
            TransientError: the dispatcher is shutting down and this call was not started.
        """
        if self._closing:
            raise TransientError("the dispatcher is shutting down", retry_after=1.0)
        with self._work:
            group = self._groups.get((function.metadata.uid, invocation.deployment_uid))
            if group is None or not group.serves(invocation, runtime, function):
                group = self._group(Source(function, runtime, self._part), code_of(invocation))
            return await self._invoke(group, invocation, on_start)

    def sync(self, targets: Mapping[str, Target]) -> None:
        """Take the whole truth of what should run, by function uid; cheap, meant to be called at every change.

        `minReplicas` pods of each target are kept loaded. Pods of other deployments, of functions that are absent and
        of outdated pod settings finish their calls and are deleted. Pods that nobody uses any more are adopted or
        deleted, in all namespaces of the targets.

        Calls go to the deployment their invocation names, so a caller switches over by resolving to the new one. With
        `minReplicas`, `ready` tells when that costs nobody a cold start; until then, and a little longer for calls that
        are on their way, the deployment before stays as it is.
        """
        if self._closing:
            return
        self._targets = targets
        called = {uid for uid, _ in self._groups}
        wanted: set[_GroupKey] = set()
        for uid, target in targets.items():
            if uid not in called and not target.function.spec.scaling.min_replicas:
                continue  # as most of thousands
            key = (uid, target.deployment_uid)
            wanted.add(key)
            if target.function.spec.scaling.min_replicas:
                self._hand_over(key)
            if key in self._groups or target.function.spec.scaling.min_replicas:
                source = Source(target.function, target.runtime, self._part)
                self._group(source, target.code()).stand(Standing.TARGET)
        self._retire(wanted)
        self._fleet.survey({target.function.metadata.namespace for target in targets.values()})

    def announce(self, namespace: str, pod: str, *, address: str, own_token: bool) -> str:
        """Take in that the agent of a pod listens at an IP address; return the hash of the token a load will bring.

        `own_token`: the pod has proved that it is this one, not only one of its deployment.
        """
        key = Key(namespace, pod)
        self._fleet.announce(key, address, own_token=own_token)
        return load_token_hash(self._launcher.load_token(key))

    def overloaded(self, function_uid: str, deployment_uid: str) -> float | None:
        """Return after how many seconds to come back where `invoke` would find the deployment's queue full now."""
        group = self._groups.get((function_uid, deployment_uid))
        return group.retry_after if group is not None else None

    def ready(self, function_uid: str, deployment_uid: str) -> int:
        """Return how many loaded pods a deployment has."""
        group = self._groups.get((function_uid, deployment_uid))
        return group.replicas().ready if group is not None else 0

    def replicas(self, function_uid: str) -> Replicas:
        """Return what a function has now, all its deployments together."""
        mine = (group for (uid, _), group in self._groups.items() if uid == function_uid)
        return sum((group.replicas() for group in mine), Replicas())

    def functions(self) -> Mapping[tuple[str, str], Replicas]:
        """Return what every function that has pods or calls has now, by (namespace, function name); for /metrics."""
        found: defaultdict[tuple[str, str], Replicas] = defaultdict(Replicas)
        for group in self._all_groups():
            found[group.template.namespace, group.template.function] += group.replicas()
        return {name: replicas for name, replicas in found.items() if replicas != Replicas()}

    def counters(self) -> Counters:
        """Return counters since the start; for /metrics."""
        return replace(self._counters, pods_deleted=self._fleet.deleted)

    async def drain(self, seconds: float) -> bool:
        """Accept nothing more, wait until all accepted calls ended; False where some still run after `seconds`."""
        self._closing = True
        try:
            async with asyncio.timeout(seconds):
                await self._work.ended()
        except TimeoutError:
            return False
        return True

    async def _invoke(
        self,
        group: Group,
        invocation: Invocation,
        on_start: Callable[[], Awaitable[None]] | None,
    ) -> Outcome:
        since = self._now()
        pod = ""
        for attempt in range(_TRIES):
            try:
                slot = await group.acquire(since=since, again=attempt > 0)
            except NotServedError as error:
                waited = Times(queue_ms=milliseconds(self._now() - since))
                return structs.replace(failures.failed(error.failure), times=waited)
            if on_start is not None and attempt == 0:
                await self._begin(group, slot, on_start)
            outcome = await self._call(group, slot, invocation)
            if outcome is not None:
                return outcome
            pod = slot.pod.key.name
        return failures.failed(failures.pod_unreachable(pod))

    async def _begin(self, group: Group, slot: Slot, on_start: Callable[[], Awaitable[None]]) -> None:
        try:
            await on_start()
        except BaseException:
            group.release(slot, pod_usable=True, answered=False)
            raise

    def _call(self, group: Group, slot: Slot, invocation: Invocation) -> Awaitable[Outcome | None]:
        """Return the run of a call, which the caller's cancellation does not reach once it is sent."""

        def on_end(call: Call) -> None:
            group.end(call)
            self._work.leave()

        call = Call(self._call_services, invocation, slot, on_end=on_end)
        group.attach(call)
        self._work.enter()
        self._counters.calls += 1
        self._counters.cold_calls += slot.cold
        return call.run()

    def _group(self, source: Source, code: Code) -> Group:
        """Return the group that serves this code now; one whose pods are of an outdated template is replaced."""
        key = (source.function.metadata.uid, code.deployment.uid)
        group = self._groups.get(key)
        if group is not None and group.adopt(source, code):
            return group
        if group is not None:
            self._replaced.add(group)
            group.stand(Standing.RETIRED)
        self._groups[key] = Group(self._services, source=source, code=code, on_empty=self._forget)
        return self._groups[key]

    def _hand_over(self, key: _GroupKey) -> None:
        """Let the deployment that served before the one of `key` go on until that one is loaded."""
        function_uid, _ = key
        for other in [known for known in self._groups if known[0] == function_uid and known != key]:
            if self._groups[other].replicas().ready:
                self._outgoing.setdefault(other, self._now())
        self._outgoing.pop(key, None)

    def _retire(self, wanted: set[_GroupKey]) -> None:
        """Let all groups go that are not wanted, those that are being succeeded in their time."""
        for key in self._groups.keys() - wanted:
            if self._succeeded(key):
                self._outgoing.pop(key, None)
                self._groups[key].stand(Standing.RETIRED)
        for key in self._outgoing.keys() - self._groups.keys():
            del self._outgoing[key]
        if self._outgoing:
            asyncio.get_running_loop().call_later(_HANDOVER_SECONDS, self._look_again)

    def _succeeded(self, key: _GroupKey) -> bool:
        function_uid, _ = key
        since, target = self._outgoing.get(key), self._targets.get(function_uid)
        if since is None or target is None:
            return True
        if self._now() - since < _HANDOVER_SECONDS:
            return False
        loaded = self.ready(function_uid, target.deployment_uid)
        late = self._now() - since > self._services.wait_seconds
        return late or loaded >= Source(target.function, target.runtime, self._part).limits().minimum

    def _look_again(self) -> None:
        if not self._closing:
            self._retire({(uid, target.deployment_uid) for uid, target in self._targets.items()})

    def _home(self, pod: Json) -> Home | None:
        """Return the pods of the deployment that a pod was made for, if that is still to run."""
        deployment = controller_uid(pod)
        name = (pod["metadata"].get("labels") or {}).get(names.LABEL_FUNCTION)
        for target in self._targets.values():
            metadata = target.function.metadata
            if (metadata.namespace, metadata.name) == (pod["metadata"]["namespace"], name):
                wanted = target.deployment_uid == deployment and not self._closing
                return (
                    self._group(Source(target.function, target.runtime, self._part), target.code()) if wanted else None
                )
        return None

    async def _replicas(self) -> frozenset[str]:
        """Return the names of the shim's pods."""
        bodies = await self._cluster.list(POD, namespace=self._namespace, labels=_SHIMS)
        return frozenset(str(body["metadata"]["name"]) for body in bodies)

    def _forget(self, group: Group) -> None:
        self._replaced.discard(group)
        for key in [key for key, known in self._groups.items() if known is group]:
            del self._groups[key]

    def _all_groups(self) -> list[Group]:
        return [*self._groups.values(), *self._replaced]
