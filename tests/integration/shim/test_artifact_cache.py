"""The cache in front of the artifact store: nothing stale, nothing large, nothing without bound."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appfn.shim.artifact_cache import ArtifactCache
from appfn.store.artifacts import ArtifactStore
from appfn.store.objects import ArtifactNotFoundError


@pytest.fixture
async def artifacts(tmp_path: Path) -> AsyncIterator[ArtifactStore]:
    async with ArtifactStore.open(f"file://{tmp_path}/artifacts", spool=tmp_path / "spool") as opened:
        yield opened


async def stored(artifacts: ArtifactStore, content: bytes, namespace: str = "shop") -> str:
    async def pieces() -> AsyncIterator[bytes]:
        yield content

    return (await artifacts.put(namespace, pieces(), limit=1 << 20)).digest


async def read(cache: ArtifactCache, digest: str, namespace: str = "shop") -> bytes:
    size, stream = await cache.open(namespace, digest)
    content = b"".join([piece async for piece in stream])
    assert len(content) == size
    return content


async def gone(artifacts: ArtifactStore, tmp_path: Path, digest: str) -> None:
    """Take the file away, to see who still has its content."""
    (tmp_path / "artifacts" / "artifacts" / "shop" / digest.removeprefix("sha256:")).unlink()
    with pytest.raises(ArtifactNotFoundError):
        await artifacts.open_artifact("shop", digest)


async def test_a_small_artifact_is_read_once(artifacts: ArtifactStore, tmp_path: Path) -> None:
    cache = ArtifactCache(artifacts)
    digest = await stored(artifacts, b"code")
    assert await read(cache, digest) == b"code"
    await gone(artifacts, tmp_path, digest)
    assert await read(cache, digest) == b"code"


async def test_what_was_just_stored_need_not_be_read(artifacts: ArtifactStore, tmp_path: Path) -> None:
    cache = ArtifactCache(artifacts)
    digest = await stored(artifacts, b"code")
    cache.keep("shop", digest, b"code")
    await gone(artifacts, tmp_path, digest)
    assert await read(cache, digest) == b"code"


async def test_another_namespace_is_another_artifact(artifacts: ArtifactStore) -> None:
    cache = ArtifactCache(artifacts)
    digest = await stored(artifacts, b"code")
    await read(cache, digest)
    with pytest.raises(ArtifactNotFoundError):
        await read(cache, digest, "other")


async def test_a_large_artifact_is_passed_on_and_not_kept(artifacts: ArtifactStore, tmp_path: Path) -> None:
    cache = ArtifactCache(artifacts, largest=10)
    digest = await stored(artifacts, b"x" * 11)
    assert await read(cache, digest) == b"x" * 11
    await gone(artifacts, tmp_path, digest)
    with pytest.raises(ArtifactNotFoundError):
        await read(cache, digest)


async def test_the_least_used_goes_where_there_is_no_room(artifacts: ArtifactStore, tmp_path: Path) -> None:
    cache = ArtifactCache(artifacts, largest=10, room=25)
    one, two, three = [await stored(artifacts, bytes([number]) * 10) for number in range(3)]
    for digest in (one, two, one, three):
        await read(cache, digest)
    for digest in (one, two, three):
        await gone(artifacts, tmp_path, digest)
    assert await read(cache, one) == bytes(10)
    assert await read(cache, three) == bytes([2]) * 10
    with pytest.raises(ArtifactNotFoundError):
        await read(cache, two)
