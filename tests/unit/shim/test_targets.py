import asyncio
from collections.abc import Iterator, Mapping
from typing import cast

from appfn.dispatch.dispatcher import Target
from appfn.shim.catalog import Callee, Catalog
from appfn.shim.targets import Targets
from appfn.shim.variables import VariableResolver
from support.clock import on_virtual_clock
from support.fake_invoker import FakeInvoker


class Changing:
    """A catalog of nothing that changes when told to."""

    def __init__(self) -> None:
        self.change = asyncio.Event()

    def callees(self) -> Iterator[Callee]:
        return iter(())

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
