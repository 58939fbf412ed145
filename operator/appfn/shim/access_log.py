"""One line for each request that is worth one: failed, or slow; never a payload, a header or a query."""

import logging
from collections.abc import Mapping

from appfn.shim.errors import AppwriteError, Problem

SLOW_SECONDS = 5.0
"""Requests that took longer are logged like failed ones."""
_CLIENT_ERROR = 400
_TOO_MANY = 429
_MAX_LOGGED = 128
"""Characters of each part of a path in the log."""
_access = logging.getLogger("appfn.shim.access")
_logger = logging.getLogger("appfn.shim.middleware")


def level(status: int, seconds: float) -> int:
    """Return how loud a request is, 0 where it is not told.

    What went well is counted, not told; nor is overload, which telling would add to.
    """
    failed = status == 0 or (status >= _CLIENT_ERROR and status != _TOO_MANY)
    loud = logging.INFO if failed or seconds > SLOW_SECONDS else logging.DEBUG
    return loud if _access.isEnabledFor(loud) else 0


def write(
    loud: int,
    *,
    request_id: str,
    method: str,
    route: str,
    status: int,
    seconds: float,
    remote: str | None,
    target: Mapping[str, str],
) -> None:
    """Write the line."""
    extra = {
        "request_id": request_id,
        "method": method,
        "route": route,
        "status": status,
        "ms": round(seconds * 1000, 1),
        "remote": remote,
        "target": {name: value[:_MAX_LOGGED] for name, value in target.items()},
    }
    _access.log(loud, "request", extra=extra)


def note_bug(error: Exception, answer: AppwriteError, request_id: str | None) -> None:
    """Write down an error that is our own fault, as the answer to it tells."""
    if answer.problem is Problem.SERVER_ERROR:
        _logger.error("request failed", exc_info=error, extra={"request_id": request_id})
