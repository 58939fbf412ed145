"""Watch caches on a real API server, and through a proxy that breaks them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appfn.api.base import Json
from appfn.api.kinds import CONFIG_MAP, FUNCTION, Key
from appfn.kube.client import KubeCluster, connect
from appfn.kube.collection import Collection
from appfn.kube.protocols import Cache, WatchEvent
from appfn.kube.watch import following
from localcluster.controlplane import ControlPlane
from support.cluster import kubeconfig_with_server
from support.polling import eventually
from support.proxy import Fault, Proxy, proxy_to

LABELS = "example.org/watched"


def config_map(namespace: str, name: str, value: str = "1") -> Json:
    return {"metadata": {"namespace": namespace, "name": name, "labels": {LABELS: "yes"}}, "data": {"value": value}}


class Listener:
    """Remembers what a cache told, as `event name value`."""

    def __init__(self, cache: Cache) -> None:
        self.told: list[str] = []
        self._stop = cache.subscribe(self._listen)

    def _listen(self, event: WatchEvent) -> None:
        self.told.append(f"{event.type} {event.key.name} {event.body['data']['value']}")

    def stop(self) -> None:
        self._stop()

    async def hears(self, *told: str) -> None:
        """Return when exactly this was told."""

        async def probe() -> bool:
            assert self.told == list(told)
            return True

        await eventually(probe, within=10)


@pytest.fixture
async def proxy(cluster: KubeCluster) -> AsyncIterator[Proxy]:
    async with proxy_to(cluster) as proxy:
        yield proxy


@pytest.fixture
async def through(proxy: Proxy, control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[KubeCluster]:
    """Connect through the proxy."""
    async with connect(kubeconfig_with_server(control_plane.kubeconfig, tmp_path / "proxied", proxy.url)) as client:
        yield client


@asynccontextmanager
async def watching(cluster: KubeCluster, namespace: str) -> AsyncIterator[Cache]:
    async with cluster.watch(CONFIG_MAP, namespace=namespace, labels=LABELS) as cache:
        yield cache


async def test_it_is_synced_when_it_opens(cluster: KubeCluster, namespace: str) -> None:
    for name in "ab":
        await cluster.create(CONFIG_MAP, config_map(namespace, name))
    async with watching(cluster, namespace) as cache:
        assert {key.name for key in cache.items()} == {"a", "b"}
        found = cache.get(Key(namespace, "a"))
        assert found is not None
        assert found["kind"] == "ConfigMap"
        assert "managedFields" not in found["metadata"]
        assert cache.get(Key(namespace, "c")) is None


async def test_of_our_own_kinds_the_time_of_the_last_change_is_kept(cluster: KubeCluster, namespace: str) -> None:
    metadata = {"name": "hello", "namespace": namespace}
    function: Json = {"apiVersion": "appfn.dev/v1alpha1", "kind": "Function", "metadata": metadata}
    made = await cluster.apply(FUNCTION, function | {"spec": {"runtime": "node-20.0"}}, manager="a")
    await cluster.apply_status(FUNCTION, function | {"status": {"activeDeployment": "x"}}, manager="b")
    async with cluster.watch(FUNCTION, namespace=namespace) as cache:
        found = cache.get(Key(namespace, "hello"))
        assert found is not None
        (entry,) = [item for item in made["metadata"]["managedFields"] if "subresource" not in item]
        assert found["metadata"]["managedFields"] == [{"time": entry["time"]}]


async def test_changes_are_told_in_their_order(cluster: KubeCluster, namespace: str) -> None:
    async with watching(cluster, namespace) as cache:
        listener = Listener(cache)
        key = Key(namespace, "a")
        await cluster.create(CONFIG_MAP, config_map(namespace, "a"))
        await cluster.merge_patch(CONFIG_MAP, key, {"data": {"value": "2"}}, manager="test")
        await cluster.delete(CONFIG_MAP, key)
        await listener.hears("set a 1", "set a 2", "gone a 2")
        assert not cache.items()


async def test_an_object_that_no_longer_matches_is_gone(cluster: KubeCluster, namespace: str) -> None:
    await cluster.create(CONFIG_MAP, config_map(namespace, "a"))
    async with watching(cluster, namespace) as cache:
        listener = Listener(cache)
        unlabelled: Json = {"metadata": {"labels": {LABELS: None}}}
        await cluster.merge_patch(CONFIG_MAP, Key(namespace, "a"), unlabelled, manager="test")
        await listener.hears("gone a 1")


async def test_a_listener_that_stopped_hears_nothing(cluster: KubeCluster, namespace: str) -> None:
    async with watching(cluster, namespace) as cache:
        stopped, other = Listener(cache), Listener(cache)
        stopped.stop()
        await cluster.create(CONFIG_MAP, config_map(namespace, "a"))
        await other.hears("set a 1")
        assert stopped.told == []


async def test_a_listener_that_fails_does_not_deafen_the_others(
    cluster: KubeCluster, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: WatchEvent) -> None:
        raise OSError("a bug in the listener")

    async with watching(cluster, namespace) as cache:
        cache.subscribe(broken)
        listener = Listener(cache)
        for name in "ab":
            await cluster.create(CONFIG_MAP, config_map(namespace, name))
        await listener.hears("set a 1", "set b 1")
    assert [record.message for record in caplog.records] == ["listener failed"] * 2


async def test_big_objects_arrive_whole(cluster: KubeCluster, namespace: str) -> None:
    async with watching(cluster, namespace) as cache:
        big = [config_map(namespace, name, value=name * 900_000) for name in "abc"]
        for manifest in big:
            await cluster.create(CONFIG_MAP, manifest)

        async def probe() -> bool:
            return len(cache.items()) == len(big)

        await eventually(probe)
        assert [item["data"] for _, item in sorted(cache.items().items())] == [item["data"] for item in big]


async def test_after_a_broken_connection_it_goes_on_without_listing(
    cluster: KubeCluster, through: KubeCluster, proxy: Proxy, namespace: str
) -> None:
    async with watching(through, namespace) as cache:
        listener = Listener(cache)
        await cluster.create(CONFIG_MAP, config_map(namespace, "a"))
        await listener.hears("set a 1")

        proxy.cut(Fault.UNAVAILABLE, Fault.CUT)
        await cluster.create(CONFIG_MAP, config_map(namespace, "b"))
        await cluster.delete(CONFIG_MAP, Key(namespace, "a"))

        await listener.hears("set a 1", "set b 1", "gone a 1")
        assert proxy.lists == 1


@pytest.mark.parametrize("fault", [Fault.EXPIRED, Fault.EXPIRED_LATER])
async def test_after_an_expired_watch_it_lists_and_tells_what_it_missed(
    cluster: KubeCluster, through: KubeCluster, proxy: Proxy, namespace: str, fault: Fault
) -> None:
    for name in ("changed", "deleted", "kept", "replaced"):
        await cluster.create(CONFIG_MAP, config_map(namespace, name))
    async with watching(through, namespace) as cache:
        listener = Listener(cache)

        proxy.cut(*[Fault.UNAVAILABLE] * 1_000)
        await cluster.delete(CONFIG_MAP, Key(namespace, "deleted"))
        await cluster.delete(CONFIG_MAP, Key(namespace, "replaced"))
        await cluster.create(CONFIG_MAP, config_map(namespace, "replaced", "2"))
        await cluster.merge_patch(CONFIG_MAP, Key(namespace, "changed"), {"data": {"value": "2"}}, manager="test")
        await cluster.create(CONFIG_MAP, config_map(namespace, "created"))
        proxy.faults.clear()
        proxy.cut(fault)

        await listener.hears("gone deleted 1", "gone replaced 1", "set changed 2", "set created 1", "set replaced 2")
        assert {key.name for key in cache.items()} == {"changed", "created", "kept", "replaced"}
        assert proxy.lists == 2

        await cluster.delete(CONFIG_MAP, Key(namespace, "kept"))
        await eventually(lambda: _is_last(listener, "gone kept 1"))


async def _is_last(listener: Listener, told: str) -> bool:
    return listener.told[-1:] == [told]


async def test_a_silent_connection_is_given_up(
    cluster: KubeCluster, through: KubeCluster, proxy: Proxy, namespace: str
) -> None:
    collection = Collection(rest=through._rest, kind=CONFIG_MAP, namespace=namespace, labels=LABELS, silence=0.2)
    proxy.faults.append(Fault.SILENT)
    async with following(collection, random=lambda: 0.01) as cache:
        listener = Listener(cache)
        await cluster.create(CONFIG_MAP, config_map(namespace, "a"))
        await listener.hears("set a 1")
        assert proxy.watches >= 2


async def test_a_bug_in_the_cache_ends_what_depends_on_it(
    cluster: KubeCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def depend_on_a_broken_cache() -> None:
        async with watching(cluster, namespace) as cache:
            monkeypatch.setattr(cache, "_take", None)
            await cluster.create(CONFIG_MAP, config_map(namespace, "a"))
            await asyncio.get_running_loop().create_future()

    with pytest.raises(ExceptionGroup) as raised:
        await depend_on_a_broken_cache()
    assert raised.group_contains(TypeError)
