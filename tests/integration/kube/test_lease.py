"""Leader election on a real API server."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appfn.api.base import Json
from appfn.api.kinds import LEASE, Key
from appfn.kube.client import KubeCluster, connect
from appfn.kube.lease import LeaderElection, LeadershipLostError, Leases
from localcluster.controlplane import ControlPlane
from support.cluster import AuditLog, kubeconfig_with_server
from support.polling import eventually
from support.proxy import proxy_to

SECONDS = 2.0


def candidate(cluster: Leases, namespace: str, identity: str = "", *, seconds: float = SECONDS) -> LeaderElection:
    return LeaderElection(
        cluster=cluster,
        key=Key(namespace, "leader"),
        identity=identity or secrets.token_hex(4),
        manager="test",
        seconds=seconds,
        now=lambda: datetime.now(UTC),
    )


class Leader:
    """A candidate in its own task; killed, it lets nothing go."""

    def __init__(self, election: LeaderElection) -> None:
        self.leading = asyncio.Event()
        self._election = election
        self._stop = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self._election.lead():
            self.leading.set()
            await self._stop.wait()

    async def leads(self, within: float) -> float:
        """Return the seconds until it led."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.timeout(within):
            await self.leading.wait()
        return loop.time() - start

    async def stop(self) -> None:
        self._stop.set()
        await self.task


@asynccontextmanager
async def running(*elections: LeaderElection) -> AsyncIterator[list[Leader]]:
    leaders = [Leader(election) for election in elections]
    try:
        yield leaders
    finally:
        for leader in leaders:
            leader.task.cancel()
        await asyncio.wait({leader.task for leader in leaders})


async def spec_of(cluster: KubeCluster, namespace: str) -> Json:
    lease = await cluster.get(LEASE, Key(namespace, "leader"))
    assert lease is not None
    spec: Json = lease["spec"]
    return spec


async def renew_time(cluster: KubeCluster, namespace: str) -> str:
    return str((await spec_of(cluster, namespace))["renewTime"])


async def test_the_first_candidate_leads_at_once_and_says_so(cluster: KubeCluster, namespace: str) -> None:
    async with candidate(cluster, namespace, "first").lead():
        spec = await spec_of(cluster, namespace)
    assert spec["holderIdentity"] == "first"
    assert spec["leaseDurationSeconds"] == SECONDS


async def test_of_many_candidates_one_leads(cluster: KubeCluster, namespace: str) -> None:
    async with running(*(candidate(cluster, namespace) for _ in range(5))) as leaders:

        async def probe() -> bool:
            return any(leader.leading.is_set() for leader in leaders)

        await eventually(probe)
        before = await renew_time(cluster, namespace)

        async def renewed_often() -> bool:
            return await renew_time(cluster, namespace) > before

        await eventually(renewed_often)
        assert sum(leader.leading.is_set() for leader in leaders) == 1


async def test_a_standby_takes_over_soon_after_a_release(cluster: KubeCluster, namespace: str) -> None:
    async with running(candidate(cluster, namespace, seconds=60)) as [first]:
        await first.leads(within=5)
        async with running(candidate(cluster, namespace, "second", seconds=60)) as [second]:
            await first.stop()
            assert await second.leads(within=2) < 2
            spec = await spec_of(cluster, namespace)
            assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("second", 1)


async def test_a_standby_takes_over_from_the_dead_when_the_lease_is_over(cluster: KubeCluster, namespace: str) -> None:
    async with candidate(cluster, namespace, "dead").lead():
        frozen = await spec_of(cluster, namespace)
    dead = candidate(cluster, namespace, "dead")
    term = await dead._acquire()
    assert term.acquired > frozen["acquireTime"]

    async with running(candidate(cluster, namespace)) as [standby]:
        waited = await standby.leads(within=SECONDS + 2)
    assert SECONDS - 0.1 <= waited <= SECONDS + 0.5


async def test_a_process_that_comes_back_leads_at_once_and_its_predecessor_stops(
    cluster: KubeCluster, namespace: str
) -> None:
    async with running(candidate(cluster, namespace, "pod-0")) as [before]:
        await before.leads(within=5)
        async with running(candidate(cluster, namespace, "pod-0")) as [after]:
            await after.leads(within=1)
            with pytest.raises(ExceptionGroup) as raised:
                await before.task
            assert raised.group_contains(LeadershipLostError, match="held by pod-0 now")
            assert not after.task.done()


async def test_a_leader_whose_lease_was_taken_stops_and_leaves_it_alone(cluster: KubeCluster, namespace: str) -> None:
    async with running(candidate(cluster, namespace)) as [leader]:
        await leader.leads(within=5)
        thief: Json = {"spec": {"holderIdentity": "thief", "acquireTime": "2026-01-01T00:00:00.000000Z"}}
        await cluster.merge_patch(LEASE, Key(namespace, "leader"), thief, manager="thief")
        with pytest.raises(ExceptionGroup) as raised:
            await leader.task
    assert raised.group_contains(LeadershipLostError, match="held by thief now")
    assert (await spec_of(cluster, namespace))["holderIdentity"] == "thief"


async def test_a_foreign_change_that_takes_nothing_is_survived(cluster: KubeCluster, namespace: str) -> None:
    async with running(candidate(cluster, namespace, "pod-0")) as [leader]:
        await leader.leads(within=5)
        note: Json = {"metadata": {"annotations": {"example.org/note": "hello"}}}
        noted = await cluster.merge_patch(LEASE, Key(namespace, "leader"), note, manager="somebody")
        assert noted is not None

        async def renewed() -> bool:
            return await renew_time(cluster, namespace) > str(noted["spec"]["renewTime"])

        await eventually(renewed)
        assert not leader.task.done()


async def test_a_leader_cut_off_from_the_api_server_stops_before_its_lease_is_over(
    cluster: KubeCluster, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    async with proxy_to(cluster) as proxy:
        kubeconfig = kubeconfig_with_server(control_plane.kubeconfig, tmp_path / "proxied", proxy.url)
        async with connect(kubeconfig) as through, running(candidate(through, namespace)) as [leader]:
            await leader.leads(within=5)
            proxy.down = True
            cut_off = loop.time()
            with pytest.raises(ExceptionGroup) as raised:
                await leader.task
            assert loop.time() - cut_off < SECONDS
    assert raised.group_contains(LeadershipLostError, match="could not be renewed in time")


async def test_a_renewal_whose_answer_got_lost_costs_nothing(
    cluster: KubeCluster, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with proxy_to(cluster) as proxy:
        kubeconfig = kubeconfig_with_server(control_plane.kubeconfig, tmp_path / "proxied", proxy.url)
        async with connect(kubeconfig) as through, running(candidate(through, namespace)) as [leader]:
            await leader.leads(within=5)
            proxy.lost_answers = 1

            async def lost() -> bool:
                return proxy.lost_answers == 0

            await eventually(lost)
            before = await renew_time(cluster, namespace)

            async def renewed() -> bool:
                return await renew_time(cluster, namespace) > before

            await eventually(renewed)
            assert not leader.task.done()


async def test_it_renews_at_a_steady_rate(cluster: KubeCluster, namespace: str, audit: AuditLog) -> None:
    async with running(candidate(cluster, namespace)) as [leader]:
        await leader.leads(within=5)
        start = audit.position()

        async def probe() -> bool:
            # The API server keeps Leases of its own.
            writes = audit.writes(since=start, resource="leases", leases=True)
            return len([write for write in writes if write.namespace == namespace]) >= 3

        loop = asyncio.get_running_loop()
        began = loop.time()
        await eventually(probe, within=SECONDS)
        assert loop.time() - began > SECONDS / 5
