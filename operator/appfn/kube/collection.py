"""All objects of one kind that selectors match: listed in pages, or watched."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

from appfn.api.base import Json
from appfn.api.kinds import Kind
from appfn.errors import TransientError
from appfn.kube.rest import ExpiredError, NotFoundError, Rest, parsed, status_error

PAGE_SIZE = 500
WATCH_SECONDS = 300
"""The server ends a watch after so long; the client then goes on where it was."""
SILENCE_SECONDS = 90.0
"""A watch without so much as a bookmark (one a minute) for so long is dead, whatever TCP thinks."""
_LISTS = 3


class EventType(StrEnum):
    """Types of watch events on the wire; ERROR never gets this far."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawEvent:
    """One event of a watch; a BOOKMARK's object holds only its resourceVersion."""

    type: EventType
    object: Json

    @property
    def resource_version(self) -> str:
        """Where to go on after this event."""
        return str(self.object["metadata"]["resourceVersion"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All objects at one moment."""

    items: list[Json]
    resource_version: str


def path_of(kind: Kind, *, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """Return the REST path of an object, or of all objects of a kind (in a namespace) where the name is empty."""
    parts = ["apis", kind.group, kind.version] if kind.group else ["api", kind.version]
    if kind.namespaced and namespace:
        parts += ["namespaces", namespace]
    parts += [kind.plural, *filter(None, (name, subresource))]
    return "/" + "/".join(quote(part, safe="") for part in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """See the module. `namespace` empty: all namespaces; `labels` and `fields` are selectors as kubectl takes them."""

    rest: Rest
    kind: Kind
    namespace: str = ""
    labels: str = ""
    fields: str = ""
    page_size: int = PAGE_SIZE
    silence: float = SILENCE_SECONDS

    async def list(self, *, since: str = "") -> Listing:
        """Return all objects, read consistently; or with a resourceVersion, as they were then or later.

        Raises:
            TransientError: also where the kind is not served (yet), and where pages expire faster than they are read.
        """
        for _ in range(_LISTS):
            try:
                return await self._pages(since)
            except ExpiredError:
                continue
            except NotFoundError as error:
                raise TransientError(f"{self.kind.plural}.{self.kind.group}: {error}") from error
        raise TransientError(f"{self.kind.plural}: the pages of a list expired {_LISTS} times while being read")

    async def _pages(self, since: str) -> Listing:
        query = self._selectors() | {"limit": str(self.page_size)}
        if since:  # without a limit: the API server's cache answers whole
            query = self._selectors() | {"resourceVersion": since, "resourceVersionMatch": "NotOlderThan"}
        items: list[Json] = []
        while True:
            page = await self.rest.json("GET", path_of(self.kind, namespace=self.namespace), query=query)
            items += page["items"] or []
            token = page["metadata"].get("continue")
            if not token:
                # The items of a list of a built-in kind do not say what they are; those of a watch do.
                what = {"apiVersion": self.kind.api_version, "kind": self.kind.name}
                items = [what | item for item in items]
                return Listing(items=items, resource_version=page["metadata"]["resourceVersion"])
            query["continue"] = token

    @asynccontextmanager
    async def watch(self, since: str) -> AsyncIterator[AsyncIterator[RawEvent]]:
        """Yield the events after a resourceVersion, until the server ends the stream.

        Raises:
            ExpiredError: the version is too old: list again.
            TransientError, ForbiddenError: as any request.
        """
        query = self._selectors() | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        path = path_of(self.kind, namespace=self.namespace)
        async with self.rest.lines(path, query=query, silence=self.silence) as lines:
            yield (_event(line) async for line in lines)

    def _selectors(self) -> dict[str, str]:
        selectors = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {name: value for name, value in selectors.items() if value}


def _event(line: bytes) -> RawEvent:
    event = parsed(line)
    if event["type"] == "ERROR":
        raise status_error(event["object"])
    return RawEvent(type=EventType(event["type"]), object=event["object"])
