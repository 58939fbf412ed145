"""The operator's process: its roles, its end, and its silence at rest."""

import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest
from aiohttp import web

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import FUNCTION, LEASE, NODE, POOL, RUNTIME, Key
from appfn.kube.client import KubeCluster
from localcluster.controlplane import ControlPlane
from support.cluster import AuditLog, kubeconfig_with_token, service_account
from support.fake_shim import TOKEN, FakeShim
from support.operator_process import Operator, operator
from support.polling import eventually
from support.reconciling import operator_rules
from support.watcher import RULES

LEASES: Json = {
    "apiGroups": ["coordination.k8s.io"],
    "resources": ["leases"],
    "verbs": ["get", "create", "update", "patch"],
}
START = 60.0
"""Seconds a process may take to import and start on a busy machine; what matters is measured from then on."""


@pytest.fixture
async def pooled_runtime(cluster: KubeCluster) -> AsyncIterator[str]:
    """Make a node, and a Runtime with a pool on it."""
    name = f"python-{secrets.token_hex(4)}"
    spec = {
        "language": "python",
        "version": "3.13",
        "displayName": "Python",
        "enabled": True,
        "pool": 1,
        "images": [{"architecture": "amd64", "image": "runtime-python:3.13"}],
        "buildCommand": "build.sh",
        "startCommand": "start.sh",
    }
    runtime = {"apiVersion": RUNTIME.api_version, "kind": "Runtime", "metadata": {"name": name}, "spec": spec}
    await cluster.create(NODE, {"metadata": {"name": name, "labels": {"kubernetes.io/arch": "amd64"}}})
    await cluster.create(RUNTIME, runtime)
    yield name
    await cluster.delete(RUNTIME, Key("", name))
    await cluster.delete(NODE, Key("", name))


class Start(Protocol):
    """Starts an operator in the test's namespace."""

    async def __call__(self, pod: str, **environment: str) -> Operator:
        """Return it, running or not."""


@pytest.fixture
async def rules() -> list[Json]:
    """Return the operator's rights; a test may take some away."""
    return [*RULES, LEASES]


@pytest.fixture
async def start(
    cluster: KubeCluster, control_plane: ControlPlane, namespace: str, tmp_path: Path, rules: list[Json]
) -> AsyncIterator[Start]:
    token = await service_account(cluster, Key(namespace, "operator"), rules=rules)
    kubeconfig = kubeconfig_with_token(control_plane.kubeconfig, tmp_path / "config", token)
    async with AsyncExitStack() as running:

        async def start(pod: str, **environment: str) -> Operator:
            settings = {"APPFN_NAMESPACE": namespace, "APPFN_POD_NAME": pod, "APPFN_LEASE_SECONDS": "3"}
            return await running.enter_async_context(operator(tmp_path, kubeconfig, **settings | environment))

        yield start


async def test_it_leads_is_ready_and_stops_cleanly_when_asked(
    cluster: KubeCluster, namespace: str, start: Start
) -> None:
    first = await start("a")
    await first.becomes("leader", within=START)
    assert await first.get("/healthz") == (200, "ok")
    assert "appfn_leader 1.0" in (await first.get("/metrics"))[1]

    assert await first.terminate() == 0

    lease = await cluster.get(LEASE, Key(namespace, names.LEASE_OPERATOR))
    assert lease is not None
    assert "holderIdentity" not in lease["spec"]
    # kopf complains when it is stopped while it starts
    ours = [entry for entry in first.log() if entry["logger"].startswith("appfn")]
    assert [entry for entry in ours if entry["level"] == "error"] == []


async def test_a_standby_is_ready_and_takes_over_within_two_seconds_of_a_stop(start: Start) -> None:
    first = await start("a", APPFN_LEASE_SECONDS="60")
    await first.becomes("leader", within=START)
    second = await start("b", APPFN_LEASE_SECONDS="60")
    await second.becomes("standby", within=START)

    assert await first.terminate() == 0
    await second.becomes("leader", within=2)


async def test_a_standby_takes_over_from_a_killed_leader(start: Start) -> None:
    first, second = await start("a"), await start("b")

    async def settled() -> tuple[Operator, Operator] | None:
        roles = {await first.role(): first, await second.role(): second}
        return (roles["leader"], roles["standby"]) if set(roles) == {"leader", "standby"} else None

    leader, standby = await eventually(settled, within=START)
    os.kill(leader.process.pid, signal.SIGKILL)
    await standby.becomes("leader", within=8)


async def test_a_standby_stops_cleanly_when_asked(start: Start) -> None:
    await (await start("a")).becomes("leader", within=START)
    second = await start("b")
    await second.becomes("standby", within=START)
    assert await second.terminate(within=3) == 0


async def test_a_leader_whose_lease_is_taken_ends_and_says_why(
    cluster: KubeCluster, namespace: str, start: Start
) -> None:
    first = await start("a")
    await first.becomes("leader", within=START)
    thief: Json = {"spec": {"holderIdentity": "thief", "acquireTime": "2026-01-01T00:00:00.000000Z"}}
    await cluster.merge_patch(LEASE, Key(namespace, names.LEASE_OPERATOR), thief, manager="thief")

    assert await first.ends(within=10) == 1
    assert "LeadershipLostError" in first.output()
    assert "held by thief now" in first.output()


@pytest.mark.parametrize("rules", [[*RULES[:1], *RULES[2:], LEASES]], ids=["without nodes, namespaces and pods"])
async def test_when_kopf_dies_the_process_ends_and_says_so(start: Start) -> None:
    first = await start("a")
    assert await first.ends(within=START) == 1
    assert "kopf failed" in first.output()


async def test_a_kubeconfig_it_cannot_read_ends_it_with_its_path(start: Start) -> None:
    first = await start("a", APPFN_KUBECONFIG="/nonexistent/config")
    assert await first.ends(within=START) == 1
    assert "/nonexistent/config" in first.output()


async def test_it_refuses_a_configuration_it_cannot_use(start: Start) -> None:
    first = await start("a", APPFN_WORKERS="many", APPFN_IMAGE="")
    assert await first.ends(within=START) == 2
    assert "APPFN_WORKERS" in first.output()
    assert "APPFN_IMAGE" in first.output()


async def test_at_rest_it_writes_nothing_but_its_lease(namespace: str, start: Start, audit: AuditLog) -> None:
    first = await start("a", APPFN_RESYNC_SECONDS="1", APPFN_LEASE_SECONDS="5")
    await first.becomes("leader", within=START)
    user = f"system:serviceaccount:{namespace}:operator"
    position = audit.position()

    async def three_renewals() -> bool:
        return len(audit.writes(since=position, user=user, resource="leases", leases=True)) >= 3

    await eventually(three_renewals, within=10)
    assert audit.writes(since=position, user=user) == []


class BusyShim(FakeShim):
    """A shim whose function is called all the time: each time one asks there have been more calls."""

    async def _summary(self, request: web.Request) -> web.Response:
        self.counts = {**self.counts, "total": self.counts.get("total", 0) + 1}
        return await super()._summary(request)


@pytest.mark.parametrize("rules", [[*operator_rules(), LEASES]], ids=["with its rights in a project"])
async def test_a_function_that_is_called_all_the_time_is_not_written_all_the_time(
    cluster: KubeCluster, namespace: str, start: Start, audit: AuditLog, tmp_path: Path
) -> None:
    shim, token = BusyShim(), tmp_path / "token"
    token.write_text(TOKEN)
    async with shim.serve() as url:
        first = await start("a", APPFN_SHIM_URL=url, APPFN_TOKEN_PATH=str(token), APPFN_LEASE_SECONDS="5")
        await first.becomes("leader", within=START)
        await eventually(lambda: _watches(first), within=10)
        manifest = {"apiVersion": FUNCTION.api_version, "kind": "Function", "spec": {"runtime": "python-3.13"}}
        await cluster.create(FUNCTION, manifest | {"metadata": {"namespace": namespace, "name": "fn"}})
        user = f"system:serviceaccount:{namespace}:operator"

        async def counted() -> bool:
            return bool(audit.writes(user=user, resource="functions/status"))

        async def two_renewals() -> bool:
            return len(audit.writes(since=position, user=user, resource="leases", leases=True)) >= 2

        await eventually(counted, within=10)
        position = audit.position()
        await eventually(two_renewals, within=10)
        # Now and then something else happens for which all Functions are looked at; each look found it changed.
        assert len(audit.writes(since=position, user=user, resource="functions/status")) < 6


async def test_a_function_made_is_reconciled_within_a_second(
    cluster: KubeCluster, namespace: str, start: Start
) -> None:
    first = await start("a")
    await first.becomes("leader", within=START)
    await eventually(lambda: _watches(first), within=10)
    manifest = {
        "apiVersion": FUNCTION.api_version,
        "kind": "Function",
        "metadata": {"namespace": namespace, "name": "fn"},
        "spec": {"runtime": "python-3.13"},
    }

    await cluster.create(FUNCTION, manifest)

    async def reconciled() -> bool:
        page = (await first.get("/metrics"))[1]
        return any(line.startswith('appfn_reconciles_total{controller="function"') for line in page.splitlines())

    await eventually(reconciled, within=1)


@pytest.mark.parametrize("rules", [[*operator_rules(), LEASES]], ids=["with its rights in a project"])
async def test_a_pool_comes_with_a_function_comes_back_and_goes_with_it(
    cluster: KubeCluster, namespace: str, start: Start, pooled_runtime: str
) -> None:
    first = await start("a")
    await first.becomes("leader", within=START)
    await eventually(lambda: _watches(first), within=10)
    manifest: Json = {"apiVersion": FUNCTION.api_version, "kind": "Function", "spec": {"runtime": pooled_runtime}}

    async def pools() -> list[str]:
        return [body["metadata"]["uid"] for body in await cluster.list(POOL, namespace=namespace)]

    await cluster.create(FUNCTION, manifest | {"metadata": {"namespace": namespace, "name": "fn"}})
    [made] = await eventually(pools, within=10)
    await cluster.delete(POOL, Key(namespace, names.pool(pooled_runtime, "amd64")))

    async def made_again() -> bool:
        return await pools() not in ([], [made])

    async def gone() -> bool:
        return await pools() == []

    await eventually(made_again, within=10)
    await cluster.delete(FUNCTION, Key(namespace, "fn"))
    await eventually(gone, within=10)


async def _watches(process: Operator) -> bool:
    """Tell whether kopf has had time to list: it says when it has logged in."""
    return any(entry["logger"].startswith("kopf") and "finished" in entry["message"] for entry in process.log())
