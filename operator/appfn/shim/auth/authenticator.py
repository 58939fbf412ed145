"""Turns credentials into a caller, and a caller's wish into yes or no.

Lookups at the API server are cached for `auth_cache_seconds` (the bound on revocation) and bounded in number, so that
a flood of made-up keys or tokens can neither empty the cache nor flood the API server.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from appfn import names
from appfn.api.kinds import SECRET, Key, Kind
from appfn.kube.protocols import Reader, Reviews, TokenIdentity
from appfn.shim.auth import api_key
from appfn.shim.auth.access import Access
from appfn.shim.auth.api_key import ApiKey, StoredKey
from appfn.shim.auth.identity import Caller, Guest, KeyCaller, ServiceAccountCaller, UserCaller
from appfn.shim.auth.user_token import MAX_TOKEN
from appfn.shim.auth.users import Users
from appfn.shim.cache import Freshness, TtlCache
from appfn.shim.callee import Project
from appfn.shim.errors import AppwriteError, Problem

KEY_HEADER = "X-Appwrite-Key"
JWT_HEADER = "X-Appwrite-JWT"
_BEARER = "bearer "
_CACHE_SIZE = 65_536
_LOOKUPS = 16
_OUTAGE_SECONDS = 300.0
"""How long what is known is believed while the API server does not answer."""


class AuthCluster(Reader, Reviews, Protocol):
    """What authentication asks of Kubernetes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A key that was compared with its Secret and is the right one."""

    caller: KeyCaller
    expires: datetime | None
    until: float
    """When it has to be compared again, on the monotonic clock."""


class Authenticator:
    """Knows keys and tokens; `aclose` ends what it still asks."""

    def __init__(
        self,
        cluster: AuthCluster,
        *,
        users: Users,
        cache_seconds: float,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        freshness = Freshness(fresh=cache_seconds, error=_OUTAGE_SECONDS)
        self._cluster = cluster
        self._users = users
        self._cache_seconds = cache_seconds
        self._now = now
        self._monotonic = monotonic
        self._lookups = asyncio.Semaphore(_LOOKUPS)
        self._keys: TtlCache[Key, StoredKey | None] = TtlCache(freshness, size=_CACHE_SIZE, monotonic=monotonic)
        self._verified: OrderedDict[tuple[str, bytes], Verified] = OrderedDict()
        """By namespace and SHA-256 of the whole key: whoever can name an entry has the key, so time tells nothing."""
        self._tokens: TtlCache[bytes, TokenIdentity | None] = TtlCache(
            Freshness(fresh=cache_seconds), size=_CACHE_SIZE, monotonic=monotonic
        )
        self._access: TtlCache[tuple[TokenIdentity, str, Kind, str], bool] = TtlCache(
            freshness, size=_CACHE_SIZE, monotonic=monotonic
        )

    async def aclose(self) -> None:
        """End the lookups that still run."""
        for cache in (self._keys, self._tokens, self._access):
            await cache.aclose()

    async def caller(self, headers: Mapping[str, str], project: Project) -> Caller:
        """Return who the headers speak for within a project. A key that is unknown there makes a guest, as in Appwrite.

        A key is looked at only where no token is given, so that a server may act for a user.

        Raises:
            AppwriteError: project_key_expired (told to the holder of the right secret alone), user_jwt_invalid.
            TransientError: the API server can't say.
        """
        if token := headers.get(JWT_HEADER):
            return await self._user(token, project)
        if token := bearer(headers):
            return await self._bearer(token, project)
        if text := headers.get(KEY_HEADER):
            return await self._key_caller(text, project)
        return Guest()

    async def _user(self, token: str, project: Project) -> Caller:
        if (caller := await self._users.caller(token, project)) is None:
            raise AppwriteError(Problem.JWT_INVALID)
        return caller

    async def _bearer(self, token: str, project: Project) -> Caller:
        """Return the user of a token, or the workload that one of an issuer the project does not name belongs to."""
        if (caller := await self._users.caller(token, project)) is not None:
            return caller
        identity = await self.identity(token)
        if identity is None:
            raise AppwriteError(Problem.JWT_INVALID)
        return ServiceAccountCaller(subject=identity.username, label=f"User ({identity.username})", identity=identity)

    async def identity(self, token: str) -> TokenIdentity | None:
        """Return whose ServiceAccount token (audience `appfn`) this is; None where it is not valid."""
        if len(token) > MAX_TOKEN or token.count(".") != 2:  # noqa: PLR2004 - header.payload.signature
            return None

        async def review() -> TokenIdentity | None:
            async with self._lookups:
                return await self._cluster.review_token(token, audience=names.AUDIENCE)

        return await self._tokens.get(hashlib.sha256(token.encode()).digest(), review)

    async def authorize(self, caller: Caller, access: Access, project: Project) -> None:
        """Return where the caller has the rights in the project.

        Raises:
            AppwriteError: general_unauthorized_scope.
            TransientError: the API server can't say.
        """
        if not await self._allowed(caller, access, project):
            message = f"{caller.label} missing scope ({access.scope})"
            raise AppwriteError(Problem.UNAUTHORIZED_SCOPE, message + _remedy(caller, access, project))

    async def _allowed(self, caller: Caller, access: Access, project: Project) -> bool:
        match caller:
            case KeyCaller():
                return access.scope in caller.scopes
            case ServiceAccountCaller():
                return await self._reviewed(caller.identity, access, project.namespace)
            case UserCaller():
                return access.users
            case Guest():
                return access.guests
            case _:
                return False

    async def _key_caller(self, text: str, project: Project) -> Caller:
        address = project.namespace, hashlib.sha256(text.encode(errors="replace")).digest()
        verified = self._verified.get(address)
        if verified is not None and self._monotonic() <= verified.until:
            return self._unexpired(verified)
        known = await self._verify(text, project)
        if known is None:
            return Guest()
        self._remember(address, known)
        return self._unexpired(known)

    def verified(self, text: str, project: Project) -> Verified | None:
        """Return the key, as `caller` found it a moment ago."""
        return self._verified.get((project.namespace, hashlib.sha256(text.encode(errors="replace")).digest()))

    def still(self, verified: Verified) -> bool:
        """Tell whether a key need not be looked at again yet."""
        return self._monotonic() <= verified.until and (verified.expires is None or verified.expires > self._now())

    def _unexpired(self, verified: Verified) -> Caller:
        if verified.expires is not None and verified.expires <= self._now():
            raise AppwriteError(Problem.PROJECT_KEY_EXPIRED)
        return verified.caller

    async def _verify(self, text: str, project: Project) -> Verified | None:
        key = api_key.parse(text)
        known = await self._stored(key, project) if key else None
        if key is None or known is None or not known.matches(key):
            return None
        label = f"app.{project.id}@service.appfn (role: applications)"
        caller = KeyCaller(subject=f"key:{known.id}", label=label, scopes=known.scopes)
        read = self._keys.fresh(_address(key, project))
        # Not a moment longer than the Secret it was compared with is believed.
        until = read[1] + self._cache_seconds if read is not None and read[0] is known else float("-inf")
        return Verified(caller=caller, expires=known.expires, until=until)

    def _remember(self, address: tuple[str, bytes], verified: Verified) -> None:
        self._verified[address] = verified
        self._verified.move_to_end(address)
        while len(self._verified) > _CACHE_SIZE:
            self._verified.popitem(last=False)

    async def _stored(self, key: ApiKey, project: Project) -> StoredKey | None:
        address = _address(key, project)

        async def read() -> StoredKey | None:
            async with self._lookups:
                secret = await self._cluster.get(SECRET, address)
            return api_key.stored(key.id, secret) if secret else None

        return await self._keys.get(address, read)

    async def _reviewed(self, identity: TokenIdentity, access: Access, namespace: str) -> bool:
        async def review() -> bool:
            async with self._lookups:
                return await self._cluster.review_access(
                    identity, verb=access.verb, kind=access.kind, namespace=namespace
                )

        return await self._access.get((identity, access.verb, access.kind, namespace), review)


def _address(key: ApiKey, project: Project) -> Key:
    return Key(project.namespace, names.api_key_secret(key.id))


def bearer(headers: Mapping[str, str]) -> str:
    """Return the token of `Authorization: Bearer …`; empty where there is none."""
    value = headers.get("Authorization", "")
    return value[len(_BEARER) :].strip() if value[: len(_BEARER)].lower() == _BEARER else ""


def _remedy(caller: Caller, access: Access, project: Project) -> str:
    if isinstance(caller, ServiceAccountCaller):
        return f": RBAC must allow {access.verb} on {access.kind.plural}.appfn.dev in namespace {project.namespace}"
    return ""
