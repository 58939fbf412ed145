"""Which namespaces are watched, on a virtual clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast

from appfn.api.base import Json
from appfn.api.kinds import Key, Kind
from appfn.api.runtime import Architecture
from appfn.dispatch.fleet import Fleet, PodCluster
from appfn.dispatch.pod import RuntimePod
from appfn.dispatch.tasks import Tasks
from appfn.errors import TransientError
from appfn.kube.protocols import Cache
from support.clock import on_virtual_clock

POD = Key("gone", "hello-1")
MINUTES = 180.0


class Watching:
    """Watches nothing, and knows where."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.deleted: list[Key] = []
        self.failures = 0
        self.left_behind: list[Json] = []

    @asynccontextmanager
    async def watch(
        self, _kind: Kind, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncIterator[Cache]:
        assert labels
        assert not fields
        self.open.append(namespace)
        try:
            yield cast("Cache", SimpleNamespace(items=dict, subscribe=lambda _: None))
        finally:
            self.open.remove(namespace)

    async def delete(self, _kind: Kind, key: Key, *, uid: str = "") -> bool:
        assert uid in {"", "uid-left"}
        self.deleted.append(key)
        return False

    async def list(self, _kind: Kind, **_: str) -> list[Json]:
        if self.failures:
            self.failures -= 1
            raise TransientError("away")
        return self.left_behind


def a_pod() -> RuntimePod:
    return RuntimePod(key=POD, architecture=Architecture.AMD64, runtime_key="k", created=0)


async def some_minutes() -> None:
    await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=MINUTES)


@on_virtual_clock
async def test_a_namespace_is_watched_as_long_as_anything_runs_or_may_run_there() -> None:
    cluster, tasks = Watching(), Tasks()
    fleet = Fleet(cluster=cast("PodCluster", cluster), watcher=cluster, replica="shim-0", tasks=tasks)
    fleet.start()
    pod = a_pod()
    fleet.add(pod)
    fleet.survey(["gone", "stays"])
    for namespace in ("gone", "stays"):
        await fleet.watch(namespace)

    fleet.survey(["stays"])
    await some_minutes()
    with_pod = sorted(cluster.open)
    fleet.remove(pod)
    await some_minutes()
    without = list(cluster.open)
    fleet.add(a_pod())
    await fleet.watch("gone")

    assert with_pod == ["gone", "stays"]
    assert without == ["stays"]
    assert sorted(cluster.open) == ["gone", "stays"]
    await tasks.cancel()
    assert cluster.open == []


@on_virtual_clock
async def test_pods_left_behind_are_looked_for_until_the_api_server_answers() -> None:
    cluster, tasks = Watching(), Tasks()
    cluster.failures = 2
    cluster.left_behind = [{"metadata": {"name": "left", "uid": "uid-left"}}]
    fleet = Fleet(cluster=cast("PodCluster", cluster), watcher=cluster, replica="shim-0", tasks=tasks)
    fleet.start()

    fleet.survey(["shop"])
    await some_minutes()

    assert cluster.deleted == [Key("shop", "left")]
    await tasks.cancel()
