"""Unpacking tarballs from strangers and packing folders deterministically.

Unpacking is by allow-list: files and folders only, names that stay inside and mean one file everywhere, every file
created exclusively and relative to a directory's descriptor. Nothing is ever opened by a path an archive chose.
"""

import hashlib
import os
import re
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from appfn.agent.failure import ArchiveError
from appfn.agent.tar_stream import Entry, GzipReader, Limits, Readable, TarReader, printable

MiB = 1 << 20
SOURCE_LIMITS = Limits(compressed=64 * MiB, unpacked=250 * MiB, entries=20_000)
"""Of code as its author hands it in."""
ARTIFACT_LIMITS = Limits(compressed=256 * MiB, unpacked=512 * MiB, entries=100_000, portable_names=False)
"""Of code with its dependencies, which know only the system they were installed on."""
MAX_COMPONENT = 255
MAX_PATH = 1024
MAX_DEPTH = 64

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_UNFIT = re.compile(r"[\\\x00-\x1f\x7f\ud800-\udfff]")  # surrogates are what Python makes of names that aren't UTF-8

Parts = tuple[str, ...]


class Unpacked(NamedTuple):
    """What an archive held."""

    files: int
    size: int
    """Bytes of the unpacked tar."""


class Packed(NamedTuple):
    """A tarball that was written."""

    digest: str
    """`sha256:` and 64 hex digits."""
    size: int
    """Bytes."""
    files: int


def extract(source: Readable, root: Path, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> Unpacked:
    """Unpack a gzip tarball into the existing, empty folder `root`.

    Raises:
        ArchiveError: at the first thing that is not allowed; what was unpacked till then stays, inside `root`.
    """
    stream = GzipReader(source, limits, clock=clock)
    reader = TarReader(stream)
    names = _Names(portable=limits.portable_names)
    files = 0
    with _Tree(root) as tree:
        for number, entry in enumerate(reader, start=1):
            if number > limits.entries:
                raise ArchiveError(f"the archive has more than {limits.entries} entries")
            parts = split_name(entry.name)
            if entry.folder:
                names.add_folder(parts)
                tree.folder(parts)
            else:
                names.add_file(parts)
                tree.write(parts, entry, reader.content())
                files += 1
    return Unpacked(files=files, size=stream.unpacked)


def split_name(name: str) -> Parts:
    """Return the components of an entry's name, without `.`; the root itself has none.

    Raises:
        ArchiveError: the name leaves the folder, or is not one every file system and shell can live with.
    """
    parts = tuple(part for part in name.split("/") if part not in {"", "."})
    if name.startswith("/"):
        raise _bad(name, "is an absolute path; pack with relative paths (tar -C <folder> -czf … .)")
    if _UNFIT.search(name):
        raise _bad(name, "has a backslash or a control character in its name, or is not UTF-8")
    if ".." in parts:
        raise _bad(name, "leads out of the archive (..)")
    if len(name.encode()) > MAX_PATH or len(parts) > MAX_DEPTH:
        raise _bad(name, f"is longer than {MAX_PATH} bytes or deeper than {MAX_DEPTH} folders")
    if len(name) * 4 > MAX_COMPONENT and any(len(part.encode()) > MAX_COMPONENT for part in parts):
        raise _bad(name, f"has a component longer than {MAX_COMPONENT} bytes")
    return parts


def _bad(name: str, what: str) -> ArchiveError:
    return ArchiveError(f"'{printable(name)}' {what}")


class _Names:
    """Every name seen so far, to refuse one that comes twice or collides with another."""

    def __init__(self, *, portable: bool) -> None:
        self._portable = portable
        self._folders: set[Parts] = {()}
        self._files: set[Parts] = set()
        self._folded: dict[str, Parts] = {}

    def add_folder(self, parts: Parts) -> None:
        if parts in self._folders:
            return
        self.add_folder(parts[:-1])
        if parts in self._files:
            raise ArchiveError(f"'{_shown(parts)}' is both a file and a folder")
        self._claim(parts)
        self._folders.add(parts)

    def add_file(self, parts: Parts) -> None:
        if not parts:
            raise ArchiveError("the archive has a file without a name")
        if parts in self._files:
            raise ArchiveError(f"'{_shown(parts)}' is in the archive twice")
        if parts in self._folders:
            raise ArchiveError(f"'{_shown(parts)}' is both a file and a folder")
        self.add_folder(parts[:-1])
        self._claim(parts)
        self._files.add(parts)

    def _claim(self, parts: Parts) -> None:
        if not self._portable:
            return
        folded = unicodedata.normalize("NFC", "/".join(parts)).casefold()
        other = self._folded.setdefault(folded, parts)
        if other != parts:
            raise ArchiveError(f"'{_shown(parts)}' and '{_shown(other)}' differ only in case or Unicode form")


def _shown(parts: Parts) -> str:
    return printable("/".join(parts))


class _Tree:
    """A folder that files are created in, by descriptors; owns the descriptors."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _FOLDER_FLAGS)
        self._parts: Parts = ()
        self._folder = os.dup(self._root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._folder)
        os.close(self._root)

    def folder(self, parts: Parts) -> int:
        """Return a descriptor of the folder, made where missing; valid until the next call."""
        if parts == self._parts:  # archives list the files of a folder one after the other
            return self._folder
        descriptor = os.dup(self._root)
        for part in parts:
            child = _enter(part, descriptor)
            os.close(descriptor)
            descriptor = child
        os.close(self._folder)
        self._folder, self._parts = descriptor, parts
        return descriptor

    def write(self, parts: Parts, entry: Entry, content: Iterator[bytes]) -> None:
        mode = 0o755 if entry.executable else 0o644
        descriptor = os.open(parts[-1], _FILE_FLAGS, mode, dir_fd=self.folder(parts[:-1]))
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.writelines(content)


def _enter(part: str, parent: int) -> int:
    try:
        return os.open(part, _FOLDER_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        os.mkdir(part, 0o755, dir_fd=parent)
        return os.open(part, _FOLDER_FLAGS, dir_fd=parent)


def pack(root: Path, target: BinaryIO, limits: Limits) -> Packed:
    """Write a folder as a gzip tarball whose bytes depend on names, contents and executable bits alone.

    Links are followed where they stay inside the folder; every name satisfies `split_name`. Whoever changes the folder
    meanwhile spoils the tarball, but cannot make it hold anything from outside.

    Raises:
        ArchiveError: a link leads out, to nothing or in a circle; a special file; too much of anything.
    """
    import gzip  # noqa: PLC0415 - a runtime pod's agent never packs
    import tarfile  # noqa: PLC0415

    writer = _HashingWriter(target, limits.compressed)
    files = total = 0
    with (
        _Inside(root) as inside,
        gzip.GzipFile(filename="", mode="wb", fileobj=writer, compresslevel=6, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for number, (name, path) in enumerate(_walk(root), start=1):
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            if path is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
                _require_room(number, total, limits)
                continue
            with inside.open(path, name) as file:
                status = os.fstat(file.fileno())
                total += status.st_size
                _require_room(number, total, limits)
                info.mode = 0o755 if status.st_mode & 0o100 else 0o644
                info.size = status.st_size
                tar.addfile(info, file)
            files += 1
    return Packed(digest=f"sha256:{writer.hash.hexdigest()}", size=writer.size, files=files)


def _require_room(entries: int, size: int, limits: Limits) -> None:
    if entries > limits.entries or size > limits.unpacked:
        raise ArchiveError(f"more than {limits.entries} files or {limits.unpacked // MiB} MiB")


class _Inside:
    """A folder whose files are opened by descriptors, through no link: what was looked at before may be another now."""

    def __init__(self, root: Path) -> None:
        try:
            self._root = os.open(root, _FOLDER_FLAGS)
        except OSError as error:
            raise ArchiveError(f"{root} is not a folder") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._root)

    def open(self, path: PurePath, name: str) -> BinaryIO:
        """Open a file by its path from the folder, which has no links in it."""
        folder = os.dup(self._root)
        try:
            for part in path.parts[:-1]:
                child = os.open(part, _FOLDER_FLAGS, dir_fd=folder)
                os.close(folder)
                folder = child
            file = os.fdopen(os.open(path.parts[-1], _READ_FLAGS, dir_fd=folder), "rb")
        except OSError as error:
            raise ArchiveError(f"'{printable(name)}' cannot be read: {error.strerror}") from error
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise ArchiveError(f"'{printable(name)}' is neither a file nor a folder")
        return file


def _walk(root: Path) -> Iterator[tuple[str, PurePath | None]]:
    """Yield the name of every file and folder below `root`, sorted; of files the path from there, links resolved."""
    real_root = root.resolve()
    yield from _walk_folder(real_root, (), root=real_root, trail=frozenset([real_root]))


def _walk_folder(
    folder: Path, parts: Parts, *, root: Path, trail: frozenset[Path]
) -> Iterator[tuple[str, PurePath | None]]:
    for child in sorted(folder.iterdir()):
        child_parts = (*parts, child.name)
        name = "/".join(child_parts)
        split_name(name)
        path = _resolve(child, name, root) if child.is_symlink() else child
        if path.is_dir():
            if path in trail:
                raise ArchiveError(f"'{printable(name)}' is a symbolic link to a folder around it")
            yield name, None
            yield from _walk_folder(path, child_parts, root=root, trail=trail | {path})
        elif path.is_file():
            yield name, path.relative_to(root)
        else:
            raise ArchiveError(f"'{printable(name)}' is neither a file nor a folder")


def _resolve(link: Path, name: str, root: Path) -> Path:
    try:
        path = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle, before Python 3.13
        raise ArchiveError(f"'{printable(name)}' is a symbolic link to nothing") from error
    if not path.is_relative_to(root):
        raise ArchiveError(f"'{printable(name)}' is a symbolic link that leads out of the folder; put a copy there")
    return path


class _HashingWriter:
    """Passes bytes on, counting and hashing them."""

    def __init__(self, target: BinaryIO, limit: int) -> None:
        self._target = target
        self._limit = limit
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        if self.size > self._limit:
            raise ArchiveError(f"the tarball is larger than {self._limit // MiB} MiB")
        self.hash.update(data)
        return self._target.write(data)

    def flush(self) -> None:
        self._target.flush()
