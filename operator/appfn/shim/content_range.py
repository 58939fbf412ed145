"""Which part of a file a request brings, pure: Content-Range in the dialects of Appwrite's SDKs.

Those before 1.4 end the last part with the size of the file, newer ones with the place of its last byte. So what counts
is where a part begins and how large the file is: parts lie on a grid, and there is one way to cut a file.
"""

import re
from dataclasses import dataclass

from appfn.shim.errors import AppwriteError, Problem
from appfn.store.uploads import PART_SIZE

HEADER = "Content-Range"
_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a file."""

    place: int
    """Counted from 0."""
    size: int
    """Its bytes."""
    total: int
    """Bytes of the whole file."""


def parse(header: str | None, *, limit: int) -> Part | None:
    """Return the part that a header tells of; None where the request brings the whole file.

    Args:
        header: the value of Content-Range.
        limit: bytes of the largest file.

    Raises:
        AppwriteError: storage_invalid_content_range, storage_invalid_file_size.
    """
    if not header:
        return None
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        raise _invalid("it must be bytes FIRST-LAST/SIZE")
    start, end, total = (int(group) for group in match.groups())
    if not start <= end <= total or start >= total:
        raise _invalid("its numbers contradict each other")
    if total > limit:
        raise too_large(limit)
    size = min(end + 1, total) - start
    if size == total:
        return None
    if start % PART_SIZE or size != min(PART_SIZE, total - start):
        raise _invalid(f"each part but the last must have {PART_SIZE} bytes")
    return Part(place=start // PART_SIZE, size=size, total=total)


def too_large(limit: int) -> AppwriteError:
    """Return the error for a file larger than allowed."""
    return AppwriteError(Problem.INVALID_FILE_SIZE, f"{Problem.INVALID_FILE_SIZE.message} It may have {limit} bytes.")


def _invalid(reason: str) -> AppwriteError:
    return AppwriteError(Problem.INVALID_CONTENT_RANGE, f"{Problem.INVALID_CONTENT_RANGE.message} Here, {reason}.")
