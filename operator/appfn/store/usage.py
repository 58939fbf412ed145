"""Builds that end, added to the usage of their functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sqlalchemy import insert, select

from appfn.store.commit import Operation, Transaction
from appfn.store.model import EndedBuild
from appfn.store.retention import USAGE_KEPT
from appfn.store.schema import BUILDS
from appfn.store.tallies import Tallies, hour_of


@dataclass(frozen=True, slots=True)
class AddBuilds(Operation[None]):
    """Count builds that were not counted before."""

    builds: tuple[EndedBuild, ...]

    @classmethod
    async def apply(cls, tx: Transaction, operations: Sequence[Self]) -> Sequence[None]:
        """See `Operation`. The feed's lock keeps two from counting the same."""
        young = [build for item in operations for build in item.builds if tx.now - build.ended_at < USAGE_KEPT]
        builds = {build.key: build for build in young}
        counted = await tx.connection.execute(select(BUILDS.c.key).where(BUILDS.c.key.in_(list(builds))))
        for key in counted.scalars():
            del builds[key]
        if builds:
            tallies = Tallies()
            for build in builds.values():
                tallies.built(build)
            rows = [{"key": key, "hour": hour_of(build.ended_at)} for key, build in builds.items()]
            await tx.connection.execute(insert(BUILDS), rows)
            await tallies.write(tx)
        return [None] * len(operations)
