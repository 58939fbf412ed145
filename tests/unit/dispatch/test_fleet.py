"""Which namespaces are watched, on a virtual clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast

import pytest

from appfn.api.base import Json
from appfn.api.kinds import Key, Kind
from appfn.api.runtime import Architecture
from appfn.dispatch.fleet import Fleet, PodCluster
from appfn.dispatch.pod import RuntimePod
from appfn.dispatch.tasks import Tasks
from appfn.dispatch.warm import Pool
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
        self.shown: dict[Key, Json] = {}

    @asynccontextmanager
    async def watch(
        self, _kind: Kind, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncIterator[Cache]:
        assert labels
        assert not fields
        if self.failures:
            self.failures -= 1
            raise TransientError("away")
        self.open.append(namespace)
        try:
            yield cast("Cache", SimpleNamespace(items=lambda: self.shown, subscribe=lambda _: None))
        finally:
            self.open.remove(namespace)

    async def delete(self, _kind: Kind, key: Key, *, uid: str = "") -> bool:
        assert uid in {"", f"uid-{key.name}"}
        self.deleted.append(key)
        return False


def a_pod() -> RuntimePod:
    return RuntimePod(key=POD, architecture=Architecture.AMD64, runtime_key="k", created=0)


async def some_minutes() -> None:
    await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=MINUTES)


@on_virtual_clock
async def test_a_namespace_is_watched_as_long_as_anything_runs_or_may_run_there() -> None:
    cluster, tasks = Watching(), Tasks()
    fleet = a_fleet(cluster, tasks)
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


def a_fleet(cluster: Watching, tasks: Tasks, living: frozenset[str] = frozenset()) -> Fleet:
    async def replicas() -> frozenset[str]:
        return living

    fleet = Fleet(
        cluster=cast("PodCluster", cluster), watcher=cluster, replica="shim-0", tasks=tasks, replicas=replicas
    )
    fleet.start()
    return fleet


def a_body(name: str, **labels: str) -> Json:
    shown = {f"appfn.dev/{label}": value for label, value in labels.items()}
    return {"metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}", "labels": shown}, "status": {}}


@on_virtual_clock
async def test_pods_left_behind_are_looked_for_until_the_api_server_answers() -> None:
    cluster, tasks = Watching(), Tasks()
    cluster.failures = 2
    cluster.shown = {Key("shop", "left"): a_body("left", shim="shim-0")}
    fleet = a_fleet(cluster, tasks)

    fleet.survey(["shop"])
    await some_minutes()

    assert cluster.deleted == [Key("shop", "left")]
    await tasks.cancel()


@on_virtual_clock
async def test_pods_of_a_replica_that_stays_away_are_orphans_and_those_of_living_ones_are_not() -> None:
    cluster, tasks = Watching(), Tasks()
    owners = {"a": "shim-1", "b": "shim-1-1", "c": "shim-2", "d": "shim-20"}
    cluster.shown = {Key("shop", name): a_body(name, shim=owner) for name, owner in owners.items()}
    fleet = a_fleet(cluster, tasks, frozenset({"shim-0", "shim-1"}))

    fleet.survey(["shop"])
    await some_minutes()

    assert sorted(cluster.deleted) == [Key("shop", "c"), Key("shop", "d")]
    await tasks.cancel()


@pytest.mark.parametrize(("own_token", "free"), [(True, 1), (False, 0)])
@on_virtual_clock
async def test_who_has_no_token_of_its_own_can_not_name_a_pod_that_we_do_not_know(own_token: bool, free: int) -> None:  # noqa: FBT001 - a table's column
    cluster, tasks = Watching(), Tasks()
    body = a_body("warm", runtime="node-20.0", architecture="amd64", pool="appfn-pool-node")
    body["metadata"]["annotations"] = {"appfn.dev/template": "digest"}
    cluster.shown = {Key("shop", "warm"): body}
    fleet = a_fleet(cluster, tasks)

    fleet.announce(Key("shop", "warm"), "10.0.0.7", own_token=own_token)
    await fleet.watch("shop")

    assert fleet.warm.free(Pool("shop", "node-20.0", Architecture.AMD64, "digest")) == free
    await tasks.cancel()


@pytest.mark.parametrize("own_token", [True, False])
@on_virtual_clock
async def test_a_pod_that_we_made_is_heard_by_either_token(own_token: bool) -> None:  # noqa: FBT001 - a table's column
    tasks, pod = Tasks(), a_pod()
    fleet = a_fleet(Watching(), tasks)
    fleet.add(pod)

    fleet.announce(POD, "10.0.0.7", own_token=own_token)

    assert (pod.announced, await pod.address) == (True, "10.0.0.7")
    await tasks.cancel()
