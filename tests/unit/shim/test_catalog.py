"""Which functions can be called, kept up to date at the cost of what changes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from appfn.api.base import Json
from appfn.api.kinds import DEPLOYMENT, FUNCTION, NAMESPACE, RUNTIME, Key, Kind
from appfn.kube.protocols import WatchEvent, WatchEventType
from appfn.shim import own_writes
from appfn.shim.callee import Callee
from appfn.shim.catalog import Catalog
from support.objects import DIGEST, metadata

_BUILD = {"architecture": "amd64", "phase": "ready", "artifact": {"digest": DIGEST, "size": 1}}


class Objects:
    """A watch cache that a test fills."""

    def __init__(self) -> None:
        self._objects: dict[Key, Json] = {}
        self._listener: Callable[[WatchEvent], None] | None = None

    def get(self, key: Key) -> Json | None:
        return self._objects.get(key)

    def items(self) -> Mapping[Key, Json]:
        return self._objects

    def subscribe(self, listener: Callable[[WatchEvent], None]) -> Callable[[], None]:
        self._listener = listener
        return lambda: None

    async def wait_synced(self) -> None:
        return

    def put(self, body: Json) -> None:
        self._tell(WatchEventType.SET, body)

    def remove(self, body: Json) -> None:
        self._tell(WatchEventType.GONE, body)

    def _tell(self, type_: WatchEventType, body: Json) -> None:
        key = Key(body["metadata"].get("namespace", ""), body["metadata"]["name"])
        if type_ is WatchEventType.SET:
            self._objects[key] = body
        else:
            del self._objects[key]
        if self._listener is not None:
            self._listener(WatchEvent(type=type_, key=key, body=body))


class World:
    """A cluster with the project `shop` and the functions `one` and `two`."""

    def __init__(self) -> None:
        self.kinds: dict[Kind, Objects] = {kind: Objects() for kind in (NAMESPACE, RUNTIME, DEPLOYMENT, FUNCTION)}
        self.put(NAMESPACE, {"metadata": namespace()})
        self.put(RUNTIME, runtime())
        for name in ("one", "two"):
            self.put(DEPLOYMENT, deployment(name))
            self.put(FUNCTION, function(name))

    @asynccontextmanager
    async def watch(self, kind: Kind, **_selectors: str) -> AsyncIterator[Objects]:
        yield self.kinds[kind]

    def put(self, kind: Kind, body: Json) -> None:
        self.kinds[kind].put(body)


def namespace(**labels: str) -> Json:
    return metadata("shop", namespace="") | {"labels": {"appfn.dev/project": "shop", **labels}}


def runtime(**spec: Any) -> Json:
    default = {
        "language": "node",
        "version": "20.0",
        "displayName": "Node.js",
        "enabled": True,
        "images": [{"architecture": "amd64", "image": "runtime-node:20.0"}],
        "entrypoint": "index.js",
        "buildCommand": "build.sh",
        "startCommand": "start.sh",
    }
    return {"metadata": metadata("node-20.0", namespace=""), "spec": default | spec}


def deployment(function_name: str, *, phase: str = "ready") -> Json:
    return {
        "metadata": metadata(f"{function_name}-v1"),
        "spec": {"functionRef": {"name": function_name}, "source": {"artifact": {"digest": DIGEST}}},
        "status": {"phase": phase, "builds": [_BUILD | {"phase": phase}]},
    }


def function(name: str, **spec: Any) -> Json:
    status = {"activeDeployment": f"{name}-v1"}
    return {"metadata": metadata(name), "spec": {"runtime": "node-20.0", **spec}, "status": status}


@asynccontextmanager
async def opened(world: World) -> AsyncIterator[Catalog]:
    async with Catalog.open(world, system_namespace="appfn-system") as catalog:
        yield catalog


def named(catalog: Catalog) -> dict[str, Callee]:
    return {callee.function.metadata.name: callee for callee in catalog.callees()}


async def test_of_a_function_that_did_not_change_the_callee_is_the_same_object() -> None:
    world = World()
    async with opened(world) as catalog:
        before = named(catalog)
        world.put(FUNCTION, function("one", timeout=30))
        after = named(catalog)
        assert after["one"].function.spec.timeout == 30
        assert after["two"] is before["two"]


def called(times: int, **status: Any) -> Json:
    body = function("one")
    body["metadata"] |= {"resourceVersion": str(times)}
    body["status"] |= {"executions": {"total": times, "completed": times}, **status}
    return body


async def test_a_function_that_was_called_has_not_changed_for_its_callers() -> None:
    world = World()
    async with opened(world) as catalog:
        world.put(FUNCTION, called(1))
        project, change = catalog.project("shop"), catalog.change
        callee = named(catalog)["one"]
        world.put(FUNCTION, called(2))
        assert catalog.change is change
        assert named(catalog)["one"] is callee
        assert catalog.function(project, "one").status.executions.total == 2


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(called(2, activeDeployment="one-v2"), id="another deployment is active"),
        pytest.param(called(2) | {"spec": {"runtime": "node-20.0", "timeout": 30}}, id="its spec"),
        pytest.param(called(1) | {"metadata": metadata("one") | {"resourceVersion": "2"}}, id="nothing we know of"),
    ],
)
async def test_a_function_that_changed_otherwise_too_has_changed_for_its_callers(after: Json) -> None:
    world = World()
    async with opened(world) as catalog:
        world.put(FUNCTION, called(1))
        change = catalog.change
        world.put(FUNCTION, after)
        assert change.is_set()


async def test_what_a_callee_is_made_of_is_looked_at_again_when_it_changes() -> None:
    world = World()
    async with opened(world) as catalog:
        assert named(catalog).keys() == {"one", "two"}
        world.put(DEPLOYMENT, deployment("one", phase="failed"))
        assert named(catalog).keys() == {"two"}
        world.put(DEPLOYMENT, deployment("one"))
        assert named(catalog).keys() == {"one", "two"}
        world.put(RUNTIME, runtime(entrypoint="app.js"))
        assert {callee.entrypoint for callee in catalog.callees()} == {"app.js"}
        world.put(RUNTIME, runtime(enabled=False))
        assert named(catalog) == {}


async def test_nothing_can_be_called_of_what_is_gone() -> None:
    world = World()
    async with opened(world) as catalog:
        assert named(catalog).keys() == {"one", "two"}
        world.kinds[FUNCTION].remove(function("one"))
        assert named(catalog).keys() == {"two"}
        world.kinds[DEPLOYMENT].remove(deployment("two"))
        assert named(catalog) == {}
        world.put(DEPLOYMENT, deployment("two"))
        world.kinds[NAMESPACE].remove({"metadata": namespace()})
        assert named(catalog) == {}
        world.put(NAMESPACE, {"metadata": namespace()})
        assert named(catalog).keys() == {"two"}


async def test_a_call_that_began_before_its_namespace_became_another_project_leaves_later_calls_nothing() -> None:
    world = World()
    async with opened(world) as catalog:
        before = catalog.project("shop")
        world.put(NAMESPACE, {"metadata": namespace(**{"appfn.dev/project": "store"})})
        await catalog.settled_callee(before, "one")

        assert (await catalog.settled_callee(catalog.project("store"), "one")).project.id == "store"


async def test_lists_are_in_the_order_of_creation() -> None:
    world = World()
    first = {"creationTimestamp": "2020-01-01T00:00:00Z"}
    world.put(FUNCTION, function("zero") | {"metadata": metadata("zero", **first)})
    world.put(DEPLOYMENT, deployment("one") | {"metadata": metadata("one-v0", **first)})
    async with opened(world) as catalog:
        functions = catalog.functions(catalog.project("shop"))
        assert [function.metadata.name for function in functions] == ["zero", "one", "two"]
        versions = catalog.deployments(functions[1])
        assert [deployment.metadata.name for deployment in versions] == ["one-v0", "one-v1"]
        world.kinds[DEPLOYMENT].remove(deployment("one"))
        assert [deployment.metadata.name for deployment in catalog.deployments(functions[1])] == ["one-v0"]
        assert catalog.deployments(functions[0]) == []


async def test_a_writer_waits_until_the_catalog_has_what_it_wrote() -> None:
    world = World()
    async with opened(world) as catalog:
        written = function("one", timeout=30) | {"metadata": metadata("one", resourceVersion="10")}
        waiting = asyncio.create_task(own_writes.seen(catalog, FUNCTION, written))
        world.put(FUNCTION, function("one") | {"metadata": metadata("one", resourceVersion="9")})
        await asyncio.sleep(0)
        assert not waiting.done()
        world.put(FUNCTION, written)
        await waiting
        assert catalog.function(catalog.project("shop"), "one").spec.timeout == 30


async def test_who_deletes_waits_until_the_catalog_has_it_no_more() -> None:
    world = World()
    async with opened(world) as catalog:
        waiting = asyncio.create_task(own_writes.gone(catalog, FUNCTION, Key("shop", "one"), uid="uid-one"))
        await asyncio.sleep(0)
        assert not waiting.done()
        world.kinds[FUNCTION].remove(function("one"))
        await waiting


async def test_what_never_shows_is_waited_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_writes, "SECONDS", 0.01)
    async with opened(World()) as catalog:
        await own_writes.seen(catalog, FUNCTION, function("three"))
