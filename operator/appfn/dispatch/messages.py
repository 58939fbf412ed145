"""What is sent to a runtime server and what comes back, whatever the generation of its protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request to a runtime server."""

    method: str = "POST"
    path: str = "/"
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back; never trusted."""

    status: int
    body: bytes = field(repr=False)
    complete: bool = True
    """False: the body was larger than the limit and is not kept."""
