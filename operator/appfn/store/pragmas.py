"""How connections to SQLite are set up; apart from everything else, as the process that runs scripts imports little."""

from typing import Final

_EACH = (
    "PRAGMA busy_timeout = 5000",
    "PRAGMA cache_size = -16384",
    "PRAGMA temp_store = MEMORY",
)
WRITE_AHEAD: Final = "PRAGMA journal_mode = WAL"
WRITER: Final = (
    *_EACH,
    WRITE_AHEAD,
    # FULL: a commit is on the disk when it returns, also after a power cut; group commit pays for it.
    "PRAGMA synchronous = FULL",
    "PRAGMA journal_size_limit = 67108864",
)
READER: Final = (*_EACH, "PRAGMA query_only = ON")
