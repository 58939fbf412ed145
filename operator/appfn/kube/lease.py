"""Leader election by a `coordination.k8s.io` Lease.

Written here because `kubernetes.aio.leaderelection` compares wall clocks, cannot release, and lets connection errors
end it. Differences of clocks do not matter here: a Lease counts as expired when this process has seen it unchanged for
its duration by its own monotonic clock.

No lock in a distributed system excludes for certain: a process that was suspended wakes up as a leader for a moment.
So leadership keeps two replicas from doing the same work; what must not happen twice is guarded by deterministic names
and resourceVersion preconditions.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn, Protocol

from appfn.api.base import Json
from appfn.api.kinds import LEASE, Key
from appfn.errors import AppfnError, ConflictError
from appfn.kube.protocols import Reader, Writer

logger = logging.getLogger(__name__)

_RENEWALS = 5
"""Renewals per lease duration."""
_GIVE_UP = 2 / 3
"""Part of the duration without a renewal after which the leader stops: well before others may take over."""
_POLL_SECONDS = 1.0
"""How often a standby looks, at least: the bound on a handover after a release."""
_LEAST_PAUSE = 0.05
_RELEASE_SECONDS = 2.0
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class LeadershipLostError(AppfnError):
    """Another process leads, or may: stop at once, without another write."""


class Leases(Reader, Writer, Protocol):
    """What an election needs of the API server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderElection:
    """One candidate. `identity` is unique among living processes; a process that comes back under it resumes at once.

    `seconds` is the lease's duration, `now` the wall clock that people read in the Lease.
    """

    cluster: Leases
    key: Key
    identity: str
    manager: str
    seconds: float
    now: Callable[[], datetime]

    @asynccontextmanager
    async def lead(self) -> AsyncIterator[None]:
        """Wait to become the leader; stay it while the context is open; let go at its end.

        Raises:
            LeadershipLostError: in an ExceptionGroup, after the body was cancelled.
        """
        term = await self._acquire()
        logger.info("leading", extra={"lease": str(self.key), "identity": self.identity})
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(self._keep(term), name="lease renewal")
            try:
                yield
            finally:
                renewing.cancel()
                await asyncio.wait({renewing})
                await self._release(term)

    async def _acquire(self) -> "_Term":
        """Return the term of office when it has begun."""
        clock = asyncio.get_running_loop().time
        seen: Json | None = None
        expires = 0.0
        while True:
            try:
                lease = await self.cluster.get(LEASE, self.key)
                spec = (lease or {}).get("spec") or {}
                if spec != seen:
                    seen, expires = spec, clock() + float(spec.get("leaseDurationSeconds", self.seconds))
                if spec.get("holderIdentity") in {None, "", self.identity} or clock() >= expires:
                    return await self._take(lease)
            except ConflictError:
                logger.info("another candidate was faster", extra={"lease": str(self.key)})
            except AppfnError as error:
                logger.warning("cannot look at the lease, will try again", extra={"error": str(error)})
            await asyncio.sleep(min(_POLL_SECONDS, max(expires - clock(), _LEAST_PAUSE)))

    async def _take(self, lease: Json | None) -> "_Term":
        moment = self.now().strftime(_TIME)
        spec: Json = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self.seconds)),
            "acquireTime": moment,
            "renewTime": moment,
            "leaseTransitions": 0,
        }
        if lease is None:
            name = {"namespace": self.key.namespace, "name": self.key.name}
            made = await self.cluster.create(LEASE, {"metadata": name, "spec": spec})
        else:
            spec["leaseTransitions"] = ((lease.get("spec") or {}).get("leaseTransitions") or 0) + 1
            made = await self._patch(spec, version=_version(lease))
        return _Term(acquired=moment, version=_version(made))

    async def _keep(self, term: "_Term") -> NoReturn:
        clock = asyncio.get_running_loop().time
        renewed = clock()
        while True:
            await asyncio.sleep(self.seconds / _RENEWALS)
            try:
                async with asyncio.timeout_at(renewed + self.seconds * _GIVE_UP):
                    renewed = await self._renew(term)
            except TimeoutError:
                raise LeadershipLostError(f"{self.key}: the lease could not be renewed in time") from None

    async def _renew(self, term: "_Term") -> float:
        """Renew, trying again while the API server cannot be reached; return the loop's time before the good try."""
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await self._write(term, {"renewTime": self.now().strftime(_TIME)})
            except LeadershipLostError:
                raise
            except AppfnError as error:
                logger.warning("cannot renew the lease, will try again", extra={"error": str(error)})
                await asyncio.sleep(self.seconds / _RENEWALS / 4)
            else:
                return started

    async def _release(self, term: "_Term") -> None:
        """Let go at once, so that a standby need not wait; a lease that is lost already is not ours to change."""
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._write(term, {"holderIdentity": None, "leaseDurationSeconds": 1})
        except (AppfnError, TimeoutError) as error:
            logger.warning("lease not released", extra={"lease": str(self.key), "error": str(error)})

    async def _write(self, term: "_Term", spec: Json) -> None:
        """Write into the Lease of this term.

        Of two processes with one identity the later wins: it wrote another `acquireTime`.

        Raises:
            LeadershipLostError: it is another's, or gone.
        """
        try:
            term.version = _version(await self._patch(spec, version=term.version))
        except ConflictError:
            # Another leader, or a write of ours whose answer got lost, or somebody's annotation.
            lease = await self.cluster.get(LEASE, self.key)
            found = (lease or {}).get("spec") or {}
            if lease is None or (found.get("holderIdentity"), found.get("acquireTime")) != (
                self.identity,
                term.acquired,
            ):
                raise LeadershipLostError(f"{self.key}: held by {found.get('holderIdentity')} now") from None
            term.version = _version(await self._patch(spec, version=_version(lease)))

    async def _patch(self, spec: Json, *, version: str) -> Json:
        patch = {"metadata": {"resourceVersion": version}, "spec": spec}
        patched = await self.cluster.merge_patch(LEASE, self.key, patch, manager=self.manager)
        if patched is None:
            raise ConflictError(f"lease {self.key} is gone")
        return patched


@dataclass(slots=True, kw_only=True)
class _Term:
    """One uninterrupted leadership: `acquired` tells it from all others."""

    acquired: str
    version: str


def _version(lease: Json) -> str:
    return str(lease["metadata"]["resourceVersion"])
