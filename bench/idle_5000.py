"""5,000 Functions that nobody calls, each with a Deployment that is built, on a control plane without nodes.

The operator and the shim run as processes of their own. The baseline of each figure is the same with BASE Functions.

Goals, chosen here: both start again and are in sync within a minute, in less than 512 MiB; at rest nothing is written
(the operator's Lease apart); one change is noticed within 100 ms, a call goes to an activated Deployment within 300 ms.
"""

import asyncio
import re
import secrets
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import DEPLOYMENT, FUNCTION, NAMESPACE, NODE, Key
from appfn.kube.client import KubeCluster, connect
from bench.harness import Context, Goal, Result, extremes, median, percentile, quartiles
from bench.shim_process import Shim, shim
from localcluster.controlplane import ControlPlane
from support.cluster import AuditLog, install_definitions, kubeconfig_with_token, service_account, token_of
from support.operator_process import Operator, operator
from support.polling import eventually
from support.project import DIGEST, ProjectKit, apply_runtime
from support.reconciling import operator_rules

FUNCTIONS: Final = 5000
BASE: Final = 50
PROJECTS: Final = 10
_RUNTIME = "python-bench"
_AT_ONCE = 24
_MIB = 1024
_SYNC_SECONDS = 600.0
_EVERYTHING: Json = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
_BUILD: Json = {
    "architecture": "amd64",
    "phase": "ready",
    "attempt": 1,
    "image": "appfn/runtime-python:3.13",
    "artifact": {"digest": DIGEST, "size": 1000},
    "log": {"digest": DIGEST, "size": 1000},
    "logTail": "a line of a build's log, as installers write them\n" * 30,
}
_LEASES: Json = {
    "apiGroups": ["coordination.k8s.io"],
    "resources": ["leases"],
    "verbs": ["get", "create", "update", "patch"],
}
_METRIC = re.compile(r"^(\w+)(?:\{[^}]*\})? ([0-9.e+-]+)$", re.MULTILINE)


@dataclass(slots=True)
class Figures:
    """What is measured with so many Functions."""

    shim_start: float = 0
    shim_rss: float = 0
    sync: float = 0
    sync_cpu: float = 0
    reconciles: float = 0
    operator_rss: float = 0
    operator_peak: float = 0
    writes: int = 0
    cpu: float = 0
    edits: list[float] = field(default_factory=list)
    activations: list[float] = field(default_factory=list)


def run(context: Context) -> Sequence[Result]:
    """Measure."""
    many = context.few(FUNCTIONS, 500)
    with (
        tempfile.TemporaryDirectory(prefix="appfn-bench-") as folder,
        ControlPlane.start(Path(folder) / "control-plane") as plane,
    ):
        few, idle = asyncio.run(_measure(context, plane, Path(folder), many))
    return _results(few, idle, rest=context.few(30, 10))


async def _measure(context: Context, plane: ControlPlane, folder: Path, many: int) -> tuple[Figures, Figures]:
    async with connect(plane.kubeconfig) as cluster:
        world = await World.make(cluster, plane, folder, rest=context.few(30, 10))
        await world.fill(0, BASE)
        await world.settle()
        few = await world.figures(samples=context.few(20, 5))
        await world.fill(BASE, many)
        await world.settle()
        return few, await world.figures(samples=context.few(20, 5))


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The control plane with its projects, and who runs on it."""

    cluster: KubeCluster
    audit: AuditLog
    folder: Path
    kubeconfigs: dict[str, Path]
    token: Path
    users: dict[str, str]
    port: int
    health_port: int
    rest: float
    system: str

    @classmethod
    async def make(cls, cluster: KubeCluster, plane: ControlPlane, folder: Path, *, rest: float) -> "World":
        """Return it with definitions, a node, projects and identities."""
        await install_definitions(cluster)
        system = "appfn-system"
        await cluster.create(NAMESPACE, {"metadata": {"name": system}})
        await cluster.create(NODE, {"metadata": {"name": "node", "labels": {"kubernetes.io/arch": "amd64"}}})
        await apply_runtime(cluster, _RUNTIME)
        for number in range(PROJECTS):
            labels = {names.LABEL_PROJECT: _project(number)}
            await cluster.create(NAMESPACE, {"metadata": {"name": _project(number), "labels": labels}})
        kubeconfigs = {}
        for name, rules in (("operator", [*operator_rules(), _LEASES]), ("shim", [_EVERYTHING])):
            token = await service_account(cluster, Key(system, name), rules=rules)
            kubeconfigs[name] = kubeconfig_with_token(plane.kubeconfig, folder / name, token)
        token_path = folder / "token"
        token_path.write_text(await token_of(cluster, Key(system, "operator"), audience=names.AUDIENCE))
        with socket.create_server(("127.0.0.1", 0)) as free, socket.create_server(("127.0.0.1", 0)) as other:
            port, health_port = free.getsockname()[1], other.getsockname()[1]
        return cls(
            cluster=cluster,
            audit=AuditLog(plane.audit_log),
            folder=folder,
            kubeconfigs=kubeconfigs,
            token=token_path,
            users={name: f"system:serviceaccount:{system}:{name}" for name in kubeconfigs},
            port=port,
            health_port=health_port,
            rest=rest,
            system=system,
        )

    async def fill(self, start: int, end: int) -> None:
        """Make Functions, each with a Deployment whose build is said to be ready."""
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> None:
            async with limit:
                kit = ProjectKit(self.cluster, _project(number), _RUNTIME)
                name = f"function-{number:05}"
                await kit.function(name, variables=[{"name": "COLOUR", "value": "blue"}])
                await self.built(kit.namespace, name)

        begun = time.monotonic()
        await asyncio.gather(*(one(number) for number in range(start, end)))
        print(f"  {end - start} Functions made in {time.monotonic() - begun:.0f} s", flush=True)

    async def built(self, namespace: str, function: str, **spec: object) -> None:
        """Make a Deployment `<function>-v1` and say of it what is said when its build has ended well."""
        metadata = {"namespace": namespace, "name": f"{function}-v1"}
        manifest: Json = {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.name, "metadata": metadata}
        source = {"inline": {"files": {"main.py": "def main(req, res):\n    return res.send('ok')\n"}}}
        made = await self.cluster.create(
            DEPLOYMENT, manifest | {"spec": {"functionRef": {"name": function}, "source": source, **spec}}
        )
        at = made["metadata"]["creationTimestamp"]
        build = _BUILD | {"job": f"{function}-v1-build-amd64-1", "startTime": at, "endTime": at}
        status = {"phase": "ready", "observedGeneration": 1, "sourceDigest": DIGEST, "builds": [build]}
        await self.cluster.apply_status(DEPLOYMENT, manifest | {"status": status}, manager="bench")

    async def settle(self) -> None:
        """Let the operator write what it has to say of objects that are new."""
        begun = time.monotonic()
        async with self._shim(), self._operator() as running:
            await synced(running, self.health_port, within=_SYNC_SECONDS)
        print(f"  all reconciled for the first time in {time.monotonic() - begun:.0f} s", flush=True)

    async def figures(self, *, samples: int) -> Figures:
        """Start both anew and measure."""
        found = Figures()
        begun = time.monotonic()
        async with self._shim() as api:
            found.shim_start = time.monotonic() - begun
            begun = time.monotonic()
            async with self._operator() as running:
                found.reconciles = await synced(running, self.health_port, within=_SYNC_SECONDS)
                found.sync = time.monotonic() - begun
                found.sync_cpu = cpu_seconds(running.process.pid)
                await self._at_rest(found, api, running)
                await self._changes(found, api, samples)
        return found

    async def _at_rest(self, found: Figures, api: Shim, running: Operator) -> None:
        since, used = self.audit.position(), cpu_seconds(api.process.pid) + cpu_seconds(running.process.pid)
        await asyncio.sleep(self.rest)
        writes = self.audit.writes(since=since)
        found.writes = sum(write.user in self.users.values() for write in writes)
        found.cpu = cpu_seconds(api.process.pid) + cpu_seconds(running.process.pid) - used
        found.shim_rss = memory(api.process.pid, "VmRSS")
        found.operator_rss = memory(running.process.pid, "VmRSS")
        found.operator_peak = memory(running.process.pid, "VmHWM")

    async def _changes(self, found: Figures, api: Shim, samples: int) -> None:
        project = _project(0)
        kit = ProjectKit(self.cluster, project, _RUNTIME)
        key = await kit.key("executions.write")
        headers = {"X-Appwrite-Project": project, "X-Appwrite-Key": key}
        async with aiohttp.ClientSession(api.url, headers=headers) as session:
            for number in range(samples):
                found.edits.append(await self._edit(project, seconds=20 + number))
                found.activations.append(await self._activate(kit, session))

    async def _edit(self, project: str, *, seconds: int) -> float:
        """Return the time until an edited Function's status speaks of the edit."""
        key = Key(project, f"function-{0:05}")
        await asyncio.sleep(0.2)
        begun = time.monotonic()
        edited = await self.cluster.merge_patch(FUNCTION, key, {"spec": {"timeout": seconds}}, manager="bench")
        assert edited is not None
        generation = edited["metadata"]["generation"]

        async def probe() -> bool:
            body = await self.cluster.get(FUNCTION, key)
            return body is not None and body["status"].get("observedGeneration") == generation

        await soon(probe)
        return time.monotonic() - begun

    async def _activate(self, kit: ProjectKit, session: aiohttp.ClientSession) -> float:
        """Return the time from naming a Deployment in a Function to the shim's taking calls for it."""
        name = f"fresh-{secrets.token_hex(4)}"
        address, code = Key(kit.namespace, name), Key(kit.namespace, f"{name}-v1")
        await self.built(kit.namespace, name, activate=False)  # before its Function, so that nobody builds it
        await kit.function(name)
        await self.cluster.merge_patch(DEPLOYMENT, code, {"metadata": {"labels": {"bench": "1"}}}, manager="bench")

        async def built() -> bool:
            body = await self.cluster.get(DEPLOYMENT, code)
            return body is not None and any(
                (item["type"], item["status"]) == ("Ready", "True") for item in body["status"].get("conditions", [])
            )

        await eventually(built, within=60)
        await asyncio.sleep(0.3)
        begun = time.monotonic()
        await self.cluster.merge_patch(FUNCTION, address, {"spec": {"deployment": code.name}}, manager="bench")

        async def probe() -> bool:
            path = f"/v1/functions/{name}/executions"
            async with session.post(path, json={"async": True}) as response:
                assert response.status in {202, 404}, await response.text()
                return response.status == 202  # noqa: PLR2004 - HTTP's number

        await soon(probe)
        elapsed = time.monotonic() - begun
        await self.cluster.delete(FUNCTION, address)
        await self.cluster.delete(DEPLOYMENT, code)
        return elapsed

    @asynccontextmanager
    async def _shim(self) -> AsyncIterator[Shim]:
        settings = {"APPFN_NAMESPACE": self.system, "APPFN_OPERATOR_USER": self.users["operator"]}
        async with shim(self.folder, self.kubeconfigs["shim"], port=self.port, **settings) as running:
            yield running

    @asynccontextmanager
    async def _operator(self) -> AsyncIterator[Operator]:
        settings = {
            "APPFN_NAMESPACE": self.system,
            "APPFN_SHIM_URL": f"http://127.0.0.1:{self.port}",
            "APPFN_TOKEN_PATH": str(self.token),
            "APPFN_LOG_LEVEL": "WARNING",
            "APPFN_HEALTH_PORT": str(self.health_port),
        }
        async with AsyncExitStack() as stack:
            running = await stack.enter_async_context(operator(self.folder, self.kubeconfigs["operator"], **settings))
            yield running
            await running.terminate(within=30)


async def synced(running: Operator, port: int, *, within: float) -> float:
    """Return when the operator's queue has been empty for a second; how many reconciles that took."""
    quiet = 0
    done = 0.0

    async def probe() -> bool:
        nonlocal quiet, done
        assert running.process.returncode is None, running.output()
        try:
            async with session.get("/metrics") as page:
                metrics = totals(await page.text())
        except aiohttp.ClientError:
            return False
        busy = metrics["appfn_queue_waiting"] + metrics["appfn_queue_running"]
        now = metrics.get("appfn_reconciles_total", 0.0)
        quiet = quiet + 1 if now and not busy and now == done else 0
        done = now
        await asyncio.sleep(0.2)
        return quiet >= 5  # noqa: PLR2004 - a second

    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        await eventually(probe, within=within)
    return done


def totals(page: str) -> dict[str, float]:
    """Return the metrics of a page, summed over their labels."""
    found: dict[str, float] = {}
    for name, value in _METRIC.findall(page):
        found[name] = found.get(name, 0.0) + float(value)
    return found


async def soon(probe: Callable[[], Awaitable[bool]]) -> None:
    """Return when the probe says yes: asked every few milliseconds, as it is a time that is measured."""
    async with asyncio.timeout(30):
        while not await probe():  # noqa: ASYNC110 - what is asked is another process
            await asyncio.sleep(0.005)


def memory(pid: int, field_name: str) -> float:
    """Return a process's memory in MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(field_name))) / _MIB


def cpu_seconds(pid: int) -> float:
    """Return the CPU time a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _project(number: int) -> str:
    return f"project-{number % PROJECTS}"


def _results(few: Figures, idle: Figures, *, rest: float) -> list[Result]:
    def figure(name: str, unit: str, value: float, base: float, limit: float | None) -> Result:
        goal = Goal(limit=limit) if limit is not None else None
        return Result(
            name=f"idle_5000 {name}", unit=unit, value=value, baseline=base, against=f"{BASE} Functions", goal=goal
        )

    def noticed(name: str, samples: list[float], base: list[float], limit: float) -> Result:
        scaled = [1000 * sample for sample in samples]
        return Result(
            name=f"idle_5000 {name}",
            unit="ms",
            value=median(scaled),
            baseline=1000 * median(base),
            against=f"{BASE} Functions",
            n=len(scaled),
            spread=quartiles(scaled) if len(scaled) > 3 else extremes(scaled),  # noqa: PLR2004 - quarters need four
            goal=Goal(limit=limit),
        )

    return [
        figure("operator memory", "MiB", idle.operator_rss, few.operator_rss, 512),
        figure("operator memory, peak", "MiB", idle.operator_peak, few.operator_peak, 512),
        figure("shim memory", "MiB", idle.shim_rss, few.shim_rss, 512),
        figure("shim restart to ready", "s", idle.shim_start, few.shim_start, 30),
        figure("operator restart to in sync", "s", idle.sync, few.sync, 60),
        figure("operator restart, its CPU time", "s", idle.sync_cpu, few.sync_cpu, None),
        figure("reconciles of a restart", "", idle.reconciles, few.reconciles, None),
        figure(f"writes at rest in {rest:g} s", "", idle.writes, few.writes, 0),
        figure(f"CPU at rest in {rest:g} s", "s", idle.cpu, few.cpu, rest / 20),
        noticed("edit noticed", idle.edits, few.edits, 100),
        noticed("edit noticed p95", [percentile(idle.edits, 95)], [percentile(few.edits, 95)], 200),
        noticed("activation served", idle.activations, few.activations, 300),
    ]
