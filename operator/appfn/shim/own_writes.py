"""Clients read their own writes: who wrote to Kubernetes waits here until the catalog has it, for a bounded time.

Other processes and replicas of the shim may be later, by the lag of their watches.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from appfn.api.base import Json, ObjectMeta
from appfn.api.kinds import Key, Kind
from appfn.shim.catalog import Catalog

SECONDS = 2.0
"""How long a write is waited for at most."""


async def seen(catalog: Catalog, kind: Kind, written: Json) -> None:
    """Return when the catalog has a Function or Deployment as it was written, or newer; or when this takes too long."""
    metadata = ObjectMeta.model_validate(written["metadata"])

    def done() -> bool:
        found = catalog.metadata(kind, metadata.key)
        return found is not None and _version(found) >= _version(metadata)

    await until(catalog, done)


async def gone(catalog: Catalog, kind: Kind, key: Key, *, uid: str) -> None:
    """As `seen`, of an object that was deleted."""

    def done() -> bool:
        found = catalog.metadata(kind, key)
        return found is None or found.uid != uid or found.deletion_timestamp is not None

    await until(catalog, done)


def _version(metadata: ObjectMeta) -> int:
    return int(metadata.resource_version or 0)  # Kubernetes lets versions of one kind be compared so (KEP-5504)


async def until(catalog: Catalog, done: Callable[[], bool]) -> None:
    """Return when the catalog shows what it should, or when this takes too long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SECONDS):
            while not done():
                await catalog.change.wait()
