"""The dialect a client speaks, told by its header X-Appwrite-Response-Format."""

import re
from enum import IntEnum
from functools import lru_cache

HEADER = "X-Appwrite-Response-Format"
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})(\.\d{1,4})?", re.ASCII)


class Format(IntEnum):
    """Generations of the API; they compare by age."""

    V0 = 0
    """0.13 to 0.15: `time`, `$read`, dates as Unix seconds, `async` true unless said otherwise."""
    V1_0 = 1
    """1.0 to 1.3: `data`, `response`, `stdout`, `stderr`."""
    V1_4 = 2
    """1.4 and later: `body`, `responseBody`, `logs`, `errors`."""


@lru_cache(maxsize=64)
def negotiate(header: str | None) -> Format:
    """Return the format for a header's value; the newest where there is none or it is no version."""
    match = _VERSION.fullmatch(header or "")
    if match is None:
        return Format.V1_4
    version = int(match[1]), int(match[2])
    if version < (1, 0):
        return Format.V0
    return Format.V1_0 if version < (1, 4) else Format.V1_4
