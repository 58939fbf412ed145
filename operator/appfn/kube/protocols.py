"""The seams to Kubernetes: what the rest of appfn asks of it, small enough to be read in a minute."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from appfn.api.base import Json
from appfn.api.kinds import Key, Kind


class Reader(Protocol):
    """Reads that go to the API server (no cache)."""

    async def get(self, kind: Kind, key: Key) -> Json | None:
        """Return the object, or None where there is none."""

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        since: str = "",
    ) -> list[Json]:
        """Return all objects that the selectors match, `namespace` empty for all namespaces; paginated inside.

        As they are now or, with a resourceVersion of the kind in `since`, as they were then or later: that costs the
        API server nothing, while after a write of another kind it takes a tenth of a second to be sure of "now".
        """


class Writer(Protocol):
    """Writes. All raise the errors of `appfn.errors`: Conflict, Forbidden, Rejected, Transient."""

    async def apply(self, kind: Kind, manifest: Json, *, manager: str) -> Json:
        """Server-side apply of the fields in `manifest`, forced; return the object.

        A `metadata.resourceVersion` in it is a precondition (ConflictError), here and in `apply_status`.
        """

    async def apply_status(self, kind: Kind, manifest: Json, *, manager: str) -> Json:
        """Server-side apply of `manifest["status"]` on the status subresource."""

    async def create(self, kind: Kind, manifest: Json, *, manager: str = "") -> Json:
        """Create; ConflictError where the name is taken. Without a manager, the fields are the client program's."""

    async def merge_patch(self, kind: Kind, key: Key, patch: Json, *, manager: str) -> Json | None:
        """JSON merge patch; None where the object is gone. A `metadata.resourceVersion` in it is a precondition."""

    async def delete(self, kind: Kind, key: Key, *, uid: str = "", grace_seconds: int | None = None) -> bool:
        """Delete in the background, only the object of that uid where one is given; False where it is gone."""


class Logs(Protocol):
    """Container logs."""

    async def pod_log(self, key: Key, *, container: str, tail_lines: int, limit_bytes: int) -> str:
        """Return the end of a container's log; empty where pod or container are gone."""


class WatchEventType(StrEnum):
    """What happened to an object in a watch cache."""

    SET = "set"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEvent:
    """A change in a watch cache; for GONE the object as last seen."""

    type: WatchEventType
    key: Key
    body: Json


class Cache(Protocol):
    """A watch cache: list and watch with re-list, deletions during a gap reported as GONE. Eventually consistent."""

    def get(self, key: Key) -> Json | None:
        """Return the object as last seen."""

    def items(self) -> Mapping[Key, Json]:
        """Return all objects as last seen; a live read-only view."""

    def subscribe(self, listener: Callable[[WatchEvent], None]) -> Callable[[], None]:
        """Call `listener` (it must not block) for every change from now on; return how to stop it."""

    async def wait_synced(self) -> None:
        """Return when the first list is in."""


class Watcher(Protocol):
    """Opens watch caches; their tasks belong to the context manager."""

    def watch(
        self, kind: Kind, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AbstractAsyncContextManager[Cache]:
        """Yield a synced cache; its task ends with the context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIdentity:
    """Who a ServiceAccount token speaks for, as the API server's TokenReview said."""

    username: str
    """`system:serviceaccount:<namespace>:<name>`, or a user's name."""
    groups: tuple[str, ...]
    uid: str
    pod: str
    """Name of the pod the token is bound to; empty where it is not bound."""


class Reviews(Protocol):
    """Authentication and authorisation asked of the API server."""

    async def review_token(self, token: str, *, audience: str) -> TokenIdentity | None:
        """Return whose token this is, None where it is not valid for the audience."""

    async def review_access(
        self,
        identity: TokenIdentity,
        *,
        verb: str,
        kind: Kind,
        namespace: str,
        name: str = "",
    ) -> bool:
        """Tell whether RBAC lets the identity do this."""


class Cluster(Reader, Writer, Logs, Reviews, Protocol):
    """All of it; take the narrowest of the bases that serves."""
