"""Our own users' tokens: JWTs that hold for one project, signed with a key of it, derived so that nothing is stored.

Given out by `python -m appfn jwt`, and to a function whose caller is a user, as `APPWRITE_FUNCTION_JWT`.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import jwt

from appfn.shim.auth.identity import UserClaims, memberships_of, teams_of
from appfn.shim.callee import Project
from appfn.shim.errors import AppwriteError, Problem

LIFETIME = timedelta(seconds=900)
"""How long a token holds, as Appwrite's."""
LEEWAY_SECONDS = 10
"""How far clocks may be apart."""
MAX_TOKEN = 8192
_ALGORITHM = "HS256"
REFUSALS = (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)
"""What a hostile token makes of PyJWT: numbers beyond all bounds, JSON a thousand levels deep."""
_WORDS = {
    jwt.ExpiredSignatureError: "Expired",
    jwt.ImmatureSignatureError: "Not now",
    jwt.InvalidSignatureError: "Signature failed",
    jwt.InvalidAudienceError: "Audience",
    jwt.MissingRequiredClaimError: "Claims missing",
    jwt.InvalidAlgorithmError: "Unsupported algo",
}
_USER_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,119}", re.ASCII)


def signing_key(master_key: bytes, project: Project) -> bytes:
    """Return the key of a project's tokens. Another namespace that comes by the same project id has another key."""
    return hmac.new(master_key, f"user-token:{project.namespace}/{project.id}".encode(), hashlib.sha256).digest()


def sign(claims: UserClaims, *, project: Project, key: bytes, now: datetime, lifetime: timedelta = LIFETIME) -> str:
    """Return a token."""
    stated: dict[str, Any] = {"projectId": project.id, **_stated(claims), "iat": now, "exp": now + lifetime}
    return jwt.encode(stated, key, algorithm=_ALGORITHM)


def verify(token: str, *, project: Project, key: bytes) -> tuple[UserClaims, float]:
    """Return what a token says, and until when (Unix seconds, leeway included).

    Raises:
        AppwriteError: user_jwt_invalid.
    """
    try:
        options: Any = {"require": ["exp", "iat", "userId", "projectId"]}
        claims = jwt.decode(token, key, algorithms=[_ALGORITHM], options=options, leeway=LEEWAY_SECONDS)
        if claims["projectId"] != project.id:
            raise jwt.InvalidAudienceError
        return _claims(claims), float(claims["exp"]) + LEEWAY_SECONDS
    except REFUSALS as error:
        raise refusal(error) from None


def peek(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a token that nobody has vouched for: only good for finding who could.

    Raises:
        AppwriteError: user_jwt_invalid: it is no JWT.
    """
    try:
        if len(token) > MAX_TOKEN:
            raise jwt.DecodeError("too long")
        header, claims, _ = token.split(".")
        return _part(header), _part(claims)
    except REFUSALS as error:
        raise refusal(error) from None


def to_text(claims: UserClaims) -> str:
    """Return claims as text that `from_text` reads."""
    return json.dumps(_stated(claims), separators=(",", ":"))


def from_text(text: str) -> UserClaims:
    """Return the claims of such a text."""
    return _claims(json.loads(text))


def refusal(error: BaseException) -> AppwriteError:
    """Return the answer to a token, in Appwrite's words; never any part of it."""
    word = _WORDS.get(type(error), "Malformed")
    return AppwriteError(Problem.JWT_INVALID, f"Failed to verify JWT. Invalid token: {word}")


def is_user_id(text: object) -> bool:
    """Tell whether a text may be a user's id: it fits into roles and permissions."""
    return isinstance(text, str) and _USER_ID.fullmatch(text) is not None


def strings(value: object) -> Collection[str]:
    """Return the strings of a claim that is a list of them, or one."""
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _part(text: str) -> dict[str, Any]:
    found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    if not isinstance(found, dict):
        raise TypeError
    return found


def _stated(claims: UserClaims) -> dict[str, Any]:
    return {
        "userId": claims.user_id,
        "verified": claims.verified,
        "teams": list(claims.teams),
        "memberships": list(claims.memberships),
    }


def _claims(stated: dict[str, Any]) -> UserClaims:
    if not is_user_id(stated["userId"]):
        raise ValueError
    return UserClaims(
        user_id=stated["userId"],
        verified=stated.get("verified") is True,
        teams=teams_of(strings(stated.get("teams"))),
        memberships=memberships_of(strings(stated.get("memberships"))),
    )
