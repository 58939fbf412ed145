"""How much memory the bodies of all requests may take together, so that no client is the end of everybody's calls."""

from appfn.errors import QueueFullError

SMALL = 65_536
"""Bytes of a body that is let through uncounted: whoever fills the room holds up large requests alone."""
_RETRY_SECONDS = 1.0


class BodyRoom:
    """A number of bytes that requests share."""

    def __init__(self, size: int) -> None:
        self._free = size

    def take(self, size: int) -> int:
        """Take bytes for a body of that size; return how many have to be given back.

        Raises:
            QueueFullError: other bodies leave no room for it.
        """
        if size <= SMALL:
            return 0
        if size > self._free:
            raise QueueFullError("The requests under way leave no room for it.", retry_after=_RETRY_SECONDS)
        self._free -= size
        return size

    def give_back(self, size: int) -> None:
        """Undo `take`, by what it returned."""
        self._free += size
