"""The small parts of the operator's process."""

import asyncio

import pytest

from appfn.api.base import Json
from appfn.api.kinds import FUNCTION, RUNTIME, Key, Kind
from appfn.errors import TransientError
from appfn.handlers.run import PartEndedError, _endless, _leaves, _served, main
from support.clock import on_virtual_clock


class NotYet:
    """An API server that serves a kind from a time on; counts the questions."""

    def __init__(self, serves_at: float) -> None:
        self.asked: list[Kind] = []
        self._serves_at = serves_at

    async def get(self, kind: Kind, key: Key) -> Json | None:
        raise AssertionError((kind, key))

    async def list(
        self, kind: Kind, *, namespace: str = "", labels: str = "", fields: str = "", since: str = ""
    ) -> list[Json]:
        assert (namespace, labels, fields) == ("system", "", "")
        self.asked.append(kind)
        if asyncio.get_running_loop().time() < self._serves_at:
            raise TransientError("not found")
        return []


@on_virtual_clock
async def test_it_waits_for_the_resource_definitions() -> None:
    cluster = NotYet(serves_at=30)
    await _served(cluster, "system")
    assert 30 <= asyncio.get_running_loop().time() <= 36
    assert cluster.asked[0] == FUNCTION
    assert cluster.asked[-1] == RUNTIME


@on_virtual_clock
async def test_it_does_not_wait_for_what_is_there() -> None:
    cluster = NotYet(serves_at=0)
    await _served(cluster, "system")
    assert asyncio.get_running_loop().time() == 0
    assert len(cluster.asked) == 4


async def test_a_part_that_fails_is_named() -> None:
    async def fail() -> None:
        raise ValueError("a bug")

    with pytest.raises(PartEndedError, match="feeds failed: ValueError: a bug"):
        await _endless("feeds", fail())


async def test_a_part_that_ends_is_named_too() -> None:
    async def end() -> None:
        pass

    with pytest.raises(PartEndedError, match="kopf ended by itself"):
        await _endless("kopf", end())


def test_every_error_of_nested_groups_is_reported() -> None:
    first, second, third = ValueError("1"), ValueError("2"), ValueError("3")
    nested = ExceptionGroup("outer", [first, ExceptionGroup("inner", [second, third])])
    assert _leaves(nested) == [first, second, third]
    assert _leaves(None) == []


def test_it_takes_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 2
    assert "usage" in capsys.readouterr().err
