"""kopf around a listener that only remembers, under an identity of its own in the audit log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import Kind
from appfn.handlers import registry, watching
from appfn.kube.client import KubeCluster

WATCH = ["get", "list", "watch"]
RULES: list[Json] = [
    {"apiGroups": [names.GROUP], "resources": ["functions", "deployments", "executions", "runtimes"], "verbs": WATCH},
    {"apiGroups": [""], "resources": ["namespaces", "nodes", "pods"], "verbs": WATCH},
    {"apiGroups": ["batch"], "resources": ["jobs", "cronjobs"], "verbs": WATCH},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list", "watch"]},
]
"""What manifests/ gives the operator for looking."""


@dataclass
class Seen:
    """What kopf told: `kind name` with `listed`, `changed` or `gone`."""

    events: list[tuple[str, str, str]] = field(default_factory=list)

    def __call__(self, kind: Kind, body: Json, *, listed: bool, gone: bool) -> None:
        how = "listed" if listed else "gone" if gone else "changed"
        self.events.append((kind.name, body["metadata"]["name"], how))


@dataclass(frozen=True)
class Watcher:
    """A running kopf."""

    seen: Seen
    user: str
    task: asyncio.Task[None]


@asynccontextmanager
async def watching_as(client: KubeCluster, user: str) -> AsyncIterator[Watcher]:
    """Run kopf on the rights of a client."""
    seen = Seen()
    handlers = registry.registry(seen, client.connection)
    task = asyncio.create_task(watching.watch(handlers, registry.settings(), restore=lambda: None))
    try:
        yield Watcher(seen, user, task)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
