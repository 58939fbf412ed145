"""Appwrite's limit: windows, subjects, and whose word on an address is taken."""

import tracemalloc
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from appfn.errors import ConfigError
from appfn.shim.auth.identity import Caller, Guest, KeyCaller, UserCaller, UserClaims
from appfn.shim.callee import Project
from appfn.shim.client_address import Proxies
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.rate_limit import LIMITS, RateLimit, Windows

SHOP, OTHER = Project("Shop", "shop"), Project("Other", "other")
KEY = KeyCaller(subject="key:1", label="", scopes=frozenset())


def user(id_: str) -> UserCaller:
    return UserCaller.of(UserClaims(user_id=id_), "")


class Request(dict[Any, Any]):
    """As much of a request as is looked at."""

    def __init__(self, remote: str = "192.0.2.1", **headers: str) -> None:
        super().__init__()
        self.remote = remote
        self.headers = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
        self.transport = None


@dataclass
class Gate:
    limit: int = 2
    proxies: str = ""
    seconds: float = 1_000_020.0
    made: RateLimit = field(init=False)

    def __post_init__(self) -> None:
        self.made = RateLimit(limit=self.limit, proxies=Proxies.parse(self.proxies), now=lambda: self.seconds)

    def passes(self, caller: Caller, *, project: Project = SHOP, what: str = "executions", **request: str) -> bool:
        asked = Request(**request)
        try:
            self.made.count(cast("web.Request", asked), project, caller, what=what)
        except AppwriteError as error:
            refused = error
        else:
            return True
        assert refused.problem is Problem.RATE_LIMIT_EXCEEDED
        assert refused.retry_after is not None
        assert 1 <= refused.retry_after <= 60
        assert asked[LIMITS]["X-RateLimit-Remaining"] == "0"
        return False


def test_a_window_lets_as_many_through_as_its_limit_and_the_next_begins_anew() -> None:
    windows = Windows(60)

    first = [windows.take("ada", 120.0 + second) for second in range(60)]

    assert [taken.remaining for taken in first] == list(range(59, -1, -1))
    assert {taken.reset for taken in first} == {180}
    assert all(taken.allowed for taken in first)
    refused = windows.take("ada", 179.9)
    assert (refused.allowed, refused.remaining, refused.reset) == (False, 0, 180)
    assert windows.take("eve", 179.9).allowed
    assert windows.take("ada", 180.0).remaining == 59


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 300)), max_size=200))
def test_nobody_ever_gets_more_than_the_limit_in_a_window(asks: list[tuple[str, int]]) -> None:
    windows, passed = Windows(3), dict[tuple[str, int], int]()
    for subject, second in sorted(asks, key=lambda ask: ask[1]):
        taken = windows.take(subject, float(second))
        at = subject, second // 60
        assert taken.allowed == (passed.get(at, 0) < 3)
        passed[at] = passed.get(at, 0) + taken.allowed


def test_a_flood_of_subjects_takes_bounded_memory() -> None:
    windows = Windows(1, size=1000)
    tracemalloc.start()
    try:
        for number in range(50_000):
            windows.take(("shop", str(number), ""), 0.0)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


def test_guests_are_told_apart_by_address_and_users_by_both() -> None:
    gate = Gate(limit=1)

    assert gate.passes(Guest())
    assert not gate.passes(Guest())
    assert gate.passes(Guest(), remote="192.0.2.2")
    assert gate.passes(user("ada"))
    assert not gate.passes(user("ada"))
    assert gate.passes(user("eve"))
    assert gate.passes(user("ada"), remote="192.0.2.2")
    assert gate.passes(Guest(), project=OTHER)
    assert gate.passes(Guest(), what="graphql")
    gate.seconds += 60
    assert gate.passes(Guest())


def test_keys_are_told_the_limit_and_have_none() -> None:
    gate, request = Gate(limit=2), Request()

    for _ in range(10):
        assert gate.passes(KEY)
    gate.made.count(cast("web.Request", request), SHOP, KEY)

    assert request[LIMITS] == {
        "X-RateLimit-Limit": "2",
        "X-RateLimit-Remaining": "2",
        "X-RateLimit-Reset": "1000080",
    }


def test_of_two_limits_on_one_request_the_narrower_is_told() -> None:
    gate, request = Gate(limit=5), Request()
    assert gate.passes(Guest())
    gate.made.count(cast("web.Request", request), SHOP, Guest())  # 3 left
    gate.made.count(cast("web.Request", request), SHOP, Guest(), what="graphql")  # 4 left

    assert request[LIMITS]["X-RateLimit-Remaining"] == "3"


def test_without_a_limit_nothing_is_counted_or_told() -> None:
    gate, request = Gate(limit=0), Request()

    assert all(gate.passes(Guest()) for _ in range(100))
    gate.made.count(cast("web.Request", request), SHOP, Guest())
    assert LIMITS not in request


@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "client"),
    [
        ("", "192.0.2.1", "", "192.0.2.1"),
        ("", "192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.0/8", "192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.0/8", "10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.0/8", "10.0.0.1", "1.1.1.1, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.0/8", "10.0.0.1", "198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.0/8", "10.0.0.1", "1.1.1.1,198.51.100.7 ,10.0.0.2", "198.51.100.7"),
        ("10.0.0.0/8", "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.0/8", "10.0.0.1", "198.51.100.7, unknown", "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
        ("10.0.0.0/8", "::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.0/8, fd00::/8", "fd00::1", "[2001:db8::1]:443", "2001:db8::"),
        ("10.0.0.0/8", "10.0.0.1", "1.1.1.1," + "10.0.0.2," * 3000 + "10.0.0.3", "10.0.0.2"),
        ("", "2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::"),
        ("", "fe80::1%eth0", "", "fe80::"),
        ("", "", "", ""),
    ],
)
def test_an_address_is_believed_as_far_as_proxies_are_trusted(
    proxies: str, peer: str, forwarded: str, client: str
) -> None:
    assert Proxies.parse(proxies).client(peer, forwarded) == client


@given(st.text(max_size=50), st.text(max_size=200))
def test_no_header_breaks_the_reader(peer: str, forwarded: str) -> None:
    Proxies.parse("10.0.0.0/8").client(peer, forwarded)
    Proxies.parse("0.0.0.0/0,::/0").client("10.0.0.1", forwarded)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "ingress", "10.0.0.0/8;fd00::/8"])
def test_what_is_no_network_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="APPFN_TRUSTED_PROXIES"):
        Proxies.parse(text)
