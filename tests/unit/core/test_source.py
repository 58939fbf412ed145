"""Sources: the tarball of text files, names that are refused, and what each kind of source becomes."""

import gzip
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appfn.api.base import Json
from appfn.core.problem import BuildReason, Severity
from appfn.core.source import check_names, digest, pack, resolve
from appfn.errors import InvalidSpecError
from support.objects import DIGEST, deployment

PATH = "spec.source.inline.files"


def unpacked(tarball: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(tarball))) as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        return {name: file.read() for name, file in files.items() if file is not None}


@settings(max_examples=30)
@given(
    files=st.dictionaries(st.from_regex(r"[a-z]{1,9}(/[a-z]{1,9}){0,3}\.js", fullmatch=True), st.binary(max_size=99))
)
def test_a_tarball_holds_the_files_and_does_not_depend_on_their_order(files: dict[str, bytes]) -> None:
    backwards = dict(reversed(files.items()))

    assert unpacked(pack(files)) == files
    assert pack(files) == pack(backwards)


def test_a_tarball_names_no_time_and_no_user() -> None:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(pack({"a.js": b"1"})))) as archive:
        member = archive.getmember("a.js")

    assert (member.mtime, member.uid, member.gid, member.uname, member.mode) == (0, 0, 0, "", 0o644)


@pytest.mark.parametrize(
    ("files", "named", "said"),
    [
        (["/etc/passwd"], "/etc/passwd", "relative"),
        (["../x"], "../x", "`..`"),
        (["a/../x"], "a/../x", "`..`"),
        (["a//b"], "a//b", "empty"),
        (["./a"], "./a", "`.`"),
        (["a\\b"], "a\\b", "forward slashes"),
        ([""], "", "relative"),
        (["a\x00b"], "a\x00b", "control"),
        (["a\nb"], "a\nb", "control"),
        (["a\ud800b"], "a\ud800b", "control"),
        (["x" * 256], "x" * 256, "too long"),
        (["a/" * 600 + "b"], "a/" * 600 + "b", "too long"),
        (["README", "readme"], "readme", "same file"),
        (["\u00e9", "e\u0301"], "\u00e9", "same file"),
        (["a", "a/b"], "a/b", "folder"),
        (["A", "a/b"], "a/b", "folder"),
    ],
)
def test_a_name_that_means_another_place_or_the_same_file_is_refused(files: list[str], named: str, said: str) -> None:
    with pytest.raises(InvalidSpecError, match=said) as caught:
        check_names(files, path=PATH)

    assert caught.value.path == f"{PATH}[{named!r}]"


def test_ordinary_names_are_taken() -> None:
    check_names(["index.js", "src/a.js", "src/b/c.js", ".npmrc", "ümlaut.py", "a b.txt", "a", "ab/c"], path=PATH)


def test_inline_files_become_an_artifact_to_store() -> None:
    source = resolve(deployment(source={"inline": {"files": {"index.js": "1"}}}), None)

    assert source.tarball is not None
    assert unpacked(source.tarball) == {"index.js": b"1"}
    assert source.digest == digest(source.tarball)
    assert source.spec == {"artifact": {"digest": source.digest}}


def test_a_config_map_may_hold_text_and_binary_files() -> None:
    source = resolve(
        deployment(source={"configMapRef": {"name": "code"}}),
        {"data": {"index.js": "1"}, "binaryData": {"logo.png": "AAE="}},
    )

    assert source.tarball is not None
    assert unpacked(source.tarball) == {"index.js": b"1", "logo.png": b"\x00\x01"}


def test_a_missing_config_map_is_waited_for() -> None:
    source = resolve(deployment(source={"configMapRef": {"name": "code"}}), None)

    assert source.problem is not None
    assert source.problem.severity is Severity.WAITING
    assert source.problem.reason == BuildReason.SOURCE_UNAVAILABLE
    assert "ConfigMap code" in source.problem.message


def test_a_config_map_is_looked_at_once() -> None:
    seen = deployment(source={"configMapRef": {"name": "code"}}, status={"sourceDigest": DIGEST})

    source = resolve(seen, {"data": {"index.js": "changed meanwhile"}})

    assert (source.digest, source.tarball, source.problem) == (DIGEST, None, None)


def test_a_bad_name_in_an_inline_source_fails_with_its_path() -> None:
    source = resolve(deployment(source={"inline": {"files": {"../x": "1"}}}), None)

    assert source.problem is not None
    assert source.problem.severity is Severity.FAILED
    assert source.problem.message.startswith("spec.source.inline.files['../x']: ")


@pytest.mark.parametrize(
    ("given_source", "spec", "known"),
    [
        ({"artifact": {"digest": DIGEST}}, {"artifact": {"digest": DIGEST}}, DIGEST),
        (
            {"http": {"url": "https://x/y.tgz", "sha256": "b" * 64}},
            {"http": {"url": "https://x/y.tgz", "sha256": "b" * 64}},
            "sha256:" + "b" * 64,
        ),
        (
            {"git": {"url": "https://x/y.git", "secretRef": {"name": "key"}}},
            {"git": {"url": "https://x/y.git", "ref": "HEAD", "path": ".", "secret": "key"}},
            "",
        ),
    ],
)
def test_a_source_elsewhere_is_told_to_the_build(given_source: Json, spec: Json, known: str) -> None:
    source = resolve(deployment(source=given_source), None)

    assert (source.spec, source.digest, source.tarball) == (spec, known, None)
