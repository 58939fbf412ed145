"""The controllers against a real API server, one reconcile at a time, with the rights manifests/ gives the operator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

import yaml

from appfn.api.base import Json
from appfn.api.kinds import DEPLOYMENT, EXECUTION, FUNCTION, JOB, POD, RUNTIME, Key, Kind
from appfn.kube.client import KubeCluster
from appfn.reconcile.registry import Controller, Handler, Seen
from support.cluster import ROOT, AuditLog
from support.fake_shim import FakeShim

T = TypeVar("T")

_KINDS = {
    Controller.FUNCTION: FUNCTION,
    Controller.DEPLOYMENT: DEPLOYMENT,
    Controller.EXECUTION: EXECUTION,
    Controller.RUNTIME: RUNTIME,
}


def operator_rules() -> list[Json]:
    """Return what the ClusterRoles of the operator allow, in all namespaces and in projects."""
    documents = yaml.safe_load_all((ROOT / "manifests/base/operator-rbac.yaml").read_text())
    return [rule for role in documents if role["kind"] == "ClusterRole" for rule in role["rules"]]


@dataclass
class Clock:
    """Real time, moved forward by a test that can't wait."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Marks:
    """What controllers marked for each other."""

    made: list[tuple[Controller, Key]] = field(default_factory=list)

    def __call__(self, controller: Controller, key: Key, *, after: float = 0.0) -> None:
        assert after >= 0
        self.made.append((controller, key))


class CrashError(Exception):
    """The operator died here."""


@dataclass
class Crash:
    """Kills a reconcile at one of its writes, to API server or shim: before it is sent, or after it was answered."""

    at: int = 0
    """The write to die at, counted from 1; 0: none."""
    after: bool = False
    seen: int = 0

    def around(self, client: T) -> T:
        """Return the client, with its writes counted."""
        return cast(T, _Counted(client, self))

    def write(self, *, answered: bool) -> None:
        """Take note of a write about to be sent, or just answered."""
        self.seen += not answered
        if self.seen == self.at and answered is self.after:
            raise CrashError


_WRITES = frozenset({"apply", "apply_status", "create", "merge_patch", "delete", "put_artifact", "put_build", "submit"})


class _Counted:
    def __init__(self, client: object, crash: Crash) -> None:
        self._client = client
        self._crash = crash

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name not in _WRITES:
            return method

        async def write(*args: Any, **kwargs: Any) -> Any:
            self._crash.write(answered=False)
            answer = await method(*args, **kwargs)
            self._crash.write(answered=True)
            return answer

        return write


@dataclass(frozen=True, kw_only=True)
class Operator:
    """The controllers and everything around them. `cluster` is the administrator's connection, for arranging."""

    cluster: KubeCluster
    namespace: str
    handlers: Mapping[Controller, Handler]
    shim: FakeShim
    clock: Clock
    marks: Marks
    crash: Crash
    seen: Seen
    """What watches have told of: what `create` makes."""
    audit: AuditLog
    user: str

    async def run(self, controller: Controller, name: str) -> float | None:
        """Reconcile one object once."""
        namespace = "" if controller in {Controller.RUNTIME, Controller.POOL} else self.namespace
        return await self.handlers[controller](Key(namespace, name))

    async def status(self, controller: Controller, name: str) -> Json:
        """Return an object's status as the API server has it."""
        status: Json = (await self.get(_KINDS[controller], name)).get("status", {})
        return status

    async def get(self, kind: Kind, name: str) -> Json:
        """Return an object that must be there."""
        found = await self.cluster.get(kind, Key(self.namespace if kind.namespaced else "", name))
        assert found is not None, f"{kind.name} {name} is not there"
        return found

    async def create(self, kind: Kind, name: str, spec: Json, **metadata: object) -> Json:
        """Create an object of ours."""
        address = {"name": name} | ({"namespace": self.namespace} if kind.namespaced else {})
        body = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {**address, **metadata}, "spec": spec}
        made = await self.cluster.create(kind, body)
        self.seen.note(kind, made["metadata"]["resourceVersion"])
        return made

    async def patch(self, kind: Kind, name: str, patch: Json) -> None:
        """Merge a patch into an object, as a user would."""
        assert await self.cluster.merge_patch(kind, Key(self.namespace, name), patch, manager="tests") is not None

    async def jobs(self) -> list[Json]:
        """Return the Jobs."""
        return await self.cluster.list(JOB, namespace=self.namespace)

    async def pod_of(self, job: str) -> Json | None:
        """Return the pod the Job controller made."""
        pods = await self.cluster.list(POD, namespace=self.namespace, labels=f"batch.kubernetes.io/job-name={job}")
        return pods[0] if pods else None

    async def pod_status(self, pod: Json, status: Json) -> None:
        """Say about a pod what a kubelet would."""
        manifest = {"metadata": pod["metadata"] | {"resourceVersion": ""}, "status": status}
        await self.cluster.apply_status(POD, manifest, manager="kubelet")

    def writes(self, since: int) -> list[str]:
        """Return what the controllers wrote, as `verb resource name`."""
        found = self.audit.writes(since=since, user=self.user)
        return [f"{write.verb} {write.resource} {write.name}".rstrip() for write in found]


def condition(status: Json, type_: str) -> tuple[str, str] | None:
    """Return status and reason of a condition."""
    found = next((item for item in status.get("conditions", []) if item["type"] == type_), None)
    return None if found is None else (found["status"], found["reason"])
