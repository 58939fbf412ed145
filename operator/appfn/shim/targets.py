"""Tells the dispatcher what should be running, each time the cluster changes.

Level-triggered: always the whole truth, many changes at once told once.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from appfn.api.execution import Trigger
from appfn.core import variables
from appfn.core.records import ExecutionRequest, Origin
from appfn.dispatch.dispatcher import Target
from appfn.errors import AppfnError
from appfn.shim.callee import Callee
from appfn.shim.catalog import Catalog
from appfn.shim.ports import Invoker
from appfn.shim.variables import VariableResolver

COALESCE_SECONDS = 0.02
"""How long changes are gathered before they are told."""
RETRY_SECONDS = 5.0
_logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Targets:
    """See the module."""

    catalog: Catalog
    invoker: Invoker
    resolver: VariableResolver
    _told: dict[str, tuple[Callee, Target]] = field(default_factory=dict)
    """What was told last, by function uid."""

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Tell the dispatcher once now, and of every change while the context is open."""
        change = self.catalog.change  # before the push, which looks at once and may then read variables for seconds
        await self._push()
        task = asyncio.create_task(self._follow(change))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self, change: asyncio.Event) -> None:
        while True:
            await change.wait()
            await asyncio.sleep(COALESCE_SECONDS)
            change = self.catalog.change  # what changes from here on is told in the next round
            try:
                await self._push()
            except Exception:
                _logger.exception("telling the dispatcher its targets failed")
                await asyncio.sleep(RETRY_SECONDS)
                change = _now()

    async def _push(self) -> None:
        # Thousands of functions are idle when one changes: what was told of them is told again as it is.
        told: dict[str, tuple[Callee, Target]] = {}
        for callee in tuple(self.catalog.callees()):
            function = callee.function
            before = self._told.get(function.metadata.uid)
            if before is None or before[0] is not callee or function.spec.scaling.min_replicas:
                before = callee, await self._target(callee)
            told[function.metadata.uid] = before
        self._told = told
        self.invoker.sync({uid: target for uid, (_, target) in told.items()})

    async def _target(self, callee: Callee) -> Target:
        return Target(
            function=callee.function,
            runtime=callee.runtime,
            deployment=callee.deployment.metadata.name,
            deployment_uid=callee.deployment.metadata.uid,
            entrypoint=callee.entrypoint,
            artifacts=callee.artifacts,
            variables=await self._variables(callee) if callee.function.spec.scaling.min_replicas else None,
        )

    async def _variables(self, callee: Callee) -> dict[str, str]:
        """Return the environment of pods that wait for their first call; their calls bring the values of the day."""
        try:
            own = await self.resolver.resolve(callee.function)
        except AppfnError as error:  # the pods are still wanted; each call says what is missing
            _logger.warning(
                "variables of waiting pods", extra={"function": str(callee.function.metadata.key)}, exc_info=error
            )
            own = {}
        metadata = callee.function.metadata
        nobody = ExecutionRequest(
            id="",
            namespace=metadata.namespace,
            function=metadata.name,
            function_uid=metadata.uid,
            origin=Origin.API,
            trigger=Trigger.HTTP,
        )
        injected = variables.injected(
            nobody,
            project=callee.project.id,
            function=callee.function,
            deployment=callee.deployment,
            runtime=callee.runtime,
        )
        return variables.merged(own, injected)


def _now() -> asyncio.Event:
    """Return an event that is set. The catalog's own is not ours to set: others wait for it in a loop."""
    event = asyncio.Event()
    event.set()
    return event
