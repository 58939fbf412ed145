"""Ids of what the API makes."""

import random
from datetime import datetime
from functools import partial

_DIGITS = 7
_EXECUTION_DIGITS = 12


def new_id(now: datetime, *, digits: int = _DIGITS) -> str:
    """Return an id as Appwrite makes them, hex digits that sort by time: 13 of microseconds, and some at random.

    Two are the same if they are of the same microsecond and the same random digits. Seven, as Appwrite has, are enough
    for what people make; executions are made by the thousand a second in several processes, and need more.

    It gives nobody access, so that it may be guessed. What is made together has ids that lie together: a database finds
    their places in the index of ids next to each other, and not all over it.
    """
    seconds, micro = int(now.timestamp()), now.microsecond
    return f"{seconds:08x}{micro:05x}{random.getrandbits(4 * digits):0{digits}x}"


new_execution_id = partial(new_id, digits=_EXECUTION_DIGITS)
"""Makes the id of an execution."""
