import asyncio
from collections.abc import Callable

import pytest

from appfn.errors import TransientError
from appfn.shim.cache import Freshness, TtlCache
from support.polling import eventually


class Source:
    """Answers with how often it was asked; holds its answers back while `gate` is shut."""

    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.asked += 1
        answer = self.asked
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return answer


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def cache_of(clock: Callable[[], float], *, size: int = 10, **freshness: float) -> TtlCache[str, int]:
    return TtlCache(Freshness(**({"fresh": 10.0} | freshness)), size=size, monotonic=clock)


async def asked(source: Source, times: int) -> None:
    async def probe() -> bool:
        return source.asked == times

    await eventually(probe)


async def test_a_fresh_value_is_used_and_an_old_one_loaded_again(clock: Clock) -> None:
    cache, source = cache_of(clock), Source()

    answers = []
    for at in (0, 10, 11, 21, 22):
        clock.seconds = at
        answers.append(await cache.get("k", source))

    assert answers == [1, 1, 2, 2, 3]


async def test_many_who_ask_at_once_share_one_load(clock: Clock) -> None:
    cache, source = cache_of(clock), Source()

    assert await asyncio.gather(*(cache.get("k", source) for _ in range(20))) == [1] * 20
    assert source.asked == 1


async def test_one_who_goes_away_does_not_fail_the_others(clock: Clock) -> None:
    cache, source = cache_of(clock), Source()
    source.gate.clear()
    first, second = (asyncio.create_task(cache.get("k", source)) for _ in range(2))
    await asked(source, 1)

    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    source.gate.set()

    assert await second == 1
    assert first.cancelled()


async def test_a_stale_value_is_used_at_once_while_a_new_one_is_loaded(clock: Clock) -> None:
    cache, source = cache_of(clock, stale=10.0), Source()
    await cache.get("k", source)
    source.gate.clear()
    clock.seconds = 11

    assert await asyncio.wait_for(cache.get("k", source), timeout=1) == 1
    await asked(source, 2)
    source.gate.set()

    async def replaced() -> bool:
        return await cache.get("k", source) == 2

    await eventually(replaced)


async def test_a_value_is_never_used_beyond_its_stale_time(clock: Clock) -> None:
    cache, source = cache_of(clock, stale=10.0), Source()
    await cache.get("k", source)
    clock.seconds = 21

    assert await cache.get("k", source) == 2


async def test_while_the_source_cannot_answer_the_last_value_is_used_for_a_time(clock: Clock) -> None:
    cache, source = cache_of(clock, error=100.0), Source()
    await cache.get("k", source)
    source.error = TransientError("down")

    clock.seconds = 100
    assert await cache.get("k", source) == 1
    clock.seconds = 101
    with pytest.raises(TransientError):
        await cache.get("k", source)


async def test_other_errors_are_told_and_never_kept(clock: Clock) -> None:
    cache, source = cache_of(clock, error=100.0), Source()
    source.error = ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await cache.get("k", source)
    source.error = None
    assert await cache.get("k", source) == 2


async def test_the_least_recently_used_is_given_up_first(clock: Clock) -> None:
    cache = cache_of(clock, size=2)
    sources = {name: Source() for name in "abc"}

    for name in "abacab":
        await cache.get(name, sources[name])

    assert {name: source.asked for name, source in sources.items()} == {"a": 1, "b": 2, "c": 1}


async def test_closing_ends_what_is_still_loading(clock: Clock) -> None:
    cache, source = cache_of(clock), Source()
    source.gate.clear()
    waiting: asyncio.Task[int] = asyncio.create_task(cache.get("k", source))
    await asked(source, 1)

    await cache.aclose()

    with pytest.raises(asyncio.CancelledError):
        await waiting
