"""How often an issuer is asked, and what is believed meanwhile."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from appfn.api.base import Json
from appfn.api.kinds import Key, Kind
from appfn.errors import ForbiddenError, TransientError
from appfn.kube.protocols import Reader
from appfn.shim.auth.issuers import Issuers
from appfn.shim.auth.oidc import Issuer
from appfn.shim.callee import Project

ISSUER = Issuer(issuer="https://login.example.com", audience=["shop"], jwks_uri="https://login.example.com/keys")
SHOP = Project("Shop", "shop")


@dataclass
class World:
    """An issuer and an API server, and a clock."""

    kids: list[str] = field(default_factory=lambda: ["k1"])
    away: bool = False
    forbidden: bool = False
    configured: str = ""
    asked: int = 0
    seconds: float = 0.0
    issuers: Issuers = field(init=False)

    def __post_init__(self) -> None:
        self.issuers = Issuers(
            cast("Reader", Cluster(self)), Web(self), cache_seconds=30, monotonic=lambda: self.seconds
        )

    async def knows(self, kid: str) -> bool:
        return bool(await self.issuers.keys(ISSUER, kid))


@dataclass
class Web:
    world: World

    async def get(self, _url: str) -> Any:
        self.world.asked += 1
        if self.world.away:
            raise TransientError("away")
        return {"keys": [{"kty": "RSA", "kid": kid, "n": "AQAB", "e": "AQAB"} for kid in self.world.kids]}


@dataclass
class Cluster:
    world: World

    async def get(self, _kind: Kind, key: Key) -> Json | None:
        if self.world.forbidden:
            raise ForbiddenError("no")
        assert key == ("shop", "appfn-issuers")
        return {"data": {"issuers.yaml": self.world.configured}}


async def test_a_new_key_is_found_though_the_old_ones_are_still_fresh() -> None:
    world = World()
    assert await world.knows("k1")
    world.kids = ["k2"]

    world.seconds = 10

    assert await world.knows("k2")
    assert not await world.knows("k1")


async def test_an_issuer_is_asked_at_most_once_in_ten_seconds() -> None:
    world = World()
    for second in range(100):
        world.seconds = second / 10
        assert not await world.knows(f"made-up-{second}")
    assert world.asked == 1


async def test_an_outage_of_the_issuer_leaves_its_users_in() -> None:
    world = World()
    assert await world.knows("k1")
    world.away = True

    for world.seconds in (299, 601, 3500):
        assert await world.knows("k1")
    assert not await world.knows("new")
    assert await world.knows("k1")
    world.seconds = 3700
    with pytest.raises(TransientError):
        await world.knows("k1")


async def test_an_issuer_that_never_answered_is_not_asked_by_each_call() -> None:
    world = World(away=True)
    for _ in range(10):
        with pytest.raises(TransientError):
            await world.knows("k1")
    assert world.asked == 1

    world.away, world.seconds = False, 10

    assert await world.knows("k1")


async def test_a_project_is_asked_for_its_issuers_and_forgotten_ones_are_gone_with_the_lifetime() -> None:
    world = World(configured="- {issuer: 'https://login.example.com', audience: shop}")
    assert await world.issuers.find(SHOP, ISSUER.issuer)
    assert await world.issuers.find(SHOP, "https://other.example.com") is None
    names: list[object] = [None, 7, ["https://login.example.com"], {}]
    for name in names:
        assert await world.issuers.find(SHOP, name) is None
    world.configured = ""

    world.seconds = 31

    assert await world.issuers.find(SHOP, ISSUER.issuer) is None


async def test_a_namespace_that_lets_us_read_nothing_has_no_issuers() -> None:
    assert await World(forbidden=True).issuers.find(SHOP, ISSUER.issuer) is None
