"""Tokens of issuers: whom a project may trust, which keys count, and what a claim makes of a user."""

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from appfn.api.base import Json
from appfn.errors import InvalidSpecError
from appfn.shim.auth import oidc
from appfn.shim.auth.identity import UserClaims
from appfn.shim.auth.oidc import Issuer
from appfn.shim.errors import AppwriteError, Problem
from support.oidc_issuer import AUDIENCE, SigningKey, claims

URL = "https://login.example.com"
ISSUER = Issuer(issuer=URL, audience=[AUDIENCE], teams_claim="groups", memberships_claim="memberships")
KEYS = {name: SigningKey(name, name) for name in ("RS256", "ES256", "EdDSA", "PS512")}
RSA = KEYS["RS256"]


def said(token: str, key: Json | None = None, issuer: Issuer = ISSUER) -> UserClaims:
    return oidc.verify(token, issuer=issuer, keys=[key or RSA.public])[0]


def token(**changes: Any) -> str:
    return RSA.sign(claims(URL, **changes))


def now() -> int:
    return int(datetime.now(UTC).timestamp())


@pytest.mark.parametrize("name", KEYS)
def test_a_token_signed_with_the_issuers_key_says_who_its_user_is(name: str) -> None:
    key = KEYS[name]

    assert said(key.sign(claims(URL)), key.public) == UserClaims(user_id="ada")
    assert said(key.sign(claims(URL)), key.public | {"alg": name}) == UserClaims(user_id="ada")


@pytest.mark.parametrize(
    ("issuer", "given", "user"),
    [
        ({}, {"sub": "ada"}, UserClaims(user_id="ada")),
        ({}, {"sub": "auth0|5f7c"}, UserClaims(user_id="auth0_7c5f7c")),
        ({}, {"sub": "a_b"}, UserClaims(user_id="a_5fb")),
        ({}, {"sub": "é"}, UserClaims(user_id="_c3_a9")),
        ({"userPrefix": "google-"}, {"sub": "108"}, UserClaims(user_id="google-108")),
        ({"userClaim": "oid"}, {"oid": "7", "sub": "x"}, UserClaims(user_id="7")),
        ({"userClaim": "user.id"}, {"user": {"id": "7"}}, UserClaims(user_id="7")),
        ({"userClaim": "https://x.org/id"}, {"https://x.org/id": "7"}, UserClaims(user_id="7")),
        ({}, {"email_verified": True}, UserClaims(user_id="ada", verified=True)),
        ({}, {"email_verified": "true"}, UserClaims(user_id="ada", verified=True)),
        ({}, {"email_verified": "false"}, UserClaims(user_id="ada")),
        ({}, {"email_verified": 1}, UserClaims(user_id="ada", verified=True)),
        ({"verifiedClaim": "ok"}, {"email_verified": True}, UserClaims(user_id="ada")),
        ({}, {"groups": ["staff"]}, UserClaims(user_id="ada")),
        (
            {"teamsClaim": "groups"},
            {"groups": ["staff", "ops/lead"]},
            UserClaims(user_id="ada", teams=("staff", "ops/lead")),
        ),
        ({"teamsClaim": "groups"}, {"groups": "staff"}, UserClaims(user_id="ada", teams=("staff",))),
        (
            {"teamsClaim": "groups"},
            {"groups": ["/staff/dev", "/ops"]},
            UserClaims(user_id="ada", teams=("staff/dev", "ops")),
        ),
        (
            {"teamsClaim": "groups"},
            {"groups": ["a b", 7, None, {"x": 1}, "ok"]},
            UserClaims(user_id="ada", teams=("ok",)),
        ),
        ({"teamsClaim": "groups"}, {"groups": {"staff": 1}}, UserClaims(user_id="ada")),
        (
            {"teamsClaim": "realm_access.roles"},
            {"realm_access": {"roles": ["a"]}},
            UserClaims(user_id="ada", teams=("a",)),
        ),
        ({"teamsClaim": "realm_access.roles"}, {"realm_access": "x"}, UserClaims(user_id="ada")),
        ({"membershipsClaim": "m"}, {"m": ["m1", "/"]}, UserClaims(user_id="ada", memberships=("m1",))),
    ],
)
def test_claims_become_a_user(issuer: Json, given: Json, user: UserClaims) -> None:
    trusted = Issuer.model_validate({"issuer": URL, "audience": AUDIENCE, **issuer})

    assert said(token(**given), issuer=trusted) == user


@given(st.text(max_size=40), st.text(max_size=40))
def test_two_users_never_have_one_id(one: str, other: str) -> None:
    if one != other and one.isprintable() and other.isprintable():
        assert oidc.user_id(ISSUER, one) != oidc.user_id(ISSUER, other)


def unsigned(header: Json) -> str:
    signed = token().split(".")
    return ".".join((jwt.utils.base64url_encode(json.dumps(header).encode()).decode(), signed[1], ""))


def confused() -> str:
    """Return a token with a signature that everybody can make who takes the public key for a shared secret."""
    header, body, _ = unsigned({"alg": "HS256", "kid": RSA.kid}).split(".")
    secret = jwt.PyJWK(RSA.public).key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signature = hmac.new(secret, f"{header}.{body}".encode(), hashlib.sha256).digest()
    return f"{header}.{body}.{jwt.utils.base64url_encode(signature).decode()}"


def changed(text: str) -> str:
    header, _, signature = text.split(".")
    other = jwt.utils.base64url_encode(json.dumps(claims(URL, sub="eve")).encode()).decode()
    return f"{header}.{other}.{signature}"


HOSTILE: dict[str, Callable[[], str]] = {
    "expired": lambda: token(exp=now() - 60),
    "not yet": lambda: token(nbf=now() + 3600),
    "of the future": lambda: token(iat=now() + 3600),
    "no exp": lambda: token(exp=None),
    "no audience": lambda: token(aud=None),
    "another audience": lambda: token(aud="other"),
    "other audiences": lambda: token(aud=["other", "another"]),
    "another issuer": lambda: token(iss="https://evil.example.com"),
    "no user": lambda: token(sub=None),
    "an empty user": lambda: token(sub=""),
    "a long user": lambda: token(sub="a" * 200),
    "another key": lambda: SigningKey("RS256").sign(claims(URL)),
    "none": lambda: unsigned({"alg": "none"}),
    "the public key as a secret": confused,
    "an algorithm of another kind of key": lambda: KEYS["ES256"].sign(claims(URL)),
    "an unknown algorithm": lambda: unsigned({"alg": "RS1"}),
    "a key of its own": lambda: SigningKey("x").sign(claims(URL), jwk=SigningKey("x").public),
    "a place for keys of its own": lambda: SigningKey("x").sign(claims(URL), jku="https://evil.example.com/keys"),
    "no signature": lambda: token().rpartition(".")[0] + ".",
    "a changed part": lambda: changed(token()),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_any_other_token_is_refused(name: str) -> None:
    with pytest.raises(AppwriteError) as caught:
        said(HOSTILE[name]())

    assert caught.value.problem is Problem.JWT_INVALID
    assert caught.value.message.startswith("Failed to verify JWT. Invalid token: ")


def test_a_key_is_used_for_the_algorithm_it_names_alone() -> None:
    with pytest.raises(AppwriteError):
        said(token(), RSA.public | {"alg": "RS512"})


def test_a_weak_key_counts_for_nothing() -> None:
    weak = SigningKey("weak", bits=1024)

    with pytest.raises(AppwriteError), pytest.warns(match="below"):
        said(weak.sign(claims(URL)), weak.public)


def test_of_a_key_set_only_public_keys_for_signatures_are_taken() -> None:
    document = {
        "keys": [
            RSA.public,
            RSA.public | {"use": "enc"},
            {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
            {"kid": "nothing"},
            "text",
            RSA.public | {"n": "A" * 5000},
            RSA.public | {"e": "A" * 500},
        ]
    }

    assert oidc.keys_of(document) == (RSA.public,)
    assert len(oidc.keys_of({"keys": [RSA.public] * 1000})) == oidc.MAX_KEYS


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, "keys", 7])
def test_what_is_no_key_set_is_told(document: object) -> None:
    with pytest.raises(InvalidSpecError):
        oidc.keys_of(document)


def test_the_key_is_the_one_that_the_token_names() -> None:
    one, two = RSA.public, KEYS["ES256"].public

    assert oidc.chosen((one, two), "ES256") == (two,)
    assert oidc.chosen((one, two), "other") == ()
    assert oidc.chosen((one, two), ["ES256"]) == ()
    assert oidc.chosen((one, two), None) == ()
    assert oidc.chosen((one,), None) == (one,)


def test_a_configuration_names_issuers() -> None:
    text = f"""
    - issuer: {URL}
      audience: shop
      userPrefix: a-
    - issuer: https://other.example.com/realms/x
      audience: [shop, admin]
      jwksUri: https://other.example.com/keys
      userPrefix: b-
      teamsClaim: groups
    """

    one, two = oidc.parse(text)

    assert (one.issuer, one.audience, one.user_claim) == (URL, ["shop"], "sub")
    assert (two.jwks_uri, two.audience, two.teams_claim) == (
        "https://other.example.com/keys",
        ["shop", "admin"],
        "groups",
    )
    assert oidc.parse("") == ()


def listed(*issuers: Json) -> str:
    return json.dumps([{"issuer": URL, "audience": "shop"} | issuer for issuer in issuers])


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{", "issuers"),
        ("issuer: x", "issuers"),
        ("- x", "issuers[0]"),
        ("[" * 20_000, "issuers"),
        ("a" * 70_000, "issuers"),
        ("- !!python/object/apply:os.system [id]", "issuers"),
        (f"- issuer: {URL}", "issuers[0].audience"),
        (listed({"audience": []}), "issuers[0].audience"),
        (listed({"audience": ""}), "issuers[0]"),
        (listed({"issuer": "login.example.com"}), "issuers[0].issuer"),
        (listed({"issuer": "file:///etc/passwd"}), "issuers[0].issuer"),
        (listed({"issuer": "https://u:p@example.com"}), "issuers[0].issuer"),
        (listed({"issuer": "https://example.com?x=1"}), "issuers[0].issuer"),
        (listed({"issuer": "https://example.com/a b"}), "issuers[0].issuer"),
        (listed({"issuer": "https://example.com:port"}), "issuers[0].issuer"),
        (listed({"jwksUri": "gopher://example.com"}), "issuers[0].jwksUri"),
        (listed({"userPrefix": "a_"}), "issuers[0].userPrefix"),
        (listed({"jwks_url": "https://example.com"}), "issuers[0].jwks_url"),
        (listed({}, {}), "issuers[1].issuer"),
        (listed({}, {"issuer": "https://b.org", "userPrefix": "b"}), "issuers[1].userPrefix"),
        (listed({"userPrefix": "ab"}, {"issuer": "https://b.org", "userPrefix": "a"}), "issuers[1].userPrefix"),
        (listed(*({"issuer": f"https://x{n}.org", "userPrefix": f"x{n}-"} for n in range(9))), "issuers"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, path: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        oidc.parse(text)

    assert caught.value.path == path
