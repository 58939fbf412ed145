"""The artifact store on real files."""

import hashlib
import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appfn.api.deployment import Artifact
from appfn.errors import ConfigError
from appfn.store.artifacts import (
    ArtifactAddressError,
    ArtifactStore,
    BuildOutput,
    DigestMismatchError,
)
from appfn.store.objects import ArtifactNotFoundError, ArtifactTooLargeError

KEY = "ab" * 32
UNKNOWN = f"sha256:{'0' * 64}"


@pytest.fixture(params=["file", "memory"])
async def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ArtifactStore]:
    """On files, which are renamed into place, and on a backend that is uploaded to, as S3 is."""
    url = f"file://{tmp_path}/store" if request.param == "file" else "memory:///"
    async with ArtifactStore.open(url, spool=tmp_path / "spool") as store:
        yield store


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


async def content_of(store: ArtifactStore, namespace: str, digest: str) -> bytes:
    size, pieces = await store.open_artifact(namespace, digest)
    content = b"".join([piece async for piece in pieces])
    assert len(content) == size
    return content


def leftovers(tmp_path: Path) -> list[Path]:
    return list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("size", [0, 1, 3 * 1024 * 1024 + 7, 12 * 1024 * 1024])
async def test_what_was_put_comes_back_by_its_digest(artifacts: ArtifactStore, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    pieces = [content[at : at + 700_001] for at in range(0, size, 700_001)]
    artifact = await artifacts.put("shop", stream(*pieces), limit=size, expected=digest_of(content))
    assert artifact == Artifact(digest=digest_of(content), size=size)
    assert await content_of(artifacts, "shop", artifact.digest) == content
    assert leftovers(tmp_path) == []


async def test_a_file_that_another_process_sweeps_from_the_spool_is_no_error(tmp_path: Path) -> None:
    spool = tmp_path / "store" / "spool"
    spool.mkdir(parents=True)
    (spool / "gone.part").symlink_to(tmp_path / "nowhere")  # listed, and not there when it is looked at

    async with ArtifactStore.open(f"file://{tmp_path}/store", spool=tmp_path) as store:
        assert await store.namespaces() == set()


async def test_putting_again_changes_nothing_but_the_time(artifacts: ArtifactStore) -> None:
    first = await artifacts.put("shop", stream(b"same"), limit=10)
    before = [item async for item in artifacts.list_artifacts("shop")]
    assert await artifacts.put("shop", stream(b"sa", b"me"), limit=10) == first
    (after,) = [item async for item in artifacts.list_artifacts("shop")]
    assert (after.digest, after.size) == (first.digest, 4)
    assert after.stored_at >= before[0].stored_at
    assert datetime.now(UTC) - after.stored_at < timedelta(minutes=1)


async def test_too_many_bytes_are_refused_and_leave_nothing(artifacts: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(ArtifactTooLargeError, match="10 bytes"):
        await artifacts.put("shop", stream(b"12345", b"678901"), limit=10)
    assert leftovers(tmp_path) == []
    assert [item async for item in artifacts.list_artifacts("shop")] == []


async def test_a_wrong_digest_is_refused_and_leaves_nothing(artifacts: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(DigestMismatchError, match=digest_of(b"x")):
        await artifacts.put("shop", stream(b"x"), limit=10, expected=UNKNOWN)
    assert leftovers(tmp_path) == []
    assert not await artifacts.exists("shop", digest_of(b"x"))
    assert not await artifacts.exists("shop", UNKNOWN)


async def test_an_upload_that_breaks_off_leaves_nothing(artifacts: ArtifactStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (2 * 1024 * 1024)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await artifacts.put("shop", broken(), limit=2**30)
    assert leftovers(tmp_path) == []
    assert [item async for item in artifacts.list_artifacts("shop")] == []


async def test_an_artifact_is_not_seen_from_another_namespace(artifacts: ArtifactStore) -> None:
    artifact = await artifacts.put("shop", stream(b"secret"), limit=10)
    assert not await artifacts.exists("other", artifact.digest)
    with pytest.raises(ArtifactNotFoundError):
        await artifacts.open_artifact("other", artifact.digest)
    with pytest.raises(ArtifactNotFoundError):
        await artifacts.tail("other", artifact.digest, lines=1)
    assert [item async for item in artifacts.list_artifacts("sho")] == []


async def test_a_deleted_artifact_is_gone_and_may_be_deleted_again(artifacts: ArtifactStore) -> None:
    artifact = await artifacts.put("shop", stream(b"x"), limit=10)
    await artifacts.delete("shop", artifact.digest)
    await artifacts.delete("shop", artifact.digest)
    assert not await artifacts.exists("shop", artifact.digest)


@pytest.mark.parametrize(
    ("content", "lines", "expected"),
    [
        (b"", 5, ""),
        (b"one", 5, "one"),
        (b"one\ntwo\nthree\n", 2, "two\nthree"),
        (b"one\ntwo", 0, ""),
        (b"\xff\xfeok\n", 1, "\ufffd\ufffdok"),
        (b"x" * 100_000 + b"\nlast\n", 50, "last"),
        (b"x" * 100_000, 50, "x" * 65_536),
    ],
)
async def test_a_tail_is_the_last_lines(artifacts: ArtifactStore, content: bytes, lines: int, expected: str) -> None:
    artifact = await artifacts.put("shop", stream(content), limit=2**30)
    assert await artifacts.tail("shop", artifact.digest, lines=lines) == expected


@pytest.mark.parametrize("namespace", ["", "..", "a/b", "../etc", "A", "a.b", "-a", "a\n", "x" * 64, "a\0"])
async def test_a_malformed_namespace_is_refused(artifacts: ArtifactStore, namespace: str) -> None:
    with pytest.raises(ArtifactAddressError):
        await artifacts.put(namespace, stream(b"x"), limit=10)
    with pytest.raises(ArtifactAddressError):
        await artifacts.open_artifact(namespace, UNKNOWN)
    with pytest.raises(ArtifactAddressError):
        await artifacts.get_build(namespace, KEY)
    with pytest.raises(ArtifactAddressError):
        _ = [item async for item in artifacts.list_artifacts(namespace)]


@pytest.mark.parametrize(
    "digest",
    ["", "sha256:", "0" * 64, "sha256:" + "0" * 63, "sha256:" + "A" * 64, "sha256:../../" + "0" * 58, UNKNOWN + "\n"],
)
async def test_a_malformed_digest_is_refused(artifacts: ArtifactStore, digest: str) -> None:
    for refused in (
        artifacts.open_artifact("shop", digest),
        artifacts.tail("shop", digest, lines=1),
        artifacts.exists("shop", digest),
        artifacts.delete("shop", digest),
        artifacts.put("shop", stream(b"x"), limit=10, expected=digest),
    ):
        with pytest.raises(ArtifactAddressError):
            await refused


@pytest.mark.parametrize("key", ["", "..", "ab", KEY.upper(), f"{KEY}/x", UNKNOWN])
async def test_a_malformed_build_key_is_refused(artifacts: ArtifactStore, key: str) -> None:
    with pytest.raises(ArtifactAddressError):
        await artifacts.get_build("shop", key)
    with pytest.raises(ArtifactAddressError):
        await artifacts.put_build("shop", key, BuildOutput(artifact=Artifact(digest=UNKNOWN, size=1)))


async def test_a_build_is_found_as_long_as_its_artifact_is_there(artifacts: ArtifactStore) -> None:
    artifact = await artifacts.put("shop", stream(b"built"), limit=10)
    log = await artifacts.put("shop", stream(b"log"), limit=10)
    output = BuildOutput(artifact=artifact, log=log)
    assert await artifacts.get_build("shop", KEY) is None
    await artifacts.put_build("shop", KEY, output)
    assert await artifacts.get_build("shop", KEY) == output
    assert await artifacts.get_build("other", KEY) is None
    await artifacts.delete("shop", log.digest)
    assert await artifacts.get_build("shop", KEY) == BuildOutput(artifact=artifact)
    await artifacts.delete("shop", artifact.digest)
    assert await artifacts.get_build("shop", KEY) is None


async def test_a_build_that_cannot_be_read_counts_as_none(tmp_path: Path) -> None:
    async with ArtifactStore.open(f"file://{tmp_path}", spool=tmp_path / "x") as artifacts:
        path = tmp_path / "builds" / "shop" / f"{KEY}.json"
        path.parent.mkdir(parents=True)
        path.write_text('{"artifact": ')
        assert await artifacts.get_build("shop", KEY) is None


async def test_opening_removes_uploads_that_died_long_ago_and_no_others(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    dead, alive = spool / "dead.part", spool / "alive.part"
    for path in (dead, alive):
        path.touch()
    os.utime(dead, (time.time() - 7200,) * 2)
    async with ArtifactStore.open(f"file://{tmp_path}", spool=tmp_path / "x"):
        assert (dead.exists(), alive.exists()) == (False, True)


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://host/x", "s3://"])
async def test_a_url_that_cannot_be_used_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="APPFN_ARTIFACTS_URL"):
        async with ArtifactStore.open(url, spool=tmp_path):
            pass
