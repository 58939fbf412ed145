"""Turns users' tokens into callers, and callers into tokens for the functions they call.

A token that was verified is believed for `auth_cache_seconds`, and never longer than it holds.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

from appfn.shim.auth import oidc, user_token
from appfn.shim.auth.identity import UserCaller, UserClaims
from appfn.shim.auth.issuers import Issuers
from appfn.shim.callee import Project

_CACHE_SIZE = 16_384


class Users:
    """See the module."""

    def __init__(
        self,
        issuers: Issuers,
        *,
        master_key: bytes,
        cache_seconds: float,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._issuers = issuers
        self._master_key = master_key
        self._cache_seconds = cache_seconds
        self._now = now
        self._monotonic = monotonic
        self._known: OrderedDict[tuple[str, bytes], tuple[UserCaller, float]] = OrderedDict()
        """By namespace and SHA-256 of the token: who, and until when on the monotonic clock."""

    def token(self, project: Project, claims: str) -> str:
        """Return a token for a function that was called by the user of these claims (`Caller.user_claims`)."""
        key = user_token.signing_key(self._master_key, project)
        return user_token.sign(user_token.from_text(claims), project=project, key=key, now=self._now())

    async def caller(self, token: str, project: Project) -> UserCaller | None:
        """Return whose token this is; None where it names an issuer that the project does not trust.

        Raises:
            AppwriteError: user_jwt_invalid.
            TransientError: the API server or the issuer can't say.
        """
        address = project.namespace, hashlib.sha256(token.encode(errors="replace")).digest()
        known = self._known.get(address)
        if known is not None and self._monotonic() < known[1]:
            return known[0]
        verified = await self._verified(token, project)
        if verified is None:
            return None
        claims, expires = verified
        caller = UserCaller.of(claims, user_token.to_text(claims))
        self._remember(address, caller, seconds=min(self._cache_seconds, expires - self._now().timestamp()))
        return caller

    async def _verified(self, token: str, project: Project) -> tuple[UserClaims, float] | None:
        header, claims = user_token.peek(token)
        if "iss" not in claims:
            key = user_token.signing_key(self._master_key, project)
            return user_token.verify(token, project=project, key=key)
        issuer = await self._issuers.find(project, claims["iss"])
        if issuer is None:
            return None
        return oidc.verify(token, issuer=issuer, keys=await self._issuers.keys(issuer, header.get("kid")))

    def _remember(self, address: tuple[str, bytes], caller: UserCaller, *, seconds: float) -> None:
        self._known[address] = caller, self._monotonic() + seconds
        self._known.move_to_end(address)
        while len(self._known) > _CACHE_SIZE:
            self._known.popitem(last=False)
