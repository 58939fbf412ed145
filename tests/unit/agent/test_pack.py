"""Packing: the same bytes for the same code, and nothing from outside of the folder."""

import contextlib
import io
import os
import socket
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appfn.agent.archive import ARTIFACT_LIMITS, SOURCE_LIMITS, MiB, Packed, extract, pack
from appfn.agent.failure import ArchiveError
from appfn.agent.tar_stream import Limits


def packed(root: Path, limits: Limits = SOURCE_LIMITS) -> tuple[Packed, bytes]:
    buffer = io.BytesIO()
    return pack(root, buffer, limits), buffer.getvalue()


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


FILES = {"b": "B", "a/z": "Z", "a/é" + "x" * 150: "long", ".hidden": "", "A": "other"}


def test_same_files_make_the_same_bytes_whatever_their_times_and_order(tmp_path: Path) -> None:
    one = write(tmp_path / "one", FILES)
    two = write(tmp_path / "two", dict(reversed(FILES.items())))
    os.utime(two / "b", (1, 1))
    (two / "b").chmod(0o600)

    assert packed(one) == packed(two)


@pytest.mark.parametrize("change", [{"b": "C"}, {"c": ""}], ids=["content", "name"])
def test_any_difference_changes_the_digest(tmp_path: Path, change: dict[str, str]) -> None:
    one = write(tmp_path / "one", FILES)
    two = write(tmp_path / "two", FILES | change)

    assert packed(one)[0].digest != packed(two)[0].digest


def test_what_is_packed_unpacks_to_the_same(tmp_path: Path) -> None:
    root = write(tmp_path / "root", FILES)
    (root / "b").chmod(0o755)
    (root / "empty").mkdir()
    target = tmp_path / "target"
    target.mkdir()

    result, data = packed(root)
    unpacked = extract(io.BytesIO(data), target, ARTIFACT_LIMITS)

    assert {str(p.relative_to(target)): p.read_text() for p in target.rglob("*") if p.is_file()} == FILES
    assert os.access(target / "b", os.X_OK)
    assert not (target / "a/z").stat().st_mode & 0o111
    assert (target / "empty").is_dir()
    assert unpacked.files == result.files == len(FILES)
    assert result.size == len(data)


def test_links_within_the_folder_become_what_they_lead_to(tmp_path: Path) -> None:
    root = write(tmp_path / "root", {"lib/code": "shared"})
    (root / "file").symlink_to("lib/code")
    (root / "folder").symlink_to("lib")
    target = tmp_path / "target"
    target.mkdir()

    extract(io.BytesIO(packed(root)[1]), target, ARTIFACT_LIMITS)

    assert (target / "file").read_text() == (target / "folder/code").read_text() == "shared"
    assert not any(path.is_symlink() for path in target.rglob("*"))


@pytest.mark.parametrize(
    ("link", "destination", "message"),
    [
        ("l", "/etc/passwd", "leads out of the folder"),
        ("l", "../secret", "leads out of the folder"),
        ("l", "..", "leads out of the folder"),
        ("l", "absent", "link to nothing"),
        ("l", "l", "link to nothing"),
        ("d/l", "../d", "a folder around it"),
        ("d/l", "..", "a folder around it"),
    ],
)
def test_other_links_are_refused(tmp_path: Path, link: str, destination: str, message: str) -> None:
    (tmp_path / "secret").write_text("secret")
    root = write(tmp_path / "root", {"d/file": ""})
    (root / link).symlink_to(destination)

    with pytest.raises(ArchiveError, match=message):
        packed(root)


def test_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "secrets", {"token": "secret"})
    (tmp_path / "root").symlink_to("secrets")

    with pytest.raises(ArchiveError, match="not a folder"):
        packed(tmp_path / "root")


def test_special_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ArchiveError, match="neither a file nor a folder"):
        packed(tmp_path)

    (tmp_path / "fifo").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(ArchiveError, match="neither a file nor a folder"):
            packed(tmp_path)


@pytest.mark.parametrize("name", [b"back\\slash", b"new\nline", b"\xff"])
def test_name_that_could_not_be_unpacked_is_not_packed(tmp_path: Path, name: bytes) -> None:
    (tmp_path / os.fsdecode(name)).write_text("")

    with pytest.raises(ArchiveError, match="backslash or a control character in its name, or is not UTF-8"):
        packed(tmp_path)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(compressed=MiB, unpacked=MiB, entries=2),
        Limits(compressed=MiB, unpacked=2, entries=10),
        Limits(compressed=10, unpacked=MiB, entries=10),
    ],
    ids=["entries", "bytes", "compressed bytes"],
)
def test_too_much_is_refused(tmp_path: Path, limits: Limits) -> None:
    root = write(tmp_path / "root", {"a": "1", "b": "2", "c": "3"})

    with pytest.raises(ArchiveError, match=r"more than|larger than"):
        packed(root, limits)


class Meddler(io.BytesIO):
    """Where a tarball goes; does something when the first bytes come."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        super().__init__()
        self._meddle: Callable[[], object] | None = meddle

    def write(self, data: Any, /) -> int:
        meddle, self._meddle = self._meddle, None
        if meddle is not None and len(memoryview(data)) > 100:  # not gzip's header
            meddle()
        else:
            self._meddle = meddle
        return super().write(data)


@pytest.mark.parametrize("swapped", ["root/d", "root"])
def test_a_folder_that_becomes_a_link_meanwhile_does_not_lead_outside(tmp_path: Path, swapped: str) -> None:
    write(tmp_path / "outside", {"z": "secret", "d/z": "secret"})
    root = write(tmp_path / "root", {"d/z": "harmless"})
    (root / "d/a").write_bytes(os.urandom(MiB))

    def swap() -> None:
        (tmp_path / swapped).rename(tmp_path / "moved")
        (tmp_path / swapped).symlink_to(tmp_path / "outside")

    target = Meddler(swap)
    with contextlib.suppress(ArchiveError):
        pack(root, target, SOURCE_LIMITS)

    assert (tmp_path / "moved").exists()
    assert b"secret" not in unzipped(target.getvalue())


def unzipped(data: bytes) -> bytes:
    """Return what of a tarball there is, even if it was never finished."""
    return zlib.decompressobj(wbits=31).decompress(data)
