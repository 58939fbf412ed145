"""`Cluster` over `kubernetes.aio`, for any kind, in plain dicts.

The generated classes are not used: their models cost time and memory for every object, drop fields they do not know,
and appfn's manifests are dicts anyway. What is used is the client's configuration, authentication and connections.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from appfn import __version__, names
from appfn.api.base import Json
from appfn.api.kinds import POD, Key, Kind
from appfn.errors import ConfigError, ConflictError, RejectedError
from appfn.kube.collection import PAGE_SIZE, Collection, path_of
from appfn.kube.protocols import TokenIdentity
from appfn.kube.rest import APPLY_PATCH, MERGE_PATCH, NotFoundError, Rest
from appfn.kube.watch import WatchCache, following

_TOKEN_REVIEW = Kind(
    group="authentication.k8s.io", version="v1", plural="tokenreviews", name="TokenReview", namespaced=False
)
_ACCESS_REVIEW = Kind(
    group="authorization.k8s.io",
    version="v1",
    plural="subjectaccessreviews",
    name="SubjectAccessReview",
    namespaced=False,
)
_ADDRESS = ("name", "namespace", "resourceVersion")
_POD_NAME = "authentication.kubernetes.io/pod-name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How to reach the API server and who we are there, for another client in this process. Empty: not used."""

    server: str
    ca_path: str
    certificate_path: str
    key_path: str
    authorization: str = field(repr=False)
    """Value of the HTTP header."""


class KubeCluster:
    """`Cluster` and `Watcher` of `appfn.kube.protocols`, where the methods are described. Made by `connect`."""

    def __init__(self, api: ApiClient, *, page_size: int = PAGE_SIZE) -> None:
        self._api = api
        self._rest = Rest(api)
        self._page_size = page_size

    async def connection(self) -> Connection:
        """Return the connection's data with the token as it is now.

        Raises:
            OSError: the token's file cannot be read.
        """
        configuration = self._api.configuration
        bearer = (await configuration.auth_settings()).get("BearerToken")
        return Connection(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert or "",
            certificate_path=configuration.cert_file or "",
            key_path=configuration.key_file or "",
            authorization=(bearer["value"] or "") if bearer else "",
        )

    # Reader

    async def get(self, kind: Kind, key: Key) -> Json | None:
        """See `Reader`."""
        try:
            return await self._rest.json("GET", _path(kind, key))
        except NotFoundError:
            return None

    async def list(
        self, kind: Kind, *, namespace: str = "", labels: str = "", fields: str = "", since: str = ""
    ) -> list[Json]:
        """See `Reader`; TransientError also where the kind is not served (yet)."""
        collection = self._collection(kind, namespace=namespace, labels=labels, fields=fields)
        return (await collection.list(since=since)).items

    # Writer

    async def apply(self, kind: Kind, manifest: Json, *, manager: str) -> Json:
        """See `Writer`. A `metadata.resourceVersion` in the manifest is a precondition: ConflictError."""
        return await self._apply(kind, manifest, manager=manager)

    async def apply_status(self, kind: Kind, manifest: Json, *, manager: str) -> Json:
        """See `Writer`. A `metadata.resourceVersion` in the manifest is a precondition: ConflictError.

        Nothing less protects an object's namesake made after it: the API server ignores a uid in a patch.
        """
        metadata = manifest["metadata"]
        status = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {
                name: metadata[name] for name in ("name", "namespace", "resourceVersion") if metadata.get(name)
            },
            "status": manifest["status"],
        }
        return await self._apply(kind, status, manager=manager, subresource="status")

    async def create(self, kind: Kind, manifest: Json, *, manager: str = "") -> Json:
        """See `Writer`."""
        path = path_of(kind, namespace=manifest["metadata"].get("namespace", ""))
        query = {"fieldManager": manager} if manager else None
        with _not_found_is_conflict():
            return await self._rest.json("POST", path, query=query, body=manifest)

    async def merge_patch(self, kind: Kind, key: Key, patch: Json, *, manager: str) -> Json | None:
        """See `Writer`."""
        query = {"fieldManager": manager}
        try:
            return await self._rest.json("PATCH", _path(kind, key), query=query, body=patch, content_type=MERGE_PATCH)
        except NotFoundError:
            return None

    async def delete(self, kind: Kind, key: Key, *, uid: str = "", grace_seconds: int | None = None) -> bool:
        """See `Writer`."""
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            await self._rest.json("DELETE", _path(kind, key), body=options)
        except NotFoundError:
            return False
        except ConflictError:
            if uid and await self._uid(kind, key) != uid:
                return False  # the name belongs to another object now, or to none
            raise
        return True

    async def _uid(self, kind: Kind, key: Key) -> str:
        found = await self.get(kind, key)
        return "" if found is None else str(found["metadata"]["uid"])

    # Logs

    async def pod_log(self, key: Key, *, container: str, tail_lines: int, limit_bytes: int) -> str:
        """See `Logs`; empty too while the container has not started."""
        query = {"container": container, "tailLines": str(tail_lines), "limitBytes": str(limit_bytes)}
        try:
            return await self._rest.text(_path(POD, key, "log"), query=query)
        except (NotFoundError, RejectedError):  # 400: no such container, or it is still waiting to start
            return ""

    # Reviews

    async def review_token(self, token: str, *, audience: str) -> TokenIdentity | None:
        """See `Reviews`."""
        answer = await self._review(_TOKEN_REVIEW, {"token": token, "audiences": [audience]})
        # A server without audience support authenticates the token and leaves `audiences` out: that is no proof.
        if not answer.get("authenticated") or audience not in answer.get("audiences", []):
            return None
        user = answer["user"]
        return TokenIdentity(
            username=user["username"],
            groups=tuple(user.get("groups", [])),
            uid=user.get("uid", ""),
            pod=next(iter(user.get("extra", {}).get(_POD_NAME, [])), ""),
        )

    async def review_access(
        self,
        identity: TokenIdentity,
        *,
        verb: str,
        kind: Kind,
        namespace: str,
        name: str = "",
    ) -> bool:
        """See `Reviews`."""
        attributes = {
            "verb": verb,
            "group": kind.group,
            "version": kind.version,
            "resource": kind.plural,
            "namespace": namespace,
            "name": name,
        }
        spec = {
            "user": identity.username,
            "groups": list(identity.groups),
            "uid": identity.uid,
            "resourceAttributes": attributes,
        }
        return bool((await self._review(_ACCESS_REVIEW, spec)).get("allowed"))

    # Watcher

    @asynccontextmanager
    async def watch(
        self,
        kind: Kind,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
    ) -> AsyncIterator[WatchCache]:
        """See `Watcher`."""
        collection = self._collection(kind, namespace=namespace, labels=labels, fields=fields)
        async with following(collection) as cache:
            yield cache

    def _collection(self, kind: Kind, *, namespace: str, labels: str, fields: str) -> Collection:
        return Collection(
            rest=self._rest,
            kind=kind,
            namespace=namespace,
            labels=labels,
            fields=fields,
            page_size=self._page_size,
        )

    async def _apply(self, kind: Kind, manifest: Json, *, manager: str, subresource: str = "") -> Json:
        metadata = manifest["metadata"]
        path = path_of(kind, namespace=metadata.get("namespace", ""), name=metadata["name"], subresource=subresource)
        query = {"fieldManager": manager, "force": "true"}
        with _not_found_is_conflict():
            return await self._rest.json("PATCH", path, query=query, body=manifest, content_type=APPLY_PATCH)

    async def _review(self, kind: Kind, spec: Json) -> Json:
        body = {"apiVersion": kind.api_version, "kind": kind.name, "spec": spec}
        status: Json = (await self._rest.json("POST", path_of(kind), body=body)).get("status", {})
        return status


@asynccontextmanager
async def connect(kubeconfig: Path | None, *, page_size: int = PAGE_SIZE) -> AsyncIterator[KubeCluster]:
    """Yield a client for the cluster of a kubeconfig's current context, or with None for the cluster this pod runs in.

    In a pod, the ServiceAccount's token is read again every minute, as the kubelet renews the file.

    Raises:
        ConfigError: the kubeconfig cannot be used, or this is not a pod.
    """
    configuration = Configuration()
    try:
        if kubeconfig is None:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await load_kube_config(  # type: ignore[no-untyped-call]
                config_file=str(kubeconfig), client_configuration=configuration
            )
    except (ConfigException, OSError) as error:
        where = "the pod's ServiceAccount" if kubeconfig is None else str(kubeconfig)
        raise ConfigError(f"cannot reach Kubernetes by {where}: {error}") from error
    # It would look through environment and ~/.netrc for each request, in a thread; a kubeconfig names its own proxy.
    configuration.client_session_kwargs = {"trust_env": False}
    async with ApiClient(configuration) as api:
        api.user_agent = f"{names.MANAGER}/{__version__}"
        yield KubeCluster(api, page_size=page_size)


def _path(kind: Kind, key: Key, subresource: str = "") -> str:
    return path_of(kind, namespace=key.namespace, name=key.name, subresource=subresource)


@contextmanager
def _not_found_is_conflict() -> Iterator[None]:
    """Writing into a namespace, or onto an object, that has just been deleted: somebody changed the world meanwhile."""
    try:
        yield
    except NotFoundError as error:
        raise ConflictError(str(error)) from error
