"""A dispatcher without pods: the shim's public side of it, with answers that a test chooses."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from appfn.api.execution import ExecutionPhase
from appfn.api.function import Function
from appfn.api.runtime import Runtime
from appfn.core.records import Invocation, Outcome
from appfn.dispatch.dispatcher import ArtifactSource, Counters, Replicas, Target
from appfn.errors import QueueFullError, TransientError
from appfn.shim.services import Surroundings


def completed(response: str, *, status: int = 200) -> Outcome:
    """Return what a function that answered leaves."""
    return Outcome(
        phase=ExecutionPhase.COMPLETED if status < 500 else ExecutionPhase.FAILED,
        status_code=status,
        response=response,
        stdout="printed",
        stderr="warned",
        duration=0.125,
    )


async def echo(invocation: Invocation) -> Outcome:
    """Answer with what the function was given."""
    given = {
        "payload": invocation.payload,
        "headers": dict(invocation.headers),
        "variables": dict(invocation.variables),
        "entrypoint": invocation.entrypoint,
        "deployment": invocation.deployment,
        "timeout": invocation.timeout,
    }
    return completed(json.dumps(given))


class FakeInvoker:
    """See the module. `answer` runs where a function would; `room` is how many calls at once it takes."""

    def __init__(self, answer: Callable[[Invocation], Awaitable[Outcome]] = echo, *, room: int = 1000) -> None:
        self.answer = answer
        self.room = room
        self.waiting_for_pod: asyncio.Event | None = None
        """Where set, calls wait for it before they start, as they would for a pod."""
        self.unserved: list[Outcome] = []
        """Outcomes of the next calls, which no pod takes."""
        self.started: list[str] = []
        self.invocations: list[Invocation] = []
        self.targets: Mapping[str, Target] = {}
        self.drained = False
        self.announced: dict[tuple[str, str], str] = {}
        self.by_own_token = False
        """Whether the last one who announced a pod had its own token."""
        """Addresses of pods, by namespace and name."""
        self.loaded: dict[str, int] = {}
        """Loaded pods of deployments, by uid; others have one."""
        self._accepted = 0

    @asynccontextmanager
    async def make(self, _around: Surroundings, artifacts: ArtifactSource, key: bytes) -> AsyncIterator["FakeInvoker"]:
        """Stand in for the dispatcher in `Surroundings`."""
        self.artifacts = artifacts
        self.key = key
        yield self

    async def invoke(
        self,
        invocation: Invocation,
        runtime: Runtime,
        function: Function,
        *,
        on_start: Callable[[], Awaitable[None]] | None = None,
    ) -> Outcome:
        """Run `answer`."""
        if self.drained:
            raise TransientError("shutting down")
        if self._accepted >= self.room:
            raise QueueFullError("the queue of the function is full", retry_after=1.5)
        self._accepted += 1
        try:
            if self.waiting_for_pod is not None:
                await self.waiting_for_pod.wait()
            if self.unserved:
                return self.unserved.pop(0)
            if on_start is not None:
                await on_start()
            self.started.append(invocation.execution_id)
            self.invocations.append(invocation)
            return await self.answer(invocation)
        finally:
            self._accepted -= 1

    def overloaded(self, function_uid: str, deployment_uid: str) -> float | None:
        """Say so while there is no room."""
        return 1.5 if self._accepted >= self.room else None

    def sync(self, targets: Mapping[str, Target]) -> None:
        """Remember the targets."""
        self.targets = dict(targets)

    def announce(self, namespace: str, pod: str, *, address: str, own_token: bool) -> str:
        """Remember."""
        self.by_own_token = own_token
        self.announced[namespace, pod] = address
        return "hash"

    def ready(self, function_uid: str, deployment_uid: str) -> int:
        """Return `loaded`."""
        assert function_uid
        return self.loaded.get(deployment_uid, 1)

    def replicas(self, function_uid: str) -> Replicas:
        """Return two for every function that is wanted."""
        return Replicas(ready=2 if function_uid in self.targets else 0)

    def functions(self) -> Mapping[tuple[str, str], Replicas]:
        """Return what /metrics shows."""
        return {
            target.function.metadata.key: Replicas(ready=2, queued=3, in_flight=self._accepted)
            for target in self.targets.values()
        }

    def counters(self) -> Counters:
        """Return what /metrics shows."""
        return Counters(calls=len(self.started), pods_created=2)

    async def drain(self, seconds: float) -> bool:
        """Refuse what comes."""
        self.drained = True
        return True
