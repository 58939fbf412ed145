"""API keys, pure: their form, their Secret, and whether a key given is the one stored.

A key is `appfn_<id>_<secret>`: 16 and 64 hex digits (256 random bits), safe in a header and told from other strings
by secret scanners. The Secret `appfn-key-<id>` in the project's namespace holds the SHA-256 of the secret part alone
(the secret is random, so that a slow hash would add nothing), the scopes, and optionally when the key expires.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from appfn import names
from appfn.api.base import Json
from appfn.shim.auth.identity import SCOPES_OF_EVERY_KEY, scopes_of

_KEY = re.compile(r"appfn_([0-9a-f]{16})_([0-9a-f]{64})", re.ASCII)
_ID_BYTES = 8
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its holder has it."""

    id: str
    secret: str = field(repr=False)

    def text(self) -> str:
        """Return what goes into the header X-Appwrite-Key."""
        return f"appfn_{self.id}_{self.secret}"

    @property
    def hash(self) -> str:
        """SHA-256 of the secret part, in hex."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A key as its Secret holds it."""

    id: str
    name: str
    hash: str = field(repr=False)
    scopes: frozenset[str]
    expires: datetime | None

    def matches(self, key: ApiKey) -> bool:
        """Tell, in constant time, whether this is the key."""
        return hmac.compare_digest(self.hash.encode(), key.hash.encode())

    def expired(self, now: datetime) -> bool:
        """Tell whether its time is over."""
        return self.expires is not None and self.expires <= now


def generate(random_bytes: Callable[[int], bytes]) -> ApiKey:
    """Return a new key made of random bytes."""
    return ApiKey(id=random_bytes(_ID_BYTES).hex(), secret=random_bytes(_SECRET_BYTES).hex())


def parse(text: str) -> ApiKey | None:
    """Return the key that a header holds; None for what can't be one."""
    match = _KEY.fullmatch(text)
    return ApiKey(match[1], match[2]) if match else None


def manifest(key: ApiKey, *, namespace: str, name: str, scopes: frozenset[str], expires: datetime | None) -> Json:
    """Return the Secret to apply. `name` is for people."""
    data = {"name": name, "hash": key.hash, "scopes": " ".join(sorted(scopes))}
    if expires is not None:
        data["expires"] = expires.astimezone(UTC).isoformat(timespec="seconds")
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.api_key_secret(key.id),
            "namespace": namespace,
            "labels": {names.MANAGED_BY: names.MANAGER, names.LABEL_API_KEY: key.id},
        },
        "type": "Opaque",
        "stringData": data,
    }


def stored(id_: str, secret: Json) -> StoredKey | None:
    """Return the key that a Secret from the API server holds; None where it holds none that is whole."""
    labels: Mapping[str, str] = secret["metadata"].get("labels") or {}
    if labels.get(names.LABEL_API_KEY) != id_:
        return None
    try:
        data = {field_: _decoded(secret, field_) for field_ in ("name", "hash", "scopes", "expires")}
        expires = datetime.fromisoformat(data["expires"]) if data["expires"] else None
    except ValueError:
        return None
    if not data["hash"] or (expires is not None and expires.tzinfo is None):
        return None
    scopes = scopes_of(data["scopes"]) | SCOPES_OF_EVERY_KEY
    return StoredKey(id=id_, name=data["name"], hash=data["hash"], scopes=scopes, expires=expires)


def _decoded(secret: Json, name: str) -> str:
    data: Mapping[str, Any] = secret.get("data") or {}
    try:
        return base64.b64decode(data.get(name, ""), validate=True).decode().strip()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(name) from error
