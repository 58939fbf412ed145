"""The integration tests' API server: resource definitions, identities, and what the audit log says about writes."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from appfn.api.base import Json
from appfn.api.kinds import Key, Kind
from appfn.errors import TransientError
from appfn.kube.client import KubeCluster
from support.polling import eventually

ROOT = Path(__file__).parents[2]

CUSTOM_RESOURCE_DEFINITION = Kind(
    group="apiextensions.k8s.io",
    version="v1",
    plural="customresourcedefinitions",
    name="CustomResourceDefinition",
    namespaced=False,
)
CLUSTER_ROLE = Kind(
    group="rbac.authorization.k8s.io", version="v1", plural="clusterroles", name="ClusterRole", namespaced=False
)
CLUSTER_ROLE_BINDING = Kind(
    group="rbac.authorization.k8s.io",
    version="v1",
    plural="clusterrolebindings",
    name="ClusterRoleBinding",
    namespaced=False,
)
SERVICE_ACCOUNT = Kind(group="", version="v1", plural="serviceaccounts", name="ServiceAccount")

_READS = frozenset({"get", "list", "watch"})
_REVIEWS = frozenset({"tokenreviews", "subjectaccessreviews", "selfsubjectaccessreviews"})


async def install_definitions(cluster: KubeCluster) -> None:
    """Apply crds/ and return when the API server serves them."""
    definitions = [
        document
        for path in sorted((ROOT / "crds").glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document["kind"] == CUSTOM_RESOURCE_DEFINITION.name
    ]
    for definition in definitions:
        await cluster.apply(CUSTOM_RESOURCE_DEFINITION, definition, manager="tests")
    for definition in definitions:
        await _established(cluster, definition["metadata"]["name"])
        await _served(cluster, definition["spec"])


async def _established(cluster: KubeCluster, name: str) -> None:
    async def probe() -> bool:
        found = await cluster.get(CUSTOM_RESOURCE_DEFINITION, Key("", name))
        conditions = (found or {}).get("status", {}).get("conditions") or []
        return any(item["type"] == "Established" and item["status"] == "True" for item in conditions)

    await eventually(probe, within=15)


async def _served(cluster: KubeCluster, spec: Json) -> None:
    """Return when objects can be listed: an established kind answers 429 for a moment while its storage starts."""
    kind = Kind(
        group=spec["group"],
        version=spec["versions"][0]["name"],
        plural=spec["names"]["plural"],
        name=spec["names"]["kind"],
        namespaced=spec["scope"] == "Namespaced",
    )

    async def probe() -> bool:
        try:
            await cluster.list(kind)
        except TransientError:
            return False
        return True

    await eventually(probe, within=30)


def kubeconfig_with_token(admin: Path, target: Path, token: str) -> Path:
    """Write the administrator's kubeconfig to `target` with a bearer token in place of his certificate."""
    document: dict[str, Any] = yaml.safe_load(admin.read_text())
    document["users"][0]["user"] = {"token": token}
    target.write_text(yaml.safe_dump(document))
    return target


def kubeconfig_with_server(kubeconfig: Path, target: Path, server: str) -> Path:
    """Write a kubeconfig to `target` that leads to another server, such as a proxy in front of the real one."""
    document: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
    document["clusters"][0]["cluster"] = {"server": server}
    target.write_text(yaml.safe_dump(document))
    return target


async def service_account(cluster: KubeCluster, key: Key, *, rules: list[Json]) -> str:
    """Make a ServiceAccount with these rights in the whole cluster; return a token of it for the API server."""
    namespace, name = key
    role = f"{namespace}-{name}"
    await cluster.create(SERVICE_ACCOUNT, {"metadata": {"namespace": namespace, "name": name}})
    await cluster.create(CLUSTER_ROLE, {"metadata": {"name": role}, "rules": rules})
    binding = {
        "metadata": {"name": role},
        "roleRef": {"apiGroup": CLUSTER_ROLE.group, "kind": CLUSTER_ROLE.name, "name": role},
        "subjects": [{"kind": SERVICE_ACCOUNT.name, "namespace": namespace, "name": name}],
    }
    await cluster.create(CLUSTER_ROLE_BINDING, binding)
    return await token_of(cluster, key)


async def token_of(cluster: KubeCluster, key: Key, *, audience: str = "", pod: Json | None = None) -> str:
    """Return a token of a ServiceAccount, for the API server where no audience is named; bound to a pod, if given."""
    spec: Json = {"audiences": [audience]} if audience else {}
    if pod is not None:
        metadata = pod["metadata"]
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    kind = Kind(group="", version="v1", plural=f"serviceaccounts/{key.name}/token", name="TokenRequest")
    path = f"/api/v1/namespaces/{key.namespace}/{kind.plural}"
    answer = await cluster._rest.json("POST", path, body={"spec": spec})  # the one subresource appfn itself never uses
    return str(answer["status"]["token"])


def claims_of(token: str) -> Json:
    """Return what a JWT says, unverified."""
    body = token.split(".")[1]
    claims: Json = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One mutating request as the API server answered it."""

    user: str
    verb: str
    resource: str
    """Plural, with the subresource behind a slash where there is one."""
    namespace: str
    name: str
    code: int


class AuditLog:
    """What was asked of the API server. An event is in the log before the client has the answer."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def position(self) -> int:
        """Return the present end of the log, to look from there on."""
        return self._path.stat().st_size

    def writes(self, *, since: int = 0, user: str = "", resource: str = "", leases: bool = False) -> list[Write]:
        """Return writes, of one user or to one resource where named; reviews are questions, Leases only on request."""
        with self._path.open("rb") as log:
            log.seek(since)
            lines = log.read().split(b"\n")[:-1]
        found = [write for write in map(_write, map(json.loads, lines)) if write is not None]
        return [
            write
            for write in found
            if user in {"", write.user} and resource in {"", write.resource} and (leases or write.resource != "leases")
        ]


def _write(event: Json) -> Write | None:
    target = event.get("objectRef")
    if event["stage"] != "ResponseComplete" or event["verb"] in _READS or target is None:
        return None
    if target["resource"] in _REVIEWS:
        return None
    subresource = f"/{target['subresource']}" if target.get("subresource") else ""
    return Write(
        user=event["user"]["username"],
        verb=event["verb"],
        resource=target["resource"] + subresource,
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=event["responseStatus"]["code"],
    )
