"""The public face of dispatch: run an invocation in a runtime pod, keep the pods that are wanted.

async with Dispatcher(cluster=…, artifacts=…, master_key=…, config=…, image=…) as dispatcher:
    dispatcher.sync(targets)                     # each time the caller's caches change
    outcome = await dispatcher.invoke(invocation, runtime, function, on_start=mark_begun)
    await dispatcher.drain(seconds)              # at shutdown, before leaving the context
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from appfn.api.function import Function
from appfn.api.runtime import Architecture, Runtime
from appfn.config import ShimConfig
from appfn.core.records import Invocation, Outcome
from appfn.kube.protocols import Reader, Watcher, Writer


class PodCluster(Reader, Writer, Watcher, Protocol):
    """What dispatch asks of Kubernetes: list, create, delete and watch pods."""


class ArtifactSource(Protocol):
    """Where built tarballs come from."""

    async def open(self, namespace: str, digest: str) -> tuple[int, AsyncIterator[bytes]]:
        """Return size in bytes and content; raises `LookupError` or an `AppfnError` where it cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where a runtime pod listens."""

    runtime: int = 3000
    agent: int = 3001


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What should be running of one function: its active deployment, ready to be loaded."""

    function: Function
    runtime: Runtime
    deployment: str
    """Resource name."""
    deployment_uid: str
    entrypoint: str
    artifacts: Mapping[Architecture, str]
    """Digest of the built artifact per architecture that is ready."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment of pods that are loaded ahead of a call; matters only with `minReplicas`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """What one function has at this moment, all its deployments together."""

    ready: int = 0
    starting: int = 0
    draining: int = 0
    queued: int = 0
    """Calls that wait for a pod."""
    in_flight: int = 0
    """Calls that run."""


class Dispatcher:
    """Runs invocations in pods of its own; nobody else touches those pods."""

    def __init__(
        self,
        *,
        cluster: PodCluster,
        artifacts: ArtifactSource,
        master_key: bytes,
        config: ShimConfig,
        image: str,
        ports: Ports | None = None,
    ) -> None:
        """`image` is appfn's own (the agent's); `master_key` is what load tokens and runtime keys are derived from."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything and delete the pods, best effort within two seconds; call `drain` first."""
        raise NotImplementedError

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
        raise NotImplementedError

    def sync(self, targets: Mapping[str, Target]) -> None:
        """Take the whole truth of what should run, by function uid; cheap, meant to be called at every change.

        `minReplicas` pods of each target are kept loaded. Pods of other deployments, of functions that are absent and
        of outdated pod settings finish their calls and are deleted. Pods that an earlier process under this replica's
        name has left in the targets' namespaces are deleted.
        """
        raise NotImplementedError

    def replicas(self, function_uid: str) -> Replicas:
        """Return what a function has now."""
        raise NotImplementedError

    def functions(self) -> Mapping[tuple[str, str], Replicas]:
        """Return what every function that has pods or calls has now, by (namespace, function name); for /metrics."""
        raise NotImplementedError

    def counters(self) -> Mapping[str, int]:
        """Return counters since start, for /metrics: pods_created, pods_failed, pods_lost, pods_deleted, calls."""
        raise NotImplementedError

    async def drain(self, seconds: float) -> bool:
        """Accept nothing more, wait until all accepted calls ended; False where some still run after `seconds`."""
        raise NotImplementedError
