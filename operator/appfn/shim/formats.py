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
    """1.4 and 1.5: `body`, `responseBody`, `logs`, `errors`; an execution answered with 4xx shows as failed."""
    V1_6 = 3
    """1.6: only 5xx is a failure again."""
    V1_7 = 4
    """1.7 and later: `deploymentId` for `deployment`, `sourceSize` for `size`, `buildDuration` for `buildTime`."""


_SINCE = (
    ((1, 7), Format.V1_7),
    ((1, 6), Format.V1_6),
    ((1, 4), Format.V1_4),
    ((1, 0), Format.V1_0),
    ((0, 0), Format.V0),
)


@lru_cache(maxsize=64)
def negotiate(header: str | None) -> Format:
    """Return the format for a header's value; the newest where there is none or it is no version."""
    match = _VERSION.fullmatch(header or "")
    if match is None:
        return Format.V1_7
    version = int(match[1]), int(match[2])
    return next(format_ for since, format_ in _SINCE if version >= since)
