"""Tokens of ours: what they say, for how long, and everything that is no such token."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfn.kube.protocols import Reader
from appfn.shim.auth import user_token
from appfn.shim.auth.identity import UserClaims
from appfn.shim.auth.issuers import Issuers
from appfn.shim.auth.users import Users
from appfn.shim.callee import Project
from appfn.shim.errors import AppwriteError, Problem

MASTER = b"m" * 32
SHOP, OTHER = Project("Shop", "shop"), Project("Other", "other")
ADA = UserClaims(user_id="ada", verified=True, teams=("staff/owner",), memberships=("m1",))


def key(project: Project = SHOP) -> bytes:
    return user_token.signing_key(MASTER, project)


def token(claims: UserClaims = ADA, *, project: Project = SHOP, ago: float = 0) -> str:
    return user_token.sign(claims, project=project, key=key(project), now=datetime.now(UTC) - timedelta(seconds=ago))


def forged(claims: Any, *, algorithm: str = "HS256", with_key: bytes | None = None, **header: Any) -> str:
    return jwt.encode(claims, with_key or key(), algorithm=algorithm, headers=header)


def raw(header: str, claims: str, signature: str = "c2ln") -> str:
    parts = (base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in (header, claims))
    return ".".join((*parts, signature))


def said(**changes: Any) -> dict[str, Any]:
    now = int(datetime.now(UTC).timestamp())
    return {"userId": "ada", "projectId": "Shop", "iat": now, "exp": now + 60} | changes


def without(name: str) -> dict[str, Any]:
    return {each: value for each, value in said().items() if each != name}


class Nowhere:
    async def get(self, *_: object) -> None:
        return None


def no_issuers() -> Issuers:
    return Issuers(cast("Reader", Nowhere()), Nowhere(), cache_seconds=1, monotonic=lambda: 0.0)


def users() -> Users:
    return Users(
        no_issuers(), master_key=MASTER, cache_seconds=30, now=lambda: datetime.now(UTC), monotonic=lambda: 0.0
    )


def reason(text: str, project: Project = SHOP) -> str:
    with pytest.raises(AppwriteError) as caught:
        user_token.verify(text, project=project, key=key(project))
    assert caught.value.problem is Problem.JWT_INVALID
    return caught.value.message.removeprefix("Failed to verify JWT. ")


def test_a_token_says_who_its_user_is_and_until_when() -> None:
    claims, until = user_token.verify(token(), project=SHOP, key=key())

    assert claims == ADA
    assert 900 < until - datetime.now(UTC).timestamp() <= 910


def test_clocks_may_be_ten_seconds_apart() -> None:
    assert user_token.verify(token(ago=905), project=SHOP, key=key())
    assert reason(token(ago=915)) == "Invalid token: Expired"
    assert user_token.verify(token(ago=-5), project=SHOP, key=key())
    assert reason(token(ago=-60)) == "Invalid token: Not now"


def test_a_token_of_another_project_is_not_taken() -> None:
    assert reason(token(project=OTHER)) == "Invalid token: Signature failed"
    assert reason(forged(said(projectId="Other"))) == "Invalid token: Audience"


def test_a_namespace_that_comes_by_the_id_of_another_has_another_key() -> None:
    assert key(Project("Shop", "thief")) != key()


HOSTILE: dict[str, Callable[[], str]] = {
    "nothing": lambda: "",
    "one part": lambda: "x",
    "no base64": lambda: "a.b.c",
    "empty parts": lambda: "..",
    "four parts": lambda: "a.b.c.d",
    "not ascii": lambda: "é.é.é",
    "empty objects": lambda: "e30.e30.e30",
    "lists": lambda: raw("[]", "[]"),
    "alg none": lambda: raw('{"alg":"none"}', json.dumps(said()), ""),
    "alg None": lambda: raw('{"alg":"None"}', json.dumps(said())),
    "alg null": lambda: raw('{"alg":null}', json.dumps(said())),
    "alg list": lambda: raw('{"alg":["HS256"]}', json.dumps(said())),
    "made-up signature": lambda: raw('{"alg":"HS256"}', json.dumps(said())),
    "unknown crit": lambda: raw('{"alg":"HS256","crit":["x"],"x":1}', json.dumps(said())),
    "deep header": lambda: raw("[" * 1500, "{}"),
    "deep claims": lambda: raw('{"alg":"HS256"}', "[" * 1500),
    "long number": lambda: raw('{"alg":"HS256"}', "9" * 5000),
    "another key": lambda: forged(said(), with_key=b"k" * 32),
    "another algorithm": lambda: forged(said(), algorithm="HS512", with_key=key() * 2),
    "future nbf": lambda: forged(said(nbf=int(datetime.now(UTC).timestamp()) + 3600)),
    "old": lambda: forged(said(exp=1)),
    "exp a word": lambda: forged(said(exp="never")),
    "exp infinite": lambda: forged(said(exp=float("inf"))),
    "exp null": lambda: forged(said(exp=None)),
    "user null": lambda: forged(said(userId=None)),
    "user empty": lambda: forged(said(userId="")),
    "user a number": lambda: forged(said(userId=7)),
    "user too long": lambda: forged(said(userId="a" * 121)),
    "user a permission": lambda: forged(said(userId='ada") read("user:eve')),
    "user a role": lambda: forged(said(userId="ada/verified")),
    "no exp": lambda: forged(without("exp")),
    "no user": lambda: forged(without("userId")),
    "no project": lambda: forged(without("projectId")),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_whatever_else_comes_is_refused_in_appwrites_words(name: str) -> None:
    text = HOSTILE[name]()
    assert reason(text).startswith("Invalid token: ")
    with pytest.raises(AppwriteError):
        await users().caller(text, SHOP)


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(AppwriteError):
        user_token.verify(text, project=SHOP, key=key())
    with pytest.raises(AppwriteError):
        user_token.peek(text)


async def test_a_huge_token_is_not_even_looked_at() -> None:
    with pytest.raises(AppwriteError):
        await users().caller(forged(said(x="x" * 9000)), SHOP)


async def test_a_refusal_repeats_nothing_of_the_token() -> None:
    with pytest.raises(AppwriteError) as caught:
        await users().caller(raw('{"alg":"secret-alg"}', json.dumps(said(exp="secret-exp"))), SHOP)

    assert "secret" not in caught.value.message


async def test_a_token_is_believed_no_longer_than_it_holds() -> None:
    clock = {"seconds": 0.0}
    start = datetime.now(UTC)
    desk = Users(
        no_issuers(),
        master_key=MASTER,
        cache_seconds=3600,
        now=lambda: start + timedelta(seconds=clock["seconds"]),
        monotonic=lambda: clock["seconds"],
    )
    text = user_token.sign(ADA, project=SHOP, key=key(), now=start - timedelta(seconds=890))
    assert await desk.caller(text, SHOP)
    address = next(iter(desk._known))

    assert desk._known[address][1] == pytest.approx(20, abs=1)


async def test_what_a_function_gets_is_a_token_of_the_same_user() -> None:
    desk = users()
    caller = await desk.caller(token(), SHOP)
    assert caller is not None

    again = await desk.caller(desk.token(SHOP, caller.user_claims), SHOP)

    assert again == caller
    assert caller.permissions == ('read("user:ada")',)


async def test_a_token_that_names_an_issuer_is_not_ours() -> None:
    assert await users().caller(forged(said(iss="https://example.com")), SHOP) is None
