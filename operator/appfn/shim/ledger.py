"""Adds each build that ended to the usage of its function, also those that ended while no shim ran.

Level-triggered: what Deployments say is told to the store at each change, and each build counts once there.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from appfn.api.deployment import BuildPhase, Deployment
from appfn.errors import TransientError
from appfn.shim.catalog import Catalog
from appfn.store.executions import ExecutionStore
from appfn.store.model import EndedBuild

COALESCE_SECONDS = 0.5
"""How long changes are gathered before they are told."""
RETRY_SECONDS = 5.0
_BATCH = 200
_ENDED = frozenset({BuildPhase.READY, BuildPhase.FAILED})
_logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Ledger:
    """See the module.

    Attributes:
        memory_mb: what a build may use, in MiB.
    """

    store: ExecutionStore
    catalog: Catalog
    memory_mb: int
    _told: frozenset[str] = field(default_factory=frozenset)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the ledger while the context is open."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            change = self.catalog.change  # before the look, so that what comes during it is not missed
            try:
                await self._tell()
                await change.wait()
                await asyncio.sleep(COALESCE_SECONDS)
            except TransientError as error:
                _logger.warning("cannot add builds to the usage", extra={"error": str(error)})
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                _logger.exception("adding builds to the usage failed")
                await asyncio.sleep(RETRY_SECONDS)

    async def _tell(self) -> None:
        found = {build.key: build for build in self._ended()}
        fresh = [build for key, build in found.items() if key not in self._told]
        for start in range(0, len(fresh), _BATCH):
            await self.store.add_builds(fresh[start : start + _BATCH])
        self._told = frozenset(found)

    def _ended(self) -> Iterator[EndedBuild]:
        for deployment in self.catalog.all_deployments():
            function = self.catalog.named(deployment.metadata.namespace, deployment.spec.function_ref.name)
            if function is not None:  # else it is kept until its function is there
                yield from ended(deployment, function_uid=function.metadata.uid, memory_mb=self.memory_mb)


def ended(deployment: Deployment, *, function_uid: str, memory_mb: int) -> Iterator[EndedBuild]:
    """Yield the builds of a deployment that came to an end; pure."""
    for build in deployment.status.builds:
        if build.phase not in _ENDED or build.end_time is None:
            continue
        began = build.start_time or build.end_time
        yield EndedBuild(
            key=f"{deployment.metadata.uid}/{build.architecture}/{build.attempt}",
            namespace=deployment.metadata.namespace,
            function_uid=function_uid,
            ended_at=build.end_time,
            seconds=max(0.0, (build.end_time - began).total_seconds()),
            memory_mb=memory_mb,
            ready=build.phase is BuildPhase.READY,
        )
