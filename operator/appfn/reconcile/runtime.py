"""Controller of Runtimes: their status."""

from appfn import names
from appfn.api import kinds
from appfn.api.kinds import Key
from appfn.api.runtime import Runtime
from appfn.core import catalogue
from appfn.reconcile.dependencies import Dependencies
from appfn.reconcile.gather import find
from appfn.reconcile.status import write_status


async def reconcile(deps: Dependencies, key: Key) -> float | None:
    """Bring the Runtime's status up to date."""
    runtime = await find(deps.cluster, Runtime, key)
    if runtime is None or runtime.metadata.deletion_timestamp is not None:
        return None
    await write_status(
        deps,
        kinds.RUNTIME,
        runtime.metadata,
        old=runtime.status,
        new=catalogue.decide(runtime, deps.time()),
        manager=names.FIELD_MANAGER_RUNTIME,
    )
    return None
