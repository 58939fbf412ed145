"""How long a key is believed that was seen before."""

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from appfn.api.base import Json
from appfn.api.kinds import Key, Kind
from appfn.errors import TransientError
from appfn.shim.auth import api_key
from appfn.shim.auth.api_key import ApiKey
from appfn.shim.auth.authenticator import KEY_HEADER, AuthCluster, Authenticator
from appfn.shim.auth.identity import Guest, KeyCaller
from appfn.shim.auth.issuers import Issuers
from appfn.shim.auth.users import Users
from appfn.shim.callee import Project
from appfn.shim.errors import AppwriteError, Problem

START = datetime(2030, 1, 1, tzinfo=UTC)
SHOP = Project("Shop", "shop")
KEY, WRONG = ApiKey("0" * 16, "a" * 64), ApiKey("0" * 16, "b" * 64)
LIFETIME = 30.0


@dataclass(slots=True)
class Desk:
    """An authenticator, the one Secret it may find, and a clock."""

    secret: Json | None = None
    reads: int = 0
    away: bool = False
    seconds: float = 0.0
    authenticator: Authenticator = field(init=False)

    def __post_init__(self) -> None:
        users = Users(
            cast("Issuers", None),
            master_key=b"m" * 32,
            cache_seconds=LIFETIME,
            now=lambda: START + timedelta(seconds=self.seconds),
            monotonic=lambda: self.seconds,
        )
        self.authenticator = Authenticator(
            cast("AuthCluster", self),
            users=users,
            cache_seconds=LIFETIME,
            now=lambda: START + timedelta(seconds=self.seconds),
            monotonic=lambda: self.seconds,
        )
        self.hold(KEY)

    async def get(self, _kind: Kind, key: Key) -> Json | None:
        self.reads += 1
        if self.away:
            raise TransientError("away")
        return self.secret if key.namespace == SHOP.namespace else None

    def hold(self, key: ApiKey, *, expires: datetime | None = None) -> None:
        manifest = api_key.manifest(
            key, namespace="shop", name="test", scopes=frozenset({"executions.write"}), expires=expires
        )
        data = {name: base64.b64encode(text.encode()).decode() for name, text in manifest["stringData"].items()}
        self.secret = manifest | {"data": data}

    async def knows(self, key: ApiKey, project: Project = SHOP) -> bool:
        caller = await self.authenticator.caller({KEY_HEADER: key.text()}, project)
        assert isinstance(caller, KeyCaller | Guest)
        return isinstance(caller, KeyCaller)


async def test_a_key_that_was_verified_is_believed_without_asking() -> None:
    desk = Desk()

    assert [await desk.knows(KEY) for _ in range(5)] == [True] * 5
    assert desk.reads == 1


async def test_a_revoked_key_is_a_guest_after_the_lifetime_however_often_it_came_meanwhile() -> None:
    desk = Desk()
    for desk.seconds in (0, 10, 29, 30):
        assert await desk.knows(KEY)
        desk.secret = None

    desk.seconds = 31

    assert not await desk.knows(KEY)


async def test_a_key_is_believed_from_when_its_secret_was_read_not_from_when_it_was_compared() -> None:
    desk = Desk()
    assert not await desk.knows(WRONG)  # reads the Secret
    desk.seconds = 20
    assert await desk.knows(KEY)  # compared now
    desk.secret = None

    desk.seconds = 31

    assert not await desk.knows(KEY)


async def test_a_key_that_was_replaced_ends_with_the_lifetime_and_the_new_one_begins() -> None:
    desk = Desk()
    assert await desk.knows(KEY)
    desk.hold(WRONG)

    desk.seconds = 31

    assert not await desk.knows(KEY)
    assert await desk.knows(WRONG)


async def test_a_key_that_expires_within_the_lifetime_says_so_at_once() -> None:
    desk = Desk()
    desk.hold(KEY, expires=START + timedelta(seconds=10))
    assert await desk.knows(KEY)

    desk.seconds = 10

    with pytest.raises(AppwriteError) as caught:
        await desk.knows(KEY)
    assert caught.value.problem is Problem.PROJECT_KEY_EXPIRED


async def test_a_key_of_one_project_is_a_guest_in_another_that_sees_it_next() -> None:
    desk = Desk()
    assert await desk.knows(KEY)

    assert not await desk.knows(KEY, Project("Other", "other"))


async def test_a_wrong_key_beside_the_right_one_is_a_guest() -> None:
    desk = Desk()

    assert [await desk.knows(key) for key in (KEY, WRONG, KEY, WRONG)] == [True, False, True, False]


async def test_an_outage_does_not_extend_what_is_believed_without_asking() -> None:
    desk = Desk()
    assert await desk.knows(KEY)
    desk.away, desk.seconds = True, 31
    assert await desk.knows(KEY)  # the last that is known
    desk.away, desk.secret = False, None

    assert not await desk.knows(KEY)
