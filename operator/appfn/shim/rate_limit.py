"""How many executions a client may ask for: Appwrite's limit for guests and users, none for keys and workloads.

Windows are fixed and the same for all, as Appwrite's: with a new one everything is forgotten. A process counts what
comes to it: several processes and replicas together may let through as many times the limit, and never refuse earlier.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from aiohttp import web

from appfn.shim.auth.identity import Caller
from appfn.shim.callee import Project
from appfn.shim.client_address import Proxies
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.siblings import from_sibling

SECONDS = 60
"""Length of a window."""
LIMITS = web.RequestKey("limits", dict[str, str])
"""The headers that tell a client how much is left."""
_SIZE = 65_536


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of asking for one more.

    Attributes:
        allowed: whether it may be.
        remaining: how many more may be in this window.
        reset: when the window ends, in Unix seconds.
    """

    allowed: bool
    remaining: int
    reset: int


def end_of_window(now: float) -> int:
    """Return when the window ends that a moment lies in; both in Unix seconds."""
    return (int(now) // SECONDS + 1) * SECONDS


class Windows:
    """Counts per subject in the window that is now. At most `size` subjects, the one seen first given up first."""

    def __init__(self, limit: int, *, size: int = _SIZE) -> None:
        self._limit = limit
        self._size = size
        self._reset = 0
        self._counts: OrderedDict[Hashable, int] = OrderedDict()

    def take(self, subject: Hashable, now: float) -> Taken:
        """Count one for `subject` at `now` (Unix seconds) where the limit leaves one."""
        reset = self._turn(now)
        used = self._counts.get(subject, 0)
        if used >= self._limit:
            return Taken(allowed=False, remaining=0, reset=reset)
        self._counts[subject] = used + 1
        if len(self._counts) > self._size:
            self._counts.popitem(last=False)
        return Taken(allowed=True, remaining=self._limit - used - 1, reset=reset)

    def _turn(self, now: float) -> int:
        reset = end_of_window(now)
        if reset != self._reset:
            self._reset = reset
            self._counts.clear()
        return reset


class RateLimit:
    """Appwrite's limits of the whole shim, by name of what is limited; `limit` 0 for none."""

    def __init__(self, *, limit: int, proxies: Proxies, now: Callable[[], float]) -> None:
        self._limit = limit
        self.limited = limit > 0
        """Whether there is a limit at all."""
        self._proxies = proxies
        self._now = now
        self._windows: dict[str, Windows] = {}
        self._exempt: tuple[int, dict[str, str]] = 0, {}

    def count(self, request: web.Request, project: Project, caller: Caller, *, what: str = "executions") -> None:
        """Count one request of `what` for its caller; its answer will tell how many are left.

        Raises:
            AppwriteError: general_rate_limit_exceeded.
        """
        if not self._limit or from_sibling(request):  # counted where it came in
            return
        if caller.privileged:
            request[LIMITS] = self.unlimited()
            return
        taken = self.take(project, caller, address=self._address(request), what=what)
        _tell(request, taken, limit=self._limit)
        self.enforce(taken)

    def take(self, project: Project, caller: Caller, *, address: str, what: str = "executions") -> Taken:
        """Count one request of a guest or a user at an address where the limit leaves one."""
        windows = self._windows.get(what) or self._windows.setdefault(what, Windows(self._limit))
        return windows.take((project.namespace, address, caller.user_id), self._now())

    def enforce(self, taken: Taken) -> None:
        """Return where there was one left.

        Raises:
            AppwriteError: general_rate_limit_exceeded.
        """
        if not taken.allowed:
            seconds = max(1, taken.reset - int(self._now()))
            raise AppwriteError(Problem.RATE_LIMIT_EXCEEDED, retry_after=seconds)

    def headers(self, taken: Taken) -> dict[str, str]:
        """Return what tells a client how much is left."""
        return _headers(taken, limit=self._limit)

    def unlimited(self) -> dict[str, str]:
        """Return what those are told who are not counted."""
        now = self._now()
        if not self._exempt[0] - SECONDS <= now < self._exempt[0]:
            reset = end_of_window(now)
            self._exempt = reset, _headers(Taken(allowed=True, remaining=self._limit, reset=reset), limit=self._limit)
        return self._exempt[1]

    def address(self, peer: str, forwarded: str) -> str:
        """Return a client's address: `peer` is who connected, `forwarded` the header X-Forwarded-For."""
        return self._proxies.client(peer, forwarded)

    def _address(self, request: web.Request) -> str:
        return self.address(request.remote or "", ",".join(request.headers.getall("X-Forwarded-For", ())))


def _tell(request: web.Request, taken: Taken, *, limit: int) -> None:
    """Note the headers; of two limits on one request, the one that leaves less."""
    known = request.get(LIMITS)
    if known is None or taken.remaining < int(known["X-RateLimit-Remaining"]):
        request[LIMITS] = _headers(taken, limit=limit)


def _headers(taken: Taken, *, limit: int) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(taken.remaining),
        "X-RateLimit-Reset": str(taken.reset),
    }
