"""What the shim asks of the parts around it, as narrow as it uses them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from appfn.api.function import Function
from appfn.api.runtime import Runtime
from appfn.core.records import ExecutionRecord, Invocation, Outcome
from appfn.dispatch.dispatcher import Counters, Replicas, Target
from appfn.kube.protocols import Cluster, Watcher


class ShimCluster(Cluster, Watcher, Protocol):
    """Kubernetes."""


class Listener(Protocol):
    """Hears of executions; it must not block, and most of the time nobody listens."""

    def execution_created(self, record: ExecutionRecord) -> None:
        """Take in that an execution was accepted, or has run at once."""

    def execution_ended(self, record: ExecutionRecord) -> None:
        """Take in that an execution has ended that was accepted before."""


class Invoker(Protocol):
    """The dispatcher; see `appfn.dispatch.dispatcher.Dispatcher` for what each method promises."""

    async def invoke(
        self,
        invocation: Invocation,
        runtime: Runtime,
        function: Function,
        *,
        on_start: Callable[[], Awaitable[None]] | None = None,
    ) -> Outcome:
        """Run one attempt and return how it ended."""

    def overloaded(self, function_uid: str, deployment_uid: str) -> float | None:
        """Return after how many seconds to come back where a call would find the queue full, else None.

        Cheap, and asked before a call costs anything: most of what comes in an overload is refused by it. `invoke`
        decides anew.
        """

    def sync(self, targets: Mapping[str, Target]) -> None:
        """Take the whole truth of what should run, by function uid."""

    def announce(self, namespace: str, pod: str, *, address: str, own_token: bool) -> str:
        """Take in that a pod's agent listens at an IP address; return the hash of the token a load will bring.

        `own_token`: the pod has proved that it is this one, not only one of its deployment.
        """

    def ready(self, function_uid: str, deployment_uid: str) -> int:
        """Return how many loaded pods a deployment has."""

    def replicas(self, function_uid: str) -> Replicas:
        """Return what a function has now."""

    def functions(self) -> Mapping[tuple[str, str], Replicas]:
        """Return what every function has now, by (namespace, name)."""

    def counters(self) -> Counters:
        """Return counters since start."""

    async def drain(self, seconds: float) -> bool:
        """Accept nothing more; wait until all accepted calls ended."""
