"""Uploads in parts, on files and on a backend that is uploaded to, as S3 is."""

import hashlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appfn.store.artifacts import ArtifactAddressError, ArtifactStore
from appfn.store.objects import ArtifactNotFoundError
from appfn.store.uploads import PART_SIZE, Upload, UploadStore

CONTENT = os.urandom(2 * PART_SIZE + 1000)
ID, OTHER = "0" * 20, "1" * 20


@pytest.fixture(params=["file", "memory"])
async def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ArtifactStore]:
    url = f"file://{tmp_path}/store" if request.param == "file" else "memory:///"
    async with ArtifactStore.open(url, spool=tmp_path / "spool") as store:
        yield store


@pytest.fixture
def uploads(artifacts: ArtifactStore) -> UploadStore:
    return UploadStore(artifacts)


def upload(id_: str = ID) -> Upload:
    return Upload(id=id_, function_uid="uid", size=len(CONTENT), activate=True, created_at=datetime.now(UTC))


async def add(artifacts: ArtifactStore, uploads: UploadStore, part: int, *, to: Upload) -> None:
    async def piece() -> AsyncIterator[bytes]:
        yield CONTENT[part * PART_SIZE : (part + 1) * PART_SIZE]

    async with artifacts.objects.spooled(piece(), limit=PART_SIZE) as file:
        await uploads.add("shop", to, part, file)


async def test_parts_in_any_order_make_the_file(artifacts: ArtifactStore, uploads: UploadStore) -> None:
    item = upload()
    await uploads.begin("shop", item)
    for part in (2, 0, 0):
        await add(artifacts, uploads, part, to=item)
    found = await uploads.find("shop", ID)
    assert found is not None
    assert (found.upload, found.parts, found.whole, found.done) == (item, frozenset({0, 2}), False, False)
    with pytest.raises(ArtifactNotFoundError):
        await uploads.assemble("shop", item)

    await add(artifacts, uploads, 1, to=item)
    made = await uploads.assemble("shop", item)

    assert (made.size, made.digest) == (len(CONTENT), f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")
    whole = await uploads.find("shop", ID)
    assert whole is not None
    assert whole.whole


async def test_an_upload_that_is_done_keeps_its_mark_and_not_its_parts(
    artifacts: ArtifactStore, uploads: UploadStore
) -> None:
    item = upload()
    await uploads.begin("shop", item)
    for part in range(item.parts):
        await add(artifacts, uploads, part, to=item)

    await uploads.finish("shop", item)

    found = await uploads.find("shop", ID)
    assert found is not None
    assert (found.done, found.whole) == (True, True)
    assert {file.size < 1000 async for file in artifacts.objects.list("uploads/shop/")} == {True}
    assert await uploads.unfinished("shop") == []


async def test_uploads_of_other_namespaces_are_not_there(uploads: UploadStore) -> None:
    await uploads.begin("shop", upload())
    await uploads.begin("shop", upload(OTHER))

    assert sorted(item.id for item in await uploads.unfinished("shop")) == [ID, OTHER]
    assert await uploads.unfinished("office") == []
    assert await uploads.find("office", ID) is None
    await uploads.drop("office", ID)
    await uploads.drop("shop", OTHER)
    assert [item.id for item in await uploads.unfinished("shop")] == [ID]


@pytest.mark.parametrize("id_", ["", "../shop", ID.replace("0", "A"), ID + "0", f"{ID}/part-00000", "\udcff"])
async def test_an_id_of_another_form_leads_nowhere(uploads: UploadStore, id_: str) -> None:
    assert await uploads.find("shop", id_) is None


async def test_a_name_that_is_no_namespace_is_refused(uploads: UploadStore) -> None:
    with pytest.raises(ArtifactAddressError):
        await uploads.find("../artifacts", ID)


async def test_a_part_keeps_an_upload_from_expiring(artifacts: ArtifactStore, uploads: UploadStore) -> None:
    item = upload()
    await uploads.begin("shop", item)
    await uploads.begin("office", upload(OTHER))
    await add(artifacts, uploads, 0, to=item)

    assert await uploads.expire(datetime.now(UTC) - timedelta(minutes=1)) == 0
    assert await uploads.expire(datetime.now(UTC) + timedelta(minutes=1)) == 2
    assert await uploads.find("shop", ID) is None
    assert [file async for file in artifacts.objects.list("uploads/")] == []
