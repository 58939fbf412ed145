"""The shim client: every call, every kind of error, the token."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from appfn.api.deployment import Artifact
from appfn.api.execution import ExecutionPhase
from appfn.core.observed import StoredBuild
from appfn.core.source import digest
from appfn.errors import AppfnError, ForbiddenError, RejectedError, TransientError
from appfn.reconcile.shim_client import TOKEN_SECONDS, ShimClient, connect
from support.fake_shim import TOKEN, FakeShim
from support.objects import DIGEST, NOW


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def write(path: Path, token: str) -> Path:
    path.write_text(f"{token}\n")
    return path


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    return write(tmp_path / "token", TOKEN)


@pytest.fixture
def fake() -> FakeShim:
    return FakeShim()


@pytest.fixture
async def shim(fake: FakeShim, clock: Clock, token_file: Path) -> AsyncIterator[ShimClient]:
    async with fake.serve() as url, connect(url, token_path=token_file, clock=clock) as client:
        yield client


async def test_a_source_is_stored_under_its_digest(shim: ShimClient, fake: FakeShim) -> None:
    content = b"tarball"

    stored = await shim.put_artifact("shop", content, digest=digest(content))

    assert stored == Artifact(digest=digest(content), size=7)
    assert fake.artifacts == {digest(content): content}


async def test_the_end_of_a_log_is_read_and_a_log_that_is_gone_is_empty(shim: ShimClient, fake: FakeShim) -> None:
    fake.artifacts[DIGEST] = b"one\ntwo\nthree\n"

    assert await shim.log_tail("shop", DIGEST, lines=2) == "two\nthree\n"
    assert await shim.log_tail("shop", "sha256:none", lines=2) == ""


async def test_a_build_is_found_under_the_key_it_was_stored_under(shim: ShimClient) -> None:
    build = StoredBuild(artifact=Artifact(digest=DIGEST, size=1))

    await shim.put_build("shop", "key", build)

    assert await shim.get_build("shop", "key") == build
    assert await shim.get_build("shop", "other") is None


async def test_an_execution_is_submitted_and_read(shim: ShimClient) -> None:
    accepted = await shim.submit({"namespace": "shop", "function": "hello", "uid": "u1"})
    found = await shim.execution("shop", "u1")

    assert accepted is not None
    assert (accepted.id, accepted.status) == ("u1", ExecutionPhase.WAITING)
    assert found == accepted
    assert await shim.execution("shop", "u2") is None


async def test_a_summary_has_counts_and_the_ticks_asked_for(shim: ShimClient, fake: FakeShim) -> None:
    fake.counts = {"total": 3, "completed": 2, "failed": 1}
    fake.ticks = [{"scheduledAt": "2026-03-01T12:00:00Z", "createdAt": "2026-03-01T12:00:02.123Z"}]

    summary = await shim.summary("shop", "hello", uid="u", completed=3, failed=1, ticks_since=NOW)
    without = await shim.summary("shop", "hello", uid="u", completed=0, failed=0, ticks_since=None)

    assert summary is not None
    assert without is not None
    assert (summary.counts.total, summary.ticks[0].scheduled_at) == (3, NOW)
    assert without.ticks == []


async def test_the_feed_is_read_from_a_position(shim: ShimClient, fake: FakeShim) -> None:
    fake.report("shop", "hello", "e1", origin="api", phase="completed")

    assert (await shim.changes(-1, wait=1)).changes == []
    page = await shim.changes(0, wait=1)

    assert (page.next, page.changes[0].execution) == (1, "e1")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RejectedError),
        (401, ForbiddenError),
        (403, ForbiddenError),
        (409, RejectedError),
        (413, RejectedError),
        (422, RejectedError),
        (429, TransientError),
        (500, TransientError),
        (503, TransientError),
    ],
)
async def test_a_bad_answer_becomes_the_error_that_says_what_to_do(
    shim: ShimClient, fake: FakeShim, status: int, error: type[AppfnError]
) -> None:
    fake.broken = status

    with pytest.raises(error, match="broken on purpose"):
        await shim.submit({"uid": "u1", "data": "secret payload"})


async def test_the_pause_the_shim_asks_for_is_passed_on(shim: ShimClient, fake: FakeShim) -> None:
    fake.broken, fake.retry_after = 429, "7"

    with pytest.raises(TransientError) as caught:
        await shim.execution("shop", "u1")

    assert caught.value.retry_after == 7


CALLS: list[Callable[[ShimClient], Awaitable[object]]] = [
    lambda shim: shim.execution("shop", "u"),
    lambda shim: shim.changes(-1, wait=1),
    lambda shim: shim.put_artifact("shop", b"", digest="d"),
]


@pytest.mark.parametrize("call", CALLS)
async def test_a_shim_that_cannot_be_reached_is_a_matter_of_time(
    call: Callable[[ShimClient], Awaitable[object]], clock: Clock, token_file: Path
) -> None:
    async with connect("http://127.0.0.1:1", token_path=token_file, clock=clock) as shim:
        with pytest.raises(TransientError, match="cannot be reached"):
            await call(shim)


async def test_a_missing_token_is_a_matter_of_time(fake: FakeShim, clock: Clock, tmp_path: Path) -> None:
    async with fake.serve() as url, connect(url, token_path=tmp_path / "none", clock=clock) as shim:
        with pytest.raises(TransientError):
            await shim.execution("shop", "u")


async def test_a_renewed_token_is_used_after_a_minute(shim: ShimClient, clock: Clock, token_file: Path) -> None:
    write(token_file, "expired")
    with pytest.raises(ForbiddenError):
        await shim.execution("shop", "u")
    write(token_file, TOKEN)
    with pytest.raises(ForbiddenError):
        await shim.execution("shop", "u")

    clock.seconds += TOKEN_SECONDS

    assert await shim.execution("shop", "u") is None


async def test_an_answer_of_another_version_is_a_matter_of_time(shim: ShimClient, fake: FakeShim) -> None:
    fake.executions["u"] = {"something": "else"}

    with pytest.raises(TransientError, match="another version"):
        await shim.execution("shop", "u")
