"""What is sent to a runtime server and what comes back, whatever the generation of its protocol."""

from collections.abc import Mapping

from appfn.core.values import Value


class Request(Value, frozen=True, kw_only=True):
    """An HTTP request to a runtime server."""

    hidden = frozenset({"headers", "body"})

    method: str = "POST"
    path: str = "/"
    headers: Mapping[str, str]
    body: bytes


class Reply(Value, frozen=True, kw_only=True):
    """What came back; never trusted."""

    hidden = frozenset({"body"})

    status: int
    body: bytes
    complete: bool = True
    """False: the body was larger than the limit and is not kept."""
