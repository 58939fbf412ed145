"""Requests to pods: what the rest of dispatch asks for, and every way it can go wrong.

Behind this small protocol the client can be exchanged without anybody noticing; `connections` has the one there is.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple, Protocol

from appfn.dispatch.messages import Reply, Request


class Address(NamedTuple):
    """Where a server in a pod listens."""

    host: str
    port: int


class UpstreamError(Exception):
    """A request to a pod has no valid answer."""


class NotSentError(UpstreamError):
    """No connection: the request was not sent and may be sent elsewhere."""


class LostError(UpstreamError):
    """The connection broke; whether the request was processed is unknown."""


class MalformedError(UpstreamError):
    """What came back is not HTTP."""


class Exchange(Protocol):
    """A request that was sent."""

    def close(self) -> None:
        """Give it up: it ends with LostError, unless it has ended."""


class Upstream(Protocol):
    """Requests to pods. All raise `UpstreamError`s; addresses are IP addresses of our own pods."""

    async def reachable(self, address: Address) -> bool:
        """Tell whether somebody accepts connections there."""

    async def call(self, address: Address, request: Request, *, seconds: float, limit: int) -> Reply:
        """Send a request, once, and read at most `limit` bytes of its answer.

        Cancelling closes the connection.

        Raises:
            TimeoutError: the answer was not complete within `seconds`.
        """

    async def send(
        self,
        address: Address,
        request: Request,
        *,
        seconds: float,
        limit: int,
        on_end: Callable[[Reply | Exception], None],
    ) -> Exchange:
        """As `call`, but return when the request is sent. `on_end` then gets, once, what `call` returns or raises.

        Raises:
            NotSentError: it was not sent, and `on_end` is never called.
        """

    async def push(
        self,
        address: Address,
        *,
        path: str,
        headers: Sequence[tuple[str, str]],
        size: int,
        content: AsyncIterator[bytes],
        limit: int,
    ) -> Reply:
        """POST `size` bytes of content as they come and read at most `limit` bytes of the answer; no timeout.

        An answer that comes while content is left, as a refusal, ends the sending.
        """

    async def close(self) -> None:
        """Close all connections."""
