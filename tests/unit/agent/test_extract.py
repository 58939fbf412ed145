"""Unpacking: what is taken, what is refused, and that nothing is ever written outside."""

import contextlib
import gzip
import hashlib
import io
import itertools
import shutil
import stat
import subprocess
import tarfile
import tempfile
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appfn.agent.archive import ARTIFACT_LIMITS, SOURCE_LIMITS, MiB, extract
from appfn.agent.failure import ArchiveError
from appfn.agent.tar_stream import Limits
from unit.agent.tarballs import BLOCK, END, file, folder, header, long_name, ordinary, padded, pax, zipped

SMALL = Limits(compressed=MiB, unpacked=MiB, entries=100)


@pytest.fixture
def jail(tmp_path: Path) -> Iterator[Path]:
    """A folder to unpack into; its surroundings must be as they were."""
    (tmp_path / "outside").write_text("as it was")
    target = tmp_path / "jail"
    target.mkdir()
    yield target
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "jail"}
    assert (tmp_path / "outside").read_text() == "as it was"


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def refuse(archive: bytes, jail: Path, limits: Limits = SMALL) -> str:
    with pytest.raises(ArchiveError) as error:
        extract(io.BytesIO(archive), jail, limits)
    return str(error.value)


LONG = "/".join(["folder-with-a-rather-long-name"] * 10) + "/file.txt"


@pytest.mark.parametrize(
    ("archive", "expected"),
    [
        pytest.param(zipped(file("a.txt", b"A")), {"a.txt": b"A"}, id="a file"),
        pytest.param(
            zipped(folder("./"), file("./a", b"A"), file("./b//c", b"C")), {"a": b"A", "b/c": b"C"}, id="of tar ."
        ),
        pytest.param(zipped(folder("d/"), folder("d"), file("d/a")), {"d/a": b"x"}, id="a folder named twice"),
        pytest.param(zipped(file("a", b"")), {"a": b""}, id="an empty file"),
        pytest.param(zipped(file("a", b"x" * BLOCK)), {"a": b"x" * BLOCK}, id="a file of whole blocks"),
        pytest.param(zipped(file("name", prefix=b"pre/fix")), {"pre/fix/name": b"x"}, id="ustar prefix"),
        pytest.param(zipped(long_name(LONG), file("cut")), {LONG: b"x"}, id="GNU long name"),
        pytest.param(zipped(pax({"path": LONG, "mtime": "1.5"}), file("cut")), {LONG: b"x"}, id="pax long name"),
        pytest.param(
            zipped(pax({"size": "3"}), header(b"a", size=0), padded(b"abc")),
            {"a": b"abc"},
            id="pax size",
        ),
        pytest.param(zipped(pax({"comment": "0" * 40}, kind=b"g"), file("a")), {"a": b"x"}, id="of git archive"),
        pytest.param(zipped(pax({"SCHILY.xattr.x": b"\xff\x00"}), file("a")), {"a": b"x"}, id="of macOS"),
        pytest.param(zipped(file("a", magic=b"")), {"a": b"x"}, id="v7"),
        pytest.param(zipped(header(b"d/", kind=b"\0"), file("d/a", kind=b"\0")), {"d/a": b"x"}, id="v7 folder"),
        pytest.param(gzip.compress(file("a")) + gzip.compress(END), {"a": b"x"}, id="gzip members that make one tar"),
        pytest.param(zipped(file("a")) + bytes(1000), {"a": b"x"}, id="padding after gzip"),
        pytest.param(zipped(file("a"), end=bytes(10240)), {"a": b"x"}, id="padding after tar"),
        pytest.param(zipped(), {}, id="nothing"),
        pytest.param(zipped(file("日本/é")), {"日本/é": b"x"}, id="unicode"),
        pytest.param(zipped(file("..a/b..")), {"..a/b..": b"x"}, id="dots that mean nothing"),
    ],
)
def test_archive_is_unpacked(archive: bytes, expected: dict[str, bytes], jail: Path) -> None:
    extract(io.BytesIO(archive), jail, SMALL)

    assert tree(jail) == expected


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        pytest.param(zipped(file("../outside")), "leads out", id="traversal"),
        pytest.param(zipped(file("a/../../outside")), "leads out", id="traversal within"),
        pytest.param(zipped(folder("..")), "leads out", id="traversal of a folder"),
        pytest.param(zipped(file("a/..")), "leads out", id="traversal at the end"),
        pytest.param(zipped(pax({"path": "../outside"}), file("a")), "leads out", id="traversal by pax"),
        pytest.param(zipped(long_name("../outside"), file("a")), "leads out", id="traversal by long name"),
        pytest.param(zipped(file("b", prefix=b"../..")), "leads out", id="traversal by prefix"),
        pytest.param(zipped(file("/etc/passwd")), "absolute", id="absolute"),
        pytest.param(zipped(file("name", prefix=b"/etc")), "absolute", id="absolute by prefix"),
        pytest.param(zipped(header(b"l", kind=b"2", link=b"/etc/passwd")), "'l' is a symbolic link", id="symlink"),
        pytest.param(zipped(header(b"l", kind=b"2", link=b".."), file("l/x")), "symbolic link", id="symlink then file"),
        pytest.param(zipped(file("a"), header(b"l", kind=b"1", link=b"a")), "'l' is a hard link", id="hard link"),
        pytest.param(zipped(header(b"d", kind=b"3")), "character device", id="character device"),
        pytest.param(zipped(header(b"d", kind=b"4")), "block device", id="block device"),
        pytest.param(zipped(header(b"f", kind=b"6")), "FIFO", id="fifo"),
        pytest.param(zipped(header(b"s", kind=b"S")), "sparse", id="GNU sparse"),
        pytest.param(zipped(pax({"GNU.sparse.major": "1"}), file("a")), "sparse", id="pax sparse"),
        pytest.param(zipped(header(b"k", kind=b"K", size=1), padded(b"x")), "unknown type", id="GNU long link"),
        pytest.param(zipped(header(b"m", kind=b"M")), "unknown type", id="multi-volume"),
        pytest.param(zipped(file("a\\b")), "backslash", id="backslash"),
        pytest.param(zipped(file("a\nb")), "control character", id="newline"),
        pytest.param(zipped(pax({"path": "a\0b"}), file("a")), "NUL", id="NUL by pax"),
        pytest.param(zipped(file(b"\xff")), "not UTF-8", id="not UTF-8"),
        pytest.param(zipped(pax({"path": b"\xff"}), file("a")), "not UTF-8", id="not UTF-8 by pax"),
        pytest.param(zipped(file("a"), file("a")), "twice", id="duplicate"),
        pytest.param(zipped(file("a"), file("./a")), "twice", id="duplicate by dot"),
        pytest.param(zipped(file("a"), file("a/b")), "both a file and a folder", id="file then folder"),
        pytest.param(zipped(folder("a"), file("a")), "both a file and a folder", id="folder then file"),
        pytest.param(zipped(file("a/b"), file("a")), "both a file and a folder", id="implied folder then file"),
        pytest.param(zipped(file("README"), file("readme")), "differ only in case", id="case"),
        pytest.param(zipped(file("A/x"), file("a/y")), "differ only in case", id="case of folders"),
        pytest.param(zipped(file("é"), file("e\u0301")), "differ only in case", id="Unicode form"),
        pytest.param(zipped(file("straße"), file("STRASSE")), "differ only in case", id="case folding"),
        pytest.param(zipped(file("")), "without a name", id="no name"),
        pytest.param(zipped(file("./.")), "without a name", id="the root as a file"),
        pytest.param(zipped(pax({"path": "n" * 256}), file("a")), "longer than 255", id="long component"),
        pytest.param(zipped(pax({"path": "d/" * 513 + "a"}), file("a")), "longer than 1024", id="long path"),
        pytest.param(zipped(pax({"path": "d/" * 65 + "a"}), file("a")), "deeper than 64", id="deep path"),
        pytest.param(zipped(header(b"d", kind=b"5", size=9), padded(b"x" * 9)), "folder with content", id="fat folder"),
        pytest.param(zipped(header(b"a", size_field=b"-0000000001\0")), "not a number", id="negative size"),
        pytest.param(zipped(header(b"a", size_field=b"\x80" + b"\xff" * 11)), "not a number", id="binary size"),
        pytest.param(zipped(pax({"size": "-1"}), file("a")), "not a number", id="negative pax size"),
        pytest.param(zipped(pax({"size": "9" * 30}), file("a")), "not a number", id="endless pax size"),
        pytest.param(zipped(pax({"size": "99999999"}), file("a")), "cut off", id="pax size beyond the end"),
        pytest.param(zipped(header(b"x", kind=b"x", size=9), padded(b"99 path=a")), "damaged pax", id="bad pax length"),
        pytest.param(zipped(header(b"x", kind=b"x", size=4), padded(b"0 a=")), "damaged pax", id="pax length zero"),
        pytest.param(zipped(header(b"x", kind=b"x", size=2 * MiB)), "a header of 2097152 bytes", id="endless pax"),
        pytest.param(zipped(header(b"L", kind=b"L", size=5000)), "a header of 5000 bytes", id="endless long name"),
        pytest.param(zipped(*[pax({"path": "a"})] * 5, file("a")), "more than 4 headers", id="chain of headers"),
        pytest.param(zipped(pax({"path": "a"}, kind=b"g"), file("b")), "global header", id="global path"),
        pytest.param(zipped(pax({"path": "a"})), "damaged near its end", id="pax header for nothing"),
        pytest.param(zipped(file("a"), bytes(BLOCK), file("b"), end=b""), "damaged near its end", id="one zero block"),
        pytest.param(zipped(file("a"), END, file("b")), "goes on after its end", id="tar after tar"),
        pytest.param(zipped(file("a")) + zipped(file("b")), "goes on after its end", id="gzip after gzip"),
        pytest.param(zipped(file("a")) + b"garbage", "followed by other data", id="garbage after gzip"),
        pytest.param(zipped(file("a"), end=b""), "cut off", id="no end"),
        pytest.param(zipped(file("a"), end=bytes(BLOCK)), "cut off", id="half an end"),
        pytest.param(zipped(file("a"))[:-9], "cut off", id="truncated gzip"),
        pytest.param(zipped(file("a"))[:-1], "cut off", id="truncated checksum"),
        pytest.param(zipped(file("a"))[:-8] + b"\0\0\0\0" + zipped(file("a"))[-4:], "damaged", id="wrong checksum"),
        pytest.param(zipped(file("a").replace(b"a", b"b", 1)), "damaged", id="wrong header"),
        pytest.param(b"", "empty", id="nothing at all"),
        pytest.param(b"PK\x03\x04", "not a gzip file", id="zip"),
        pytest.param(file("a") + END, "not a gzip file", id="plain tar"),
        pytest.param(gzip.compress(b"text"), "cut off", id="gzip of a short text"),
        pytest.param(gzip.compress(b"text" * 1000), "damaged, or is no tar", id="gzip of a long text"),
    ],
)
def test_archive_is_refused(archive: bytes, message: str, jail: Path) -> None:
    assert message in refuse(archive, jail)


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tarfile_is_read(format_: int, jail: Path) -> None:
    files = {"a": b"1", "d/" + "n" * 90: b"2", "d/e/" + "m" * 90 + "/x": bytes(5000)}

    extract(io.BytesIO(ordinary(files, format_)), jail, SMALL)

    assert tree(jail) == files


def test_archive_of_tar_program_as_the_docs_make_it_is_read(
    jail: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = tmp_path_factory.mktemp("source")
    (source / "src").mkdir()
    (source / "src" / "index.js").write_text("code")
    (source / ".hidden").write_text("")
    done = subprocess.run(["tar", "-czf", "code.tar.gz", "--exclude", "code.tar.gz", "."], cwd=source, check=False)
    assert done.returncode in {0, 1}  # 1: the folder changed, as the archive grew in it

    with (source / "code.tar.gz").open("rb") as archive:
        extract(archive, jail, SMALL)

    assert tree(jail) == {"src/index.js": b"code", ".hidden": b""}


def test_modes_are_reduced_to_the_executable_bit(jail: Path) -> None:
    parts = [header(b"s", mode=0o4777), header(b"p", mode=0o600), header(b"d", kind=b"5", mode=0o1777)]

    extract(io.BytesIO(zipped(*parts)), jail, SMALL)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in jail.iterdir()}
    assert modes == {"s": 0o755, "p": 0o644, "d": 0o755}


def test_names_of_built_code_may_differ_in_case(jail: Path) -> None:
    extract(io.BytesIO(zipped(file("Crypto/a"), file("crypto/a"))), jail, ARTIFACT_LIMITS)

    assert set(tree(jail)) == {"Crypto/a", "crypto/a"}


def test_entries_are_counted(jail: Path) -> None:
    at_limit = zipped(*(file(f"f{number}", b"") for number in range(SMALL.entries)))
    extract(io.BytesIO(at_limit), jail, SMALL)
    assert len(tree(jail)) == SMALL.entries

    shutil.rmtree(jail)
    jail.mkdir()
    beyond = zipped(*(folder(f"d{number}") for number in range(SMALL.entries + 1)))
    assert "more than 100 entries" in refuse(beyond, jail)


def test_ten_thousand_files_are_unpacked() -> None:
    archive = zipped(*(file(f"d{number // 100}/f{number}", b"") for number in range(10_000)))
    memory = Path("/dev/shm")  # disks take milliseconds for each file
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as target:
        unpacked = extract(io.BytesIO(archive), Path(target), SOURCE_LIMITS)

    assert unpacked.files == 10_000


class Endless:
    """A source that never ends and counts what is taken from it."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.taken = 0

    def read(self, _size: int, /) -> bytes:
        chunk = next(self._chunks)
        self.taken += len(chunk)
        return chunk


def bomb() -> Iterator[bytes]:
    compressor = zlib.compressobj(9, wbits=31)
    yield compressor.compress(header(b"bomb", size=(1 << 33) - 1))
    while True:
        yield compressor.compress(bytes(MiB)) + compressor.flush(zlib.Z_SYNC_FLUSH)


def test_bomb_is_stopped_by_its_ratio_in_little_memory(jail: Path) -> None:
    source = Endless(bomb())
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match="compressed more than 200 to 1"):
            extract(source, jail, SOURCE_LIMITS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 8 * MiB
    assert source.taken < MiB


def test_archive_is_stopped_by_its_unpacked_size(jail: Path) -> None:
    assert "unpacks to more than 1 MiB" in refuse(zipped(file("a", bytes(2 * MiB))), jail)


def test_archive_is_stopped_by_its_compressed_size(jail: Path) -> None:
    empty_members = Endless(itertools.repeat(gzip.compress(b"") * 1000))

    with pytest.raises(ArchiveError, match=r"larger than 1 MiB|more than 10000 gzip members"):
        extract(empty_members, jail, SMALL)


def test_archive_is_stopped_by_time(jail: Path) -> None:
    clock = itertools.count(0, 10.0)

    with pytest.raises(ArchiveError, match="longer than 60 s"):
        extract(Endless(bomb()), jail, SMALL, clock=lambda: next(clock))


def test_existing_link_in_the_target_is_not_followed(jail: Path) -> None:
    (jail / "link").symlink_to(jail.parent)

    with pytest.raises(OSError, match="link"):
        extract(io.BytesIO(zipped(file("link/outside", b"changed"))), jail, SMALL)


def test_existing_file_in_the_target_is_not_replaced(jail: Path) -> None:
    (jail / "a").symlink_to(jail.parent / "outside")

    with pytest.raises(FileExistsError):
        extract(io.BytesIO(zipped(file("a", b"changed"))), jail, SMALL)


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
entries = st.lists(
    st.tuples(names, st.binary(max_size=600), st.sampled_from([b"0", b"5", b"2", b"1", b"x", b"L", b"g"]))
)
PROOF = settings(max_examples=150, deadline=None)


@contextlib.contextmanager
def fresh_jail() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "jail").mkdir()
        (root / "outside").write_text("as it was")
        yield root / "jail"
        assert sorted(path.name for path in root.iterdir()) == ["jail", "outside"]
        assert (root / "outside").read_text() == "as it was"
        assert not any(path.is_symlink() for path in root.rglob("*"))


def unpack_or_refuse(archive: bytes) -> None:
    """Any outcome but a refusal in words, or success, is a defect."""
    with fresh_jail() as target, contextlib.suppress(ArchiveError):
        extract(io.BytesIO(archive), target, SMALL)


@PROOF
@given(entries)
def test_no_mix_of_entries_escapes(parts: list[tuple[str, bytes, bytes]]) -> None:
    blocks = [header(name.encode()[:100], kind=kind, size=len(data)) + padded(data) for name, data, kind in parts]
    unpack_or_refuse(zipped(*blocks))


@PROOF
@given(st.binary(max_size=4096))
def test_no_bytes_in_a_gzip_escape(data: bytes) -> None:
    unpack_or_refuse(gzip.compress(data))
    unpack_or_refuse(data)


@PROOF
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8))
def test_no_damage_to_a_good_archive_escapes(changes: list[tuple[int, int]]) -> None:
    good = bytearray(pax({"path": "d/é"}) + file("cut", b"data" * 200) + long_name("x" * 120) + file("y") + END)
    for position, value in changes:
        good[position % len(good)] = value
    unpack_or_refuse(gzip.compress(bytes(good)))


plain_names = st.lists(
    st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=20), min_size=1, max_size=3
).map("/".join)


@PROOF
@given(st.dictionaries(plain_names, st.binary(max_size=2000), max_size=8))
def test_whatever_tarfile_packs_is_either_unpacked_the_same_or_refused(files: dict[str, bytes]) -> None:
    archive = ordinary(files)
    with fresh_jail() as target:
        try:
            extract(io.BytesIO(archive), target, SMALL)
        except ArchiveError as error:
            assert any(words in str(error) for words in ("differ only", "both a file", "twice"))  # noqa: PT017
        else:
            assert tree(target) == files


def test_source_is_hashed_as_it_was_given(jail: Path) -> None:
    archive = zipped(file("a"))
    seen = hashlib.sha256()

    class Hashing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            chunk = super().read(size)
            seen.update(chunk)
            return chunk

    extract(Hashing(archive), jail, SMALL)

    assert seen.digest() == hashlib.sha256(archive).digest()
