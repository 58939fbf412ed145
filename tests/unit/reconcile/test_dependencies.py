"""What the controllers are given."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from appfn.api.base import Json
from appfn.api.kinds import DEPLOYMENT, EXECUTION, FUNCTION, NAMESPACE, RUNTIME, Key, Kind
from appfn.config import load
from appfn.kube.protocols import Cluster
from appfn.reconcile.dependencies import Dependencies, Seen, Written
from appfn.reconcile.shim_client import Shim

SHOP = Key("", "shop")


def test_of_each_kind_the_newest_version_counts_in_whatever_order_they_are_told() -> None:
    seen = Seen()
    assert seen.version(DEPLOYMENT) == ""
    for version in ("9", "10", "8", "opaque", ""):
        seen.note(DEPLOYMENT, version)
    assert seen.version(DEPLOYMENT) == "10"
    assert seen.version(FUNCTION) == ""


def test_a_version_is_covered_by_one_of_its_kind_that_is_no_older() -> None:
    seen = Seen()
    seen.note(DEPLOYMENT, "10")
    assert [seen.covers(DEPLOYMENT, version) for version in ("9", "10", "11", "opaque")] == [True, True, False, False]
    assert not seen.covers(FUNCTION, "9")


def test_a_version_that_was_written_is_told_once_and_of_its_kind_alone() -> None:
    written = Written()
    written.note(FUNCTION, "9")
    assert not written.told(DEPLOYMENT, "9")
    assert [written.told(FUNCTION, version) for version in ("8", "9", "9")] == [False, True, False]


def test_of_an_execution_a_version_that_was_written_is_news_as_it_may_have_been_asked_to_run_again() -> None:
    written = Written()
    written.note(EXECUTION, "9")
    assert not written.told(EXECUTION, "9")


def test_of_versions_that_no_watch_ever_tells_of_the_newest_are_kept() -> None:
    written = Written(limit=2)
    for version in ("1", "2", "3"):
        written.note(FUNCTION, version)
    assert [written.told(FUNCTION, version) for version in ("1", "2", "3")] == [False, True, True]


@dataclass
class Reading:
    """An API server that counts what it is asked for, and its clock."""

    time: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    asked: list[str] = field(default_factory=list)

    async def get(self, kind: Kind, key: Key) -> Json | None:
        self.asked.append(kind.name)
        return {"read": len(self.asked), "name": key.name}


@pytest.fixture
def server() -> Reading:
    return Reading()


@pytest.fixture
def deps(server: Reading) -> Dependencies:
    return Dependencies(
        cluster=cast("Cluster", server),
        shim=cast("Shim", None),
        config=load({"APPFN_IMAGE": "appfn"}),
        now=lambda: server.time,
        mark=lambda *_, **__: None,
    )


async def test_what_seldom_changes_is_read_once_between_two_events_of_its_kind(
    deps: Dependencies, server: Reading
) -> None:
    deps.seen.note(NAMESPACE, "7")
    first = [await deps.recall.get(deps, NAMESPACE, SHOP) for _ in range(3)]
    deps.seen.note(RUNTIME, "8")
    assert await deps.recall.get(deps, NAMESPACE, SHOP) == first[0]
    assert server.asked == ["Namespace"]

    deps.seen.note(NAMESPACE, "9")

    assert await deps.recall.get(deps, NAMESPACE, SHOP) == {"read": 2, "name": "shop"}


async def test_what_no_watch_tells_of_is_read_each_time(deps: Dependencies, server: Reading) -> None:
    for _ in range(2):
        await deps.recall.get(deps, NAMESPACE, SHOP)
    assert len(server.asked) == 2


async def test_an_event_that_never_comes_is_made_up_for_in_half_a_minute(deps: Dependencies, server: Reading) -> None:
    deps.seen.note(NAMESPACE, "7")
    for seconds in (0, 29, 30):
        server.time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        await deps.recall.get(deps, NAMESPACE, SHOP)
    assert len(server.asked) == 2
