"""How much memory the bodies of all requests may take together, so that no client is the end of everybody's calls."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from appfn.errors import QueueFullError

SMALL = 65_536
"""Bytes of a body that is let through uncounted: whoever fills the room holds up large requests alone."""
_RETRY_SECONDS = 1.0


class BodyRoom:
    """A number of bytes that requests share."""

    def __init__(self, size: int) -> None:
        self._free = size

    @contextmanager
    def held(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that takes bytes or raises QueueFullError; they are given back when the context ends."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size <= SMALL:
                return
            if size > self._free:
                raise QueueFullError("The requests under way leave no room for it.", retry_after=_RETRY_SECONDS)
            self._free -= size
            taken += size

        try:
            yield take
        finally:
            self._free += taken
