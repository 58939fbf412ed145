"""The issuers that projects trust, and the keys of those: read when a token asks for them, and kept for a while.

A project names its issuers in the ConfigMap `appfn-issuers`. An issuer is asked at most once in ten seconds, whatever
tokens come: neither a made-up key id nor its own outage makes us ask again and again.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import CONFIG_MAP, Key
from appfn.errors import ForbiddenError, InvalidSpecError, TransientError
from appfn.kube.protocols import Reader
from appfn.shim.auth import oidc
from appfn.shim.auth.oidc import Issuer
from appfn.shim.cache import Freshness, TtlCache
from appfn.shim.callee import Project
from appfn.shim.errors import AppwriteError, Problem

_KEYS_SECONDS = 300.0
"""How long keys are used as they are, and again while they are read anew."""
_OUTAGE_SECONDS = 3600.0
"""How long keys are used while the issuer does not answer."""
_PACE_SECONDS = 10.0
_CACHE_SIZE = 4096
_DISCOVERY = "/.well-known/openid-configuration"
_logger = logging.getLogger(__name__)


class Documents(Protocol):
    """The web, as far as issuers are read from it."""

    async def get(self, url: str) -> Any:
        """Return the JSON document at a URL; raises InvalidSpecError, TransientError."""


class Issuers:
    """See the module. `aclose` ends the reads that still run."""

    def __init__(
        self, reader: Reader, documents: Documents, *, cache_seconds: float, monotonic: Callable[[], float]
    ) -> None:
        self._reader = reader
        self._documents = documents
        self._monotonic = monotonic
        self._trusted: TtlCache[str, tuple[Issuer, ...]] = TtlCache(
            Freshness(fresh=cache_seconds, error=_KEYS_SECONDS), size=_CACHE_SIZE, monotonic=monotonic
        )
        self._keys: TtlCache[tuple[str, str], tuple[Json, ...]] = TtlCache(
            Freshness(fresh=_KEYS_SECONDS, stale=_KEYS_SECONDS, error=_OUTAGE_SECONDS),
            size=_CACHE_SIZE,
            monotonic=monotonic,
        )
        self._asked: OrderedDict[tuple[str, str], float] = OrderedDict()
        """When each issuer was asked last."""

    async def aclose(self) -> None:
        """End the reads that still run."""
        await self._trusted.aclose()
        await self._keys.aclose()

    async def find(self, project: Project, name: object) -> Issuer | None:
        """Return the issuer of that name if the project trusts it.

        Raises:
            AppwriteError: user_jwt_invalid: what the project says of its issuers can't be used.
            TransientError: the API server can't say.
        """
        try:
            trusted = await self._trusted.get(project.namespace, lambda: self._read(project.namespace))
        except InvalidSpecError as error:
            message = f"Failed to verify JWT. ConfigMap {names.CONFIG_MAP_ISSUERS!r} of the project: {error}"
            raise AppwriteError(Problem.JWT_INVALID, message) from error
        return next((issuer for issuer in trusted if issuer.issuer == name), None)

    async def keys(self, issuer: Issuer, kid: object) -> tuple[Json, ...]:
        """Return the key that a token names, which may be a new one of the issuer's; empty for none.

        Raises:
            AppwriteError: user_jwt_invalid: what the issuer answers is of no use.
            TransientError: the issuer does not answer.
        """
        address = issuer.issuer, issuer.jwks_uri
        try:
            found = oidc.chosen(await self._keys.get(address, lambda: self._fetch(address)), kid)
            if not found and self._may_ask(address):
                found = oidc.chosen(await self._keys.renew(address, lambda: self._fetch(address)), kid)
        except InvalidSpecError as error:
            _logger.warning("an issuer's keys can't be used", extra={"issuer": issuer.issuer, "reason": str(error)})
            raise AppwriteError(Problem.JWT_INVALID, f"Failed to verify JWT. The issuer's keys: {error}") from error
        return found

    def _may_ask(self, address: tuple[str, str]) -> bool:
        return self._monotonic() - self._asked.get(address, float("-inf")) >= _PACE_SECONDS

    async def _read(self, namespace: str) -> tuple[Issuer, ...]:
        try:
            found = await self._reader.get(CONFIG_MAP, Key(namespace, names.CONFIG_MAP_ISSUERS))
        except ForbiddenError:  # a namespace to which manifests/project was not applied has no issuers either
            return ()
        text = ((found or {}).get("data") or {}).get(names.ISSUERS_FILE, "")
        return oidc.parse(text)

    async def _fetch(self, address: tuple[str, str]) -> tuple[Json, ...]:
        if not self._may_ask(address):
            raise TransientError("the issuer was asked a moment ago", retry_after=_PACE_SECONDS)
        self._asked[address] = self._monotonic()
        self._asked.move_to_end(address)
        while len(self._asked) > _CACHE_SIZE:
            self._asked.popitem(last=False)
        name, jwks_uri = address
        try:
            return oidc.keys_of(await self._documents.get(jwks_uri or await self._discover(name)))
        except TransientError as error:
            _logger.warning("an issuer does not answer", extra={"issuer": name, "error": str(error)})
            raise

    async def _discover(self, name: str) -> str:
        document = await self._documents.get(name.rstrip("/") + _DISCOVERY)
        if not isinstance(document, dict) or document.get("issuer") != name:
            raise InvalidSpecError(name, "its discovery document is of another issuer")
        found = document.get("jwks_uri")
        if not isinstance(found, str):
            raise InvalidSpecError(name, "its discovery document has no jwks_uri")
        return found
