"""Archives to test with, made by hand where tarfile would be too polite."""

import gzip
import io
import tarfile
from collections.abc import Mapping

BLOCK = 512
END = bytes(2 * BLOCK)


def header(
    name: bytes,
    *,
    kind: bytes = b"0",
    size: int = 0,
    size_field: bytes | None = None,
    mode: int = 0o644,
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
) -> bytes:
    """Return one header block with a right checksum."""
    fields = [
        name.ljust(100, b"\0")[:100],
        b"%07o\0" % mode,
        b"0000000\0" * 2,
        size_field if size_field is not None else b"%011o\0" % size,
        b"00000000000\0",
        b" " * 8,
        kind,
        link.ljust(100, b"\0"),
        magic.ljust(8, b"\0"),
        bytes(80),
        prefix.ljust(155, b"\0"),
    ]
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padded(data: bytes) -> bytes:
    """Return data filled up to whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def file(name: str | bytes, data: bytes = b"x", **fields: bytes) -> bytes:
    """Return header and content of a file."""
    raw = name.encode() if isinstance(name, str) else name
    return header(raw, size=len(data), **fields) + padded(data)  # type: ignore[arg-type]  # only bytes fields are given


def folder(name: str) -> bytes:
    """Return the header of a folder."""
    return header(name.encode(), kind=b"5", mode=0o755)


def pax(records: Mapping[str, str | bytes], kind: bytes = b"x") -> bytes:
    """Return a pax header with these records."""
    data = b"".join(_record(key.encode(), v if isinstance(v, bytes) else v.encode()) for key, v in records.items())
    return header(b"pax", kind=kind, size=len(data)) + padded(data)


def _record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    length = len(body) + len(str(length))
    return str(length).encode() + body


def long_name(name: str) -> bytes:
    """Return a GNU long-name header."""
    data = name.encode() + b"\0"
    return header(b"././@LongLink", kind=b"L", size=len(data), magic=b"ustar  \0") + padded(data)


def zipped(*parts: bytes, end: bytes = END) -> bytes:
    """Return a gzip tarball of these parts."""
    return gzip.compress(b"".join(parts) + end, mtime=0)


def ordinary(files: Mapping[str, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002 - tarfile's word
    """Return a tarball as tarfile makes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=format) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
