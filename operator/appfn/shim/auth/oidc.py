"""Tokens of OpenID Connect issuers, pure: whom a project trusts, and what a token of theirs says of a user."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import jwt
import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from appfn.api.base import Json, Model
from appfn.errors import InvalidSpecError
from appfn.shim.auth import user_token
from appfn.shim.auth.identity import UserClaims, memberships_of, teams_of

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""No secret shared with an issuer is among them, and not `none`."""
MAX_ISSUERS = 8
MAX_KEYS = 64
MAX_CONFIGURATION = 65_536
"""Characters of the text that `parse` takes."""
_MAX_MODULUS, _MAX_EXPONENT = 1400, 8
"""Characters of an RSA key: 8192 bits, beyond which to verify takes milliseconds."""
_UNFIT = re.compile(r"[^A-Za-z0-9.-]")
_MAX_URL = 512
_URL = re.compile(r"[A-Za-z0-9:/?#\[\]@!$&'()*+,;=._~%-]+")


class Issuer(Model):
    """An issuer whose users are users of the project.

    Attributes:
        issuer: its URL, exactly as its tokens have it in `iss`.
        audience: who its tokens must be for: the client id of the application.
        jwks_uri: where its keys are; empty: as its discovery document says.
        user_claim: the claim with the user's id.
        teams_claim: the claim with the user's teams, each `team` or `team/role`.
        memberships_claim: the claim with the ids of memberships.
        verified_claim: the claim that says whether the user's address is verified.
        user_prefix: what its users' ids begin with, so that two issuers never name the same user.
    """

    model_config = ConfigDict(extra="forbid")

    issuer: str = Field(max_length=_MAX_URL)
    audience: list[str] = Field(min_length=1, max_length=8)
    jwks_uri: str = Field(default="", max_length=_MAX_URL)
    user_claim: str = "sub"
    teams_claim: str = ""
    memberships_claim: str = ""
    verified_claim: str = "email_verified"
    user_prefix: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9.-]{0,31})?$")

    @field_validator("audience", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("issuer", "jwks_uri")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if value and origin_of(value) is None:
            raise ValueError("must be the URL of a web server, without user, query and fragment")
        return value

    @model_validator(mode="after")
    def _has_audience(self) -> "Issuer":
        if not all(self.audience):
            raise ValueError("audience must not be empty")
        return self


_ISSUERS = TypeAdapter(list[Issuer])


def parse(text: str) -> tuple[Issuer, ...]:
    """Return the issuers of a configuration in YAML.

    Raises:
        InvalidSpecError: naming the first field that can't be used.
    """
    try:
        if len(text) > MAX_CONFIGURATION:
            raise InvalidSpecError("issuers", f"may have {MAX_CONFIGURATION} characters")
        found = _ISSUERS.validate_python(yaml.safe_load(text) or [])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise InvalidSpecError(f"issuers{path}", first["msg"]) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidSpecError("issuers", "is not YAML") from error
    if len(found) > MAX_ISSUERS:
        raise InvalidSpecError("issuers", f"may be {MAX_ISSUERS}")
    _refuse_overlap(found)
    return tuple(found)


def verify(token: str, *, issuer: Issuer, keys: Sequence[Json]) -> tuple[UserClaims, float]:
    """Return what a token says, and until when (Unix seconds, leeway included).

    Args:
        token: of that issuer, as it says itself.
        issuer: whose.
        keys: of the issuer that the token may have been signed with, as JWKs.

    Raises:
        AppwriteError: user_jwt_invalid.
    """
    try:
        algorithm = jwt.get_unverified_header(token)["alg"]
        if algorithm not in ALGORITHMS or len(keys) != 1:
            raise jwt.InvalidAlgorithmError
        claims = jwt.decode(
            token,
            jwt.PyJWK(keys[0], algorithm=keys[0].get("alg") or algorithm),
            algorithms=ALGORITHMS,
            audience=issuer.audience,
            issuer=issuer.issuer,
            leeway=user_token.LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
        )
        return _claims(claims, issuer), float(claims["exp"]) + user_token.LEEWAY_SECONDS
    except user_token.REFUSALS as error:
        raise user_token.refusal(error) from None


def keys_of(document: object) -> tuple[Json, ...]:
    """Return the keys for signatures of a key set; those are left out that no token can be verified with."""
    found = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise InvalidSpecError("keys", "is not a list")
    return tuple(key for key in found[:MAX_KEYS] if isinstance(key, dict) and _usable(key))


def chosen(keys: Sequence[Json], kid: object) -> tuple[Json, ...]:
    """Return the key of that id; where the token names none, the only one there is."""
    if kid is None:
        return tuple(keys) if len(keys) == 1 else ()
    return tuple(key for key in keys if key.get("kid") == kid)[:1]


def user_id(issuer: Issuer, text: str) -> str:
    """Return the id of a user: what Appwrite's ids can't hold is written as `_` and two hex digits of each byte."""
    return issuer.user_prefix + _UNFIT.sub(lambda match: "".join(f"_{byte:02x}" for byte in match[0].encode()), text)


def origin_of(url: str) -> str | None:
    """Return scheme, host and port of a web server's URL; None for any other."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not _URL.fullmatch(url):
        return None
    if "@" in parts.netloc or parts.query or parts.fragment:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


def _refuse_overlap(issuers: Sequence[Issuer]) -> None:
    for index, one in enumerate(issuers):
        for other in issuers[:index]:
            if one.issuer == other.issuer:
                raise InvalidSpecError(f"issuers[{index}].issuer", "is there twice")
            if one.user_prefix.startswith(other.user_prefix) or other.user_prefix.startswith(one.user_prefix):
                message = "must not begin as another issuer's: two issuers could name the same user"
                raise InvalidSpecError(f"issuers[{index}].userPrefix", message)


def _usable(key: Mapping[str, Any]) -> bool:
    if key.get("kty") not in {"RSA", "EC", "OKP"} or key.get("use", "sig") != "sig":
        return False
    return len(str(key.get("n", ""))) <= _MAX_MODULUS and len(str(key.get("e", ""))) <= _MAX_EXPONENT


def _claims(claims: Json, issuer: Issuer) -> UserClaims:
    given = _claim(claims, issuer.user_claim)
    id_ = user_id(issuer, given) if isinstance(given, str) and given else ""
    if not user_token.is_user_id(id_):
        raise jwt.MissingRequiredClaimError(issuer.user_claim)
    return UserClaims(
        user_id=id_,
        verified=_claim(claims, issuer.verified_claim) in (True, "true"),
        teams=teams_of([team.strip("/") for team in user_token.strings(_claim(claims, issuer.teams_claim))]),
        memberships=memberships_of(user_token.strings(_claim(claims, issuer.memberships_claim))),
    )


def _claim(claims: Json, name: str) -> Any:
    """Return a claim by its name or, where none has it, by its path: `realm_access.roles`."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
