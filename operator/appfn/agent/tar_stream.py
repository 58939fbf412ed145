"""A reader of gzip tarballs from strangers: streaming, strict, with bounded memory and time.

The standard library's `tarfile` is not used for reading: it takes a damaged header in the middle for the end of the
archive, reads extended headers of any size into memory, and its extraction filters had holes in Pythons still in use
(CVE-2025-4517, CVE-2026-4360). What is not a plain file or folder is refused here, so nothing later has to.
Formats: v7, POSIX ustar and pax, GNU long names; gzip of one or more members (RFC 1952).
"""

import time
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from appfn.agent.failure import ArchiveError

BLOCK = 512
CHUNK = 65_536
MAX_EXTENDED_HEADER = 1 << 20
"""Bytes of a pax header; macOS puts extended attributes there."""
MAX_LONG_NAME = 4096
MAX_HEADERS_PER_ENTRY = 4
MAX_GZIP_MEMBERS = 10_000
RATIO_FLOOR = 16 << 20
"""The ratio is not looked at below so many bytes: small files may well be that regular."""

_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"S": "a sparse file",
}


class Readable(Protocol):
    """Where the compressed bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""


class Limits(NamedTuple):
    """Bounds of an archive."""

    compressed: int
    """Bytes of the gzip file."""
    unpacked: int
    """Bytes of the tar in it."""
    entries: int
    ratio: int = 200
    """Unpacked to compressed bytes, once there are RATIO_FLOOR of them."""
    seconds: float = 60.0
    portable_names: bool = True
    """Refuse names that differ only in case or Unicode form, as they are one file on other systems."""


class GzipReader:
    """The decompressed bytes of a gzip stream, counted against the limits."""

    def __init__(self, source: Readable, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._limits = limits
        self._clock = clock
        self._deadline = clock() + limits.seconds
        self._inflater = zlib.decompressobj(wbits=31)
        self._members = 1
        self._pending = b""
        self._ready = b""
        self._offset = 0
        self.compressed = 0
        self.unpacked = 0

    def read_some(self, size: int) -> bytes:
        """Return up to `size` bytes, none only at the end of the stream."""
        if self._offset == len(self._ready) and not self._fill():
            return b""
        piece = self._ready[self._offset : self._offset + size]
        self._offset += len(piece)
        return piece

    def read_exactly(self, size: int) -> bytes:
        """Return `size` bytes.

        Raises:
            ArchiveError: the stream ends before.
        """
        piece = self.read_some(size)
        if len(piece) == size:
            return piece
        pieces = [piece]
        missing = size - len(piece)
        while missing:
            piece = self.read_some(missing)
            if not piece:
                raise ArchiveError("the archive is cut off")
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def _fill(self) -> bool:
        while True:
            if not self._pending and not self._take():
                if self._inflater.eof:
                    return False
                raise ArchiveError("the archive is cut off" if self.compressed else "the archive is empty")
            if self._inflater.eof and not self._next_member():
                continue
            data = self._inflate()
            if data:
                self._ready, self._offset = data, 0
                return True

    def _take(self) -> bool:
        self._pending = self._source.read(CHUNK)
        self.compressed += len(self._pending)
        if self.compressed > self._limits.compressed:
            raise ArchiveError(f"the archive is larger than {self._limits.compressed >> 20} MiB")
        return bool(self._pending)

    def _next_member(self) -> bool:
        self._pending = self._pending.lstrip(b"\0")  # padding of tapes, which gzip ignores too
        if not self._pending:
            return False
        self._members += 1
        if self._members > MAX_GZIP_MEMBERS:
            raise ArchiveError(f"the archive is in more than {MAX_GZIP_MEMBERS} gzip members")
        self._inflater = zlib.decompressobj(wbits=31)
        return True

    def _inflate(self) -> bytes:
        if self._clock() > self._deadline:
            raise ArchiveError(f"the archive takes longer than {self._limits.seconds:g} s to unpack")
        try:
            data = self._inflater.decompress(self._pending, CHUNK)
        except zlib.error as error:
            foreign = not self.unpacked and "incorrect header check" in str(error)
            where = "is not a gzip file" if foreign else "is damaged or followed by other data"
            raise ArchiveError(f"the archive {where}") from error
        self._pending = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
        self.unpacked += len(data)
        if self.unpacked > self._limits.unpacked:
            raise ArchiveError(f"the archive unpacks to more than {self._limits.unpacked >> 20} MiB")
        if self.unpacked > max(RATIO_FLOOR, self._limits.ratio * self.compressed):
            raise ArchiveError(f"the archive is compressed more than {self._limits.ratio} to 1")
        return data


class Entry(NamedTuple):
    """A file or folder; `name` is as the archive has it, UTF-8 without NUL, otherwise unchecked."""

    name: str
    folder: bool
    executable: bool
    size: int


class TarReader:
    """The entries of a tar stream, one after the other."""

    def __init__(self, stream: GzipReader) -> None:
        self._stream = stream
        self._unread = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        """Yield each entry; its content is `content()` until the next is asked for.

        Raises:
            ArchiveError: anything out of the ordinary, links and devices included.
        """
        while (entry := self._next()) is not None:
            yield entry
            for _ in self.content():
                pass
            self._stream.read_exactly(self._padding)
        while rest := self._stream.read_some(CHUNK):
            if rest.count(0) != len(rest):
                raise ArchiveError("the archive goes on after its end")

    def content(self) -> Iterator[bytes]:
        """Yield the rest of the present entry's content in pieces."""
        while self._unread:
            piece = self._stream.read_some(min(self._unread, CHUNK))
            if not piece:
                raise ArchiveError("the archive is cut off")
            self._unread -= len(piece)
            yield piece

    def _next(self) -> Entry | None:
        long_name: str | None = None
        pax: dict[str, str] = {}
        for _ in range(MAX_HEADERS_PER_ENTRY):
            block = self._stream.read_exactly(BLOCK)
            if block.count(0) == BLOCK:
                self._end(incomplete=bool(long_name or pax))
                return None
            _verify_checksum(block)
            size = _octal(block[124:136], "size")
            match block[156:157]:
                case b"x":
                    pax = _pax_records(self._extended(size, MAX_EXTENDED_HEADER))
                case b"g":
                    if {"path", "size"} & _pax_records(self._extended(size, MAX_EXTENDED_HEADER)).keys():
                        raise ArchiveError("the archive has a global header that renames its entries")
                case b"L":
                    long_name = _text(self._extended(size, MAX_LONG_NAME).rstrip(b"\0"))
                case kind:
                    return self._entry(block, kind, size=size, long_name=long_name, pax=pax)
        raise ArchiveError(f"the archive has more than {MAX_HEADERS_PER_ENTRY} headers for one entry")

    def _end(self, *, incomplete: bool) -> None:
        if incomplete or self._stream.read_exactly(BLOCK).count(0) != BLOCK:
            raise ArchiveError("the archive is damaged near its end")

    def _extended(self, size: int, limit: int) -> bytes:
        if size > limit:
            raise ArchiveError(f"the archive has a header of {size} bytes; {limit} are allowed")
        data = self._stream.read_exactly(size)
        self._stream.read_exactly(-size % BLOCK)
        return data

    def _entry(self, block: bytes, kind: bytes, *, size: int, long_name: str | None, pax: dict[str, str]) -> Entry:
        name = pax.get("path") or long_name or _header_name(block)
        folder = kind == b"5" or (kind == b"\0" and name.endswith("/"))
        if not folder and kind not in {b"0", b"\0"}:
            what = _REFUSED.get(kind, f"an entry of unknown type {kind!r}")
            raise ArchiveError(f"'{printable(name)}' is {what}; only files and folders can be deployed")
        if "size" in pax:
            size = _decimal(pax["size"])
        if folder and size:
            raise ArchiveError(f"'{printable(name)}' is a folder with content")
        if any(key.startswith("GNU.sparse") for key in pax):
            raise ArchiveError(f"'{printable(name)}' is a sparse file; only files and folders can be deployed")
        self._unread, self._padding = size, -size % BLOCK
        executable = bool(_octal(block[100:108], "mode") & 0o100)
        return Entry(name=name, folder=folder, executable=executable, size=size)


def printable(name: str) -> str:
    """Return a name fit for a message: without control characters, not longer than a line."""
    text = "".join(character if character.isprintable() else "?" for character in name)
    return text if len(text) <= 120 else f"{text[:117]}..."  # noqa: PLR2004 - a line


def _verify_checksum(block: bytes) -> None:
    expected = block[148:156].rstrip(b"\0 ").lstrip(b" ")
    actual = sum(block) - sum(block[148:156]) + 8 * 0x20
    if expected.lstrip(b"0") != b"%o" % actual:
        raise ArchiveError("the archive is damaged, or is no tar archive inside")


def _header_name(block: bytes) -> str:
    name = _until_nul(block[0:100])
    prefix = _until_nul(block[345:500]) if block[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _until_nul(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _text(raw: bytes) -> str:
    if b"\0" in raw:
        raise ArchiveError("the archive has a name with a NUL in it")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ArchiveError(f"the archive has a name that is not UTF-8: {raw[:80]!r}") from error


def _octal(field: bytes, what: str) -> int:
    digits = field.rstrip(b"\0 ").lstrip(b" ") or b"0"
    if digits.translate(None, b"01234567"):
        raise ArchiveError(f"the archive has a header whose {what} is not a number")
    return int(digits, 8)


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):  # noqa: PLR2004 - fits 64 bits
        raise ArchiveError("the archive has a pax header whose size is not a number")
    return int(text)


def _pax_records(data: bytes) -> dict[str, str]:
    """Return the records we look at: each is length, space, key=value, newline; the length counts all of it."""
    records: dict[str, str] = {}
    position = 0
    while position < len(data):
        length_end = data.find(b" ", position, position + 10)
        length = _decimal(data[position:length_end].decode("ascii", "replace")) if length_end > 0 else 0
        record = data[position : position + length]
        key, equals, value = record[length_end + 1 - position :].partition(b"=")
        if not equals or not record.endswith(b"\n") or len(record) != length:
            raise ArchiveError("the archive has a damaged pax header")
        if key in {b"path", b"size"} or key.startswith(b"GNU.sparse"):
            records[key.decode("ascii", "replace")] = _text(value[:-1])
        position += length
    return records
