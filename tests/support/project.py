"""A project in the cluster as the shim finds it: what the operator would have written is written here."""

import base64
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from appfn.api.base import Json
from appfn.api.kinds import CONFIG_MAP, DEPLOYMENT, FUNCTION, RUNTIME, SECRET, Key
from appfn.kube.client import KubeCluster
from appfn.shim.auth import api_key
from appfn.shim.auth.identity import scopes_of

DIGEST = "sha256:" + "a" * 64
_MANAGER = "tests"
_API = "appfn.dev/v1alpha1"


async def apply_runtime(
    cluster: KubeCluster, name: str, *, enabled: bool = True, concurrency: int = 4, agent_command: str = ""
) -> None:
    """Make a Runtime."""
    spec = {
        "language": "python",
        "version": "3.13",
        "displayName": "Python",
        "enabled": enabled,
        "loadMode": "Import",
        "images": [{"architecture": "amd64", "image": "appfn/runtime-python:3.13"}],
        "entrypoint": "main.py",
        "buildCommand": "true",
        "startCommand": "true",
        "agentCommand": agent_command,
        "concurrency": concurrency,
    }
    manifest = {"apiVersion": _API, "kind": "Runtime", "metadata": {"name": name}, "spec": spec}
    await cluster.apply(RUNTIME, manifest, manager=_MANAGER)


@dataclass(frozen=True, slots=True)
class ProjectKit:
    """Makes things in one project."""

    cluster: KubeCluster
    namespace: str
    runtime: str

    async def function(self, name: str, *, active: str | None = None, **spec: Any) -> str:
        """Make a Function whose active deployment is said to be `active`; return its uid."""
        metadata = {"name": name, "namespace": self.namespace}
        body: Json = {"runtime": self.runtime, **spec}
        manifest = {"apiVersion": _API, "kind": "Function", "metadata": metadata, "spec": body}
        made = await self.cluster.apply(FUNCTION, manifest, manager=_MANAGER)
        if active is not None:
            status = {
                "apiVersion": _API,
                "kind": "Function",
                "metadata": metadata,
                "status": {"activeDeployment": active},
            }
            await self.cluster.apply_status(FUNCTION, status, manager=_MANAGER)
        return str(made["metadata"]["uid"])

    async def deployment(self, name: str, function: str, *, phase: str | None = "ready", **spec: Any) -> None:
        """Make a Deployment with one build in that phase; None: without a build."""
        metadata = {"name": name, "namespace": self.namespace}
        body: Json = {"functionRef": {"name": function}, "source": {"inline": {"files": {"main.py": "x"}}}, **spec}
        manifest = {"apiVersion": _API, "kind": "Deployment", "metadata": metadata, "spec": body}
        await self.cluster.apply(DEPLOYMENT, manifest, manager=_MANAGER)
        if phase is None:
            return
        build: Json = {"architecture": "amd64", "phase": phase}
        if phase == "ready":
            build["artifact"] = {"digest": DIGEST, "size": 10}
        status = {
            "apiVersion": _API,
            "kind": "Deployment",
            "metadata": metadata,
            "status": {"phase": phase, "builds": [build]},
        }
        await self.cluster.apply_status(DEPLOYMENT, status, manager=_MANAGER)

    async def ready(self, name: str, **spec: Any) -> str:
        """Make a Function with a ready Deployment `<name>-v1`; return the Function's uid."""
        uid = await self.function(name, active=f"{name}-v1", **spec)
        await self.deployment(f"{name}-v1", name)
        return uid

    async def key(self, *scopes: str, expires: datetime | None = None) -> str:
        """Make an API key; return what goes into the header."""
        key = api_key.generate(secrets.token_bytes)
        names = scopes_of(" ".join(scopes))
        manifest = api_key.manifest(key, namespace=self.namespace, name="test", scopes=names, expires=expires)
        await self.cluster.create(SECRET, manifest)
        return key.text()

    async def secret(self, name: str, data: dict[str, bytes]) -> None:
        """Make or change a Secret."""
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        metadata = {"name": name, "namespace": self.namespace}
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}
        await self.cluster.apply(SECRET, manifest, manager=_MANAGER)

    async def config_map(self, name: str, data: dict[str, str]) -> None:
        """Make or change a ConfigMap."""
        metadata = {"name": name, "namespace": self.namespace}
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        await self.cluster.apply(CONFIG_MAP, manifest, manager=_MANAGER)

    async def delete_function(self, name: str) -> None:
        """Delete a Function."""
        await self.cluster.delete(FUNCTION, Key(self.namespace, name))
