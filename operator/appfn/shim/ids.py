"""Ids of what the API makes."""

import random
from datetime import datetime

_RANDOM_BITS = 28


def new_id(now: datetime) -> str:
    """Return an id as Appwrite makes them: 20 hex digits that sort by time.

    It gives nobody access, so that it may be guessed. What is made together has ids that lie together: a database finds
    their places in the index of ids next to each other, and not all over it.
    """
    seconds, micro = int(now.timestamp()), now.microsecond
    return f"{seconds:08x}{micro:05x}{random.getrandbits(_RANDOM_BITS):07x}"
