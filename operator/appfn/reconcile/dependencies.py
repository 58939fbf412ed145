"""What every controller is given, and what it is to its caller."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from appfn.api.base import Json
from appfn.api.kinds import DEPLOYMENT, FUNCTION, RUNTIME, Key, Kind
from appfn.config import Config
from appfn.kube.protocols import Cluster
from appfn.reconcile.shim_client import Shim


class Controller(StrEnum):
    """One reconciler; with a Key it is what the work queue holds."""

    FUNCTION = "function"
    DEPLOYMENT = "deployment"
    EXECUTION = "execution"
    RUNTIME = "runtime"
    HISTORY = "history"
    """Key of a Function: keeps its newest executions mirrored as Execution resources."""
    POOL = "pool"
    """Key of a Namespace: keeps its pools of warm pods."""


SETTLED: Mapping[Kind, Controller] = {
    FUNCTION: Controller.FUNCTION,
    DEPLOYMENT: Controller.DEPLOYMENT,
    RUNTIME: Controller.RUNTIME,
}
"""Controllers that have nothing left to do when they have written the status of their kind.

That of Executions may have: one that has just ended may have been asked to run again while it ran.
"""

Handler = Callable[[Key], Awaitable[float | None]]
"""Brings one object to what it should be, from whatever state; returns seconds until it wants to look again.

Raises the errors of `appfn.errors`; the queue backs off, and honours `TransientError.retry_after`.
"""


class Mark(Protocol):
    """Puts a key into the work queue, now or after some seconds; must not block."""

    def __call__(self, controller: Controller, key: Key, *, after: float = 0.0) -> None:
        """Mark the key."""


class Submitted:
    """Names of the Executions handed to the shim, by uid; a cache of the newest, the API server knows them all."""

    def __init__(self, *, limit: int = 20_000) -> None:
        self._keys: OrderedDict[str, Key] = OrderedDict()
        self._limit = limit

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, uid: str) -> Key | None:
        """Return the name, None where it is not known here."""
        return self._keys.get(uid)

    def add(self, uid: str, key: Key) -> None:
        """Remember an Execution; the oldest one is forgotten for it."""
        self._keys[uid] = key
        if len(self._keys) > self._limit:
            self._keys.popitem(last=False)

    def discard(self, uid: str) -> None:
        """Forget an Execution that is over."""
        self._keys.pop(uid, None)


class Seen:
    """The newest resourceVersion of each kind that a watch has told of.

    A read that is no older shows at least what led to it; whatever is newer will be told too, and lead to another read.
    """

    def __init__(self) -> None:
        self._versions: dict[Kind, int] = {}

    def note(self, kind: Kind, version: str) -> None:
        """Take note of an object's version. Lists and several watches tell of them in any order."""
        if version.isdecimal():
            self._versions[kind] = max(int(version), self._versions.get(kind, 0))

    def version(self, kind: Kind) -> str:
        """Return it; empty while nothing was seen of the kind."""
        return str(self._versions.get(kind, ""))

    def covers(self, kind: Kind, version: str) -> bool:
        """Tell whether a version is no newer than what was seen."""
        return version.isdecimal() and int(version) <= self._versions.get(kind, -1)


class Written:
    """Versions that controllers gave their own objects, until a watch tells of them: to their writers they are no news.

    Each write has as its condition the version it was decided upon, so there is nothing between the two that the watch,
    which may leave out all but the newest of several changes, could have told of.
    """

    def __init__(self, *, limit: int = 20_000) -> None:
        self._versions: OrderedDict[tuple[Kind, str], None] = OrderedDict()
        self._limit = limit

    def note(self, kind: Kind, version: str) -> None:
        """Take note of a write of a kind in SETTLED; of too many the oldest is forgotten: a look too many."""
        if kind not in SETTLED:
            return
        self._versions[kind, version] = None
        if len(self._versions) > self._limit:
            self._versions.popitem(last=False)

    def told(self, kind: Kind, version: str) -> bool:
        """Tell whether a version is of our own making, and forget it."""
        known = (kind, version) in self._versions
        if known:
            del self._versions[kind, version]
        return known


_MANY = 4096
_TRUSTED = timedelta(seconds=30)


class Recall:
    """Objects that every reconcile asks for and that seldom change: Runtimes, and the Namespaces that are projects.

    One is read once until a watch tells of another version of its kind; for at most 30 s, in case it never does.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[Kind, Key], tuple[str, datetime, Json | None]] = {}

    async def get(self, deps: "Dependencies", kind: Kind, key: Key) -> Json | None:
        """Return the object, None where there is none."""
        version, now = deps.seen.version(kind), deps.now()
        read = self._found.get((kind, key))
        if read is not None and version and read[0] == version and now - read[1] < _TRUSTED:
            return read[2]
        body = await deps.cluster.get(kind, key)
        if len(self._found) >= _MANY:
            self._found.clear()
        self._found[kind, key] = version, now, body
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """What every controller is given."""

    cluster: Cluster
    shim: Shim
    config: Config
    now: Callable[[], datetime]
    """Aware UTC time."""
    mark: Mark
    submitted: Submitted = field(default_factory=Submitted)
    seen: Seen = field(default_factory=Seen)
    written: Written = field(default_factory=Written)
    recall: Recall = field(default_factory=Recall)

    def time(self) -> datetime:
        """Return the time to the second, as Kubernetes writes times."""
        return self.now().replace(microsecond=0)
