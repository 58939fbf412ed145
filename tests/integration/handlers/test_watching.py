"""kopf sees what the operator must know, quickly, and writes nothing."""

import asyncio
from collections.abc import Callable

import pytest

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import DEPLOYMENT, EXECUTION, FUNCTION, NAMESPACE, POD, POOL, RUNTIME, Key, Kind
from appfn.kube.client import KubeCluster
from support.cluster import AuditLog
from support.polling import eventually
from support.watcher import Watcher, watching_as

BUILD = {names.MANAGED_BY: names.MANAGER, names.LABEL_COMPONENT: names.COMPONENT_BUILD}


def own(kind: Kind, namespace: str, name: str, spec: Json, labels: dict[str, str] | None = None) -> Json:
    metadata: Json = {"name": name, "labels": labels or {}}
    if kind.namespaced:
        metadata["namespace"] = namespace
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "spec": spec}


def function(namespace: str, name: str) -> Json:
    return own(FUNCTION, namespace, name, {"runtime": "python-3.13"})


def pod(namespace: str, name: str, labels: dict[str, str]) -> Json:
    # The account of a new namespace, `default`, takes its time; the watcher's own is there.
    spec = {"serviceAccountName": "operator", "containers": [{"name": "main", "image": "x"}]}
    return own(POD, namespace, name, spec, labels)


async def sees(watcher: Watcher, kind: str, name: str, *how: str, within: float = 1.0) -> None:
    """Return when an object was told in one of these ways: what is made while kopf starts may be in its list."""

    async def probe() -> bool:
        assert {(kind, name, each) for each in how} & set(watcher.seen.events)
        return True

    await eventually(probe, within=within)


async def started(watcher: Watcher, namespace: str) -> None:
    """Return when kopf has listed what there is, of which the namespace is a part."""
    await sees(watcher, NAMESPACE.name, namespace, "listed", within=15)


async def test_a_function_is_seen_within_a_second_of_its_creation_change_and_end(
    cluster: KubeCluster, namespace: str, watcher: Watcher
) -> None:
    await started(watcher, namespace)
    key = Key(namespace, "fn")

    await cluster.create(FUNCTION, function(namespace, "fn"))
    await sees(watcher, "Function", "fn", "changed", "listed")
    watcher.seen.events.clear()
    await cluster.merge_patch(FUNCTION, key, {"spec": {"timeout": 30}}, manager="test")
    await sees(watcher, "Function", "fn", "changed")
    await cluster.delete(FUNCTION, key)
    await sees(watcher, "Function", "fn", "gone")


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        (DEPLOYMENT, lambda ns: own(DEPLOYMENT, ns, "x", {"functionRef": {"name": "fn"}, "source": _SOURCE})),
        (EXECUTION, lambda ns: own(EXECUTION, ns, "x", {"functionRef": {"name": "fn"}})),
        (POD, lambda ns: pod(ns, "x", BUILD)),
        (POOL, lambda ns: own(POOL, ns, "x", _PODS, BUILD | {names.LABEL_COMPONENT: names.COMPONENT_POOL})),
    ],
    ids=lambda value: f"{value.plural}.{value.group}" if isinstance(value, Kind) else "",
)
async def test_every_kind_is_seen(
    cluster: KubeCluster, namespace: str, watcher: Watcher, kind: Kind, make: Callable[[str], Json]
) -> None:
    await started(watcher, namespace)
    await cluster.create(kind, make(namespace))
    await sees(watcher, kind.name, "x", "changed", "listed")


_PODS: Json = {
    "selector": {"matchLabels": {"app": "x"}},
    "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "main", "image": "x"}]}},
}
_SOURCE: Json = {"inline": {"files": {"index.py": "x"}}}


async def test_what_others_own_is_not_even_sent(cluster: KubeCluster, namespace: str, watcher: Watcher) -> None:
    await started(watcher, namespace)
    await cluster.create(POD, pod(namespace, "foreign", {}))
    await cluster.create(POOL, own(POOL, namespace, "foreign", _PODS))
    await cluster.create(POD, pod(namespace, "runtime", BUILD | {names.LABEL_COMPONENT: names.COMPONENT_RUNTIME}))
    mirrored = {names.LABEL_MIRRORED: "true"}
    await cluster.create(EXECUTION, own(EXECUTION, namespace, "mirror", {"functionRef": {"name": "fn"}}, mirrored))
    await cluster.create(EXECUTION, own(EXECUTION, namespace, "last", {"functionRef": {"name": "fn"}}))
    await cluster.create(POD, pod(namespace, "last", BUILD))
    await sees(watcher, "Execution", "last", "changed", "listed")
    await sees(watcher, "Pod", "last", "changed", "listed")

    names_seen = {name for _, name, _ in watcher.seen.events}
    assert names_seen.isdisjoint({"foreign", "runtime", "mirror"})


async def test_what_was_there_before_is_listed(cluster: KubeCluster, namespace: str) -> None:
    await cluster.create(FUNCTION, function(namespace, "earlier"))
    async with watching_as(cluster, "") as watcher:
        await sees(watcher, "Function", "earlier", "listed", within=15)


async def test_kopf_writes_nothing(cluster: KubeCluster, namespace: str, watcher: Watcher, audit: AuditLog) -> None:
    await started(watcher, namespace)
    await cluster.create(FUNCTION, function(namespace, "fn"))
    await cluster.create(POD, pod(namespace, "build", BUILD))
    await cluster.create(RUNTIME, _runtime(f"rt-{namespace}"))
    await sees(watcher, "Function", "fn", "changed", "listed")
    await sees(watcher, "Runtime", f"rt-{namespace}", "changed", "listed")
    await cluster.delete(RUNTIME, Key("", f"rt-{namespace}"))
    await cluster.delete(FUNCTION, Key(namespace, "fn"))
    await sees(watcher, "Function", "fn", "gone")

    assert audit.writes(user=watcher.user) == []
    assert audit.writes(resource="functions"), "the log does show writes of others"


async def test_stopping_kopf_spares_the_tasks_that_were_there_before_it(cluster: KubeCluster, namespace: str) -> None:
    bystander = asyncio.create_task(asyncio.Event().wait())
    async with watching_as(cluster, "") as watcher:
        await started(watcher, namespace)
    assert watcher.task.cancelled()
    assert not bystander.cancelling()
    bystander.cancel()


def _runtime(name: str) -> Json:
    spec = {
        "language": "python",
        "version": "3.13",
        "displayName": "Python",
        "images": [{"architecture": "amd64", "image": "example.org/python"}],
        "buildCommand": "true",
        "startCommand": "true",
    }
    return own(RUNTIME, "", name, spec)
