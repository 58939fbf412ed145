import asyncio
from collections.abc import Mapping
from typing import Any, cast

from appfn.api.function import Function
from appfn.dispatch.dispatcher import Target
from appfn.shim.callee import Callee, Project
from appfn.shim.catalog import Catalog
from appfn.shim.targets import Targets
from appfn.shim.variables import VariableResolver
from support.clock import on_virtual_clock
from support.fake_invoker import FakeInvoker
from support.objects import function, ready_deployment, runtime


class Changing:
    """A catalog that changes when told to."""

    def __init__(self, *callees: Callee) -> None:
        self.change = asyncio.Event()
        self.found = callees

    def callees(self) -> tuple[Callee, ...]:
        return self.found

    def happen(self) -> None:
        event, self.change = self.change, asyncio.Event()
        event.set()


class Stumbling(FakeInvoker):
    """Fails the second time it is told its targets."""

    def __init__(self) -> None:
        super().__init__()
        self.told = asyncio.Queue[int]()
        self.times = 0

    def sync(self, targets: Mapping[str, Target]) -> None:
        self.times += 1
        self.told.put_nowait(self.times)
        if self.times == 2:
            raise RuntimeError("a defect")
        super().sync(targets)


@on_virtual_clock
async def test_targets_that_could_not_be_told_are_told_again_and_nobody_else_is_woken() -> None:
    # Whoever waits for the catalog's change in a loop would spin for ever on an event that stays set.
    catalog, invoker = Changing(), Stumbling()
    targets = Targets(catalog=cast("Catalog", catalog), invoker=invoker, resolver=cast("VariableResolver", None))
    async with targets.following():
        catalog.happen()
        assert [await invoker.told.get() for _ in range(3)] == [1, 2, 3]
        assert not catalog.change.is_set()


class Reading:
    """Gives variables that are others each time."""

    def __init__(self) -> None:
        self.times = 0

    async def resolve(self, _function: Function) -> dict[str, str]:
        self.times += 1
        return {"TIMES": str(self.times)}


def callee(name: str, **spec: Any) -> Callee:
    return Callee(
        project=Project("shop", "shop"),
        function=function(name, **spec),
        runtime=runtime(),
        deployment=ready_deployment(f"{name}-v1"),
        artifacts={},
        constants={},
    )


async def told(targets: Targets, invoker: FakeInvoker) -> dict[str, Target]:
    await targets._push()
    return dict(invoker.targets)


async def test_of_functions_that_did_not_change_the_dispatcher_is_told_the_same_again() -> None:
    idle, busy = callee("idle"), callee("busy")
    catalog, invoker = Changing(idle, busy), FakeInvoker()
    targets = Targets(catalog=cast("Catalog", catalog), invoker=invoker, resolver=cast("VariableResolver", None))
    before = await told(targets, invoker)
    catalog.found = (idle, callee("busy", timeout=30))
    after = await told(targets, invoker)
    assert after["uid-idle"] is before["uid-idle"]
    assert after["uid-busy"].function.spec.timeout == 30
    catalog.found = (idle,)
    assert (await told(targets, invoker)).keys() == {"uid-idle"}


async def test_pods_that_wait_for_calls_are_told_the_variables_of_the_day() -> None:
    catalog, invoker = Changing(callee("warm", scaling={"minReplicas": 1})), FakeInvoker()
    targets = Targets(catalog=cast("Catalog", catalog), invoker=invoker, resolver=cast("VariableResolver", Reading()))
    read = [(await told(targets, invoker))["uid-warm"].variables or {} for _ in range(2)]
    assert [variables["TIMES"] for variables in read] == ["1", "2"]
