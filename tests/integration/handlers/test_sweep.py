"""Sweeps over real objects."""

import pytest

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import DEPLOYMENT, EXECUTION, FUNCTION, POOL, Key, Kind
from appfn.handlers.sweep import Sweep
from appfn.handlers.work import EVERYTHING, ROUND, Scope
from appfn.kube.client import KubeCluster
from appfn.reconcile.registry import Controller

Marked = set[tuple[Controller, Key]]


async def make(cluster: KubeCluster, kind: Kind, namespace: str, name: str, **spec: object) -> None:
    manifest = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"namespace": namespace, "name": name}}
    await cluster.create(kind, manifest | {"spec": spec})


async def end(cluster: KubeCluster, namespace: str, name: str) -> None:
    status = {"apiVersion": EXECUTION.api_version, "kind": "Execution", "status": {"status": "completed"}}
    metadata = {"namespace": namespace, "name": name}
    await cluster.apply_status(EXECUTION, status | {"metadata": metadata}, manager="test")


async def count(cluster: KubeCluster, namespace: str, function: str, *, total: int) -> None:
    status = {"apiVersion": FUNCTION.api_version, "kind": "Function", "status": {"executions": {"total": total}}}
    await cluster.apply_status(
        FUNCTION, status | {"metadata": {"namespace": namespace, "name": function}}, manager="test"
    )


@pytest.fixture
async def project(cluster: KubeCluster, namespace: str) -> str:
    """Fill a namespace with two functions of different runtimes, one of them called, and executions in all states."""
    source: Json = {"inline": {"files": {"index.py": "x"}}}
    for name in ("python", "node"):
        await make(cluster, FUNCTION, namespace, name, runtime=f"{name}-1")
        await make(cluster, DEPLOYMENT, namespace, f"{name}-v1", functionRef={"name": name}, source=source)
    await count(cluster, namespace, "node", total=1)
    await make(cluster, EXECUTION, namespace, "new", functionRef={"name": "node"})
    await make(cluster, EXECUTION, namespace, "ended", functionRef={"name": "node"})
    await end(cluster, namespace, "ended")
    mirror: Json = {
        "apiVersion": EXECUTION.api_version,
        "kind": "Execution",
        "metadata": {"namespace": namespace, "name": "mirror", "labels": {names.LABEL_MIRRORED: "true"}},
        "spec": {"functionRef": {"name": "node"}},
    }
    await cluster.create(EXECUTION, mirror)
    return namespace


async def sweep(cluster: KubeCluster, scope: Scope, *, within: float = 0) -> tuple[Marked, float | None]:
    marked: Marked = set()
    delays = []

    def mark(controller: Controller, key: Key, *, after: float = 0.0) -> None:
        delays.append(after)
        marked.add((controller, key))

    again = await Sweep(cluster=cluster, mark=mark, seconds=600)(scope)
    assert delays == sorted(delays)
    assert not delays or delays[0] == 0
    assert all(delay <= within for delay in delays)
    assert not within or delays[-1] > within / 2
    return marked, again


def everything_of(namespace: str) -> Marked:
    return {
        (Controller.FUNCTION, Key(namespace, "python")),
        (Controller.FUNCTION, Key(namespace, "node")),
        (Controller.HISTORY, Key(namespace, "node")),
        (Controller.DEPLOYMENT, Key(namespace, "python-v1")),
        (Controller.DEPLOYMENT, Key(namespace, "node-v1")),
        (Controller.EXECUTION, Key(namespace, "new")),
        (Controller.POOL, Key("", namespace)),
    }


async def test_a_namespace_is_swept_whole_and_once(cluster: KubeCluster, project: str) -> None:
    assert await sweep(cluster, Scope(namespace=project)) == (everything_of(project), None)


async def test_deployments_are_swept_before_the_functions_that_go_by_them(cluster: KubeCluster, project: str) -> None:
    order: list[Controller] = []

    def mark(controller: Controller, key: Key, *, after: float = 0.0) -> None:
        order.append(controller)

    await Sweep(cluster=cluster, mark=mark, seconds=600)(Scope(namespace=project))
    kinds = [controller for controller in order if controller in {Controller.DEPLOYMENT, Controller.FUNCTION}]
    assert kinds == [Controller.DEPLOYMENT] * 2 + [Controller.FUNCTION] * 2


async def test_a_pool_without_a_function_is_looked_at_as_well(cluster: KubeCluster, namespace: str) -> None:
    of_somebody = {"matchLabels": {"app": "x"}}
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    body: Json = {
        "metadata": {"namespace": namespace, "name": "x"},
        "spec": {"selector": of_somebody, "template": template},
    }
    await cluster.create(POOL, body)
    foreign, _ = await sweep(cluster, Scope(namespace=namespace))
    labels = {names.MANAGED_BY: names.MANAGER, names.LABEL_COMPONENT: names.COMPONENT_POOL}
    await cluster.merge_patch(POOL, Key(namespace, "x"), {"metadata": {"labels": labels}}, manager="test")

    marked, _ = await sweep(cluster, Scope(namespace=namespace))

    assert (foreign, marked) == (set(), {(Controller.POOL, Key("", namespace))})


async def test_a_sweep_over_everything_happens_at_once(cluster: KubeCluster, project: str) -> None:
    marked, again = await sweep(cluster, EVERYTHING)
    assert everything_of(project) <= marked
    assert again is None


async def test_a_round_takes_its_time_so_that_no_change_waits_for_it_and_repeats(
    cluster: KubeCluster, project: str
) -> None:
    marked, again = await sweep(cluster, ROUND, within=300)
    assert everything_of(project) <= marked
    assert again == 600


async def test_what_was_marked_with_everything_need_not_be_marked_when_it_is_listed(
    cluster: KubeCluster, project: str
) -> None:
    def mark(controller: Controller, key: Key, *, after: float = 0.0) -> None: ...

    sweep = Sweep(cluster=cluster, mark=mark, seconds=600)
    found = [(kind, body) for kind in (FUNCTION, DEPLOYMENT) for body in await cluster.list(kind, namespace=project)]
    await sweep(Scope(namespace=project))
    assert not any(sweep.swept.covers(kind, body["metadata"]["resourceVersion"]) for kind, body in found)
    await sweep(EVERYTHING)
    assert all(sweep.swept.covers(kind, body["metadata"]["resourceVersion"]) for kind, body in found)
    edited = await cluster.merge_patch(FUNCTION, Key(project, "node"), {"spec": {"timeout": 20}}, manager="test")
    assert edited is not None
    assert not sweep.swept.covers(FUNCTION, edited["metadata"]["resourceVersion"])


async def test_of_a_runtime_the_users_are_marked(cluster: KubeCluster, project: str) -> None:
    marked, again = await sweep(cluster, Scope(namespace=project, runtime="python-1"))
    assert marked == {
        (Controller.FUNCTION, Key(project, "python")),
        (Controller.DEPLOYMENT, Key(project, "python-v1")),
        (Controller.POOL, Key("", project)),
    }
    assert again is None


async def test_a_runtime_nobody_uses_marks_nothing(cluster: KubeCluster, project: str) -> None:
    assert await sweep(cluster, Scope(namespace=project, runtime="cobol-1")) == (set(), None)
