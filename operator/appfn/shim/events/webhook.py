"""Appwrite's webhooks: who signed a request, and what it tells.

A webhook is known by the Secret `appfn-webhook-<id>` of the project, labelled `appfn.dev/webhook: <id>`, with the keys
`url` and `signatureKey` as Appwrite has them. Its signature is the base64 of the HMAC-SHA1 of URL and body; of the
headers nothing is signed, so that they are believed of whoever can show a signed body.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import SECRET, Key
from appfn.kube.protocols import Reader
from appfn.shim.cache import Freshness, TtlCache
from appfn.shim.errors import AppwriteError, Problem, invalid_argument
from appfn.shim.events.occurrence import Occurrence, user_of

SIGNATURE = "X-Appwrite-Webhook-Signature"
_PREFIX = "X-Appwrite-Webhook-"
_MAX_NAMES = 64
_CACHE_SIZE = 1024
_LOOKUPS = 4
_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,34}[a-z0-9])?", re.ASCII)
"""What a Secret can be named after; Appwrite makes hex digits unless told otherwise."""
_REFUSAL = (
    "The webhook's signature is not right, or the project does not know the webhook: a Secret of the project has to "
    "hold its URL and its signature key as Appwrite shows them."
)


@dataclass(frozen=True, slots=True)
class Webhook:
    """What a Secret says of one."""

    url: str
    key: str = field(repr=False)

    def signed(self, body: bytes, signature: str) -> bool:
        """Tell, in constant time, whether a body was signed by it."""
        digest = hmac.new(self.key.encode(), self.url.encode() + body, hashlib.sha1).digest()
        return hmac.compare_digest(base64.b64encode(digest), signature.encode(errors="replace"))


class Webhooks:
    """Knows those of all projects; `aclose` ends what it still asks."""

    def __init__(self, reader: Reader, *, cache_seconds: float, monotonic: Callable[[], float]) -> None:
        """Believe what a Secret said for `cache_seconds`."""
        self._reader = reader
        self._lookups = asyncio.Semaphore(_LOOKUPS)
        self._known: TtlCache[Key, Webhook | None] = TtlCache(
            Freshness(fresh=cache_seconds), size=_CACHE_SIZE, monotonic=monotonic
        )

    async def aclose(self) -> None:
        """End the lookups that still run."""
        await self._known.aclose()

    async def find(self, namespace: str, headers: Mapping[str, str]) -> Webhook | None:
        """Return the webhook of a project that a request says it is of; None where there is none.

        Raises:
            TransientError: the API server can't say.
        """
        id_ = headers.get(_PREFIX + "Id", "")
        if not _ID.fullmatch(id_):
            return None
        address = Key(namespace, names.webhook_secret(id_))

        async def read() -> Webhook | None:
            async with self._lookups:
                secret = await self._reader.get(SECRET, address)
            return stored(id_, secret) if secret else None

        return await self._known.get(address, read)


def stored(id_: str, secret: Json) -> Webhook | None:
    """Return the webhook that a Secret from the API server holds; None where it holds none that is whole."""
    labels: Mapping[str, str] = secret["metadata"].get("labels") or {}
    data: Mapping[str, str] = secret.get("data") or {}
    if labels.get(names.LABEL_WEBHOOK) != id_:
        return None
    try:
        url, key = (base64.b64decode(data.get(name, "")).decode().strip() for name in ("url", "signatureKey"))
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Webhook(url, key) if url and key else None


def occurrence(webhook: Webhook | None, headers: Mapping[str, str], body: bytes) -> Occurrence:
    """Return what a request of a webhook tells.

    Raises:
        AppwriteError: general_access_forbidden where it is not signed by the webhook; general_argument_invalid.
    """
    if webhook is None or not webhook.signed(body, headers[SIGNATURE]):
        raise AppwriteError(Problem.ACCESS_FORBIDDEN, _REFUSAL)
    id_, told = headers[_PREFIX + "Id"], headers.get(_PREFIX + "Events", "")
    name, user = _PREFIX + "User-Id", headers.get(_PREFIX + "User-Id", "")
    return Occurrence(
        names=_names(told),
        id=hashlib.sha256(b"\0".join((told.encode(errors="replace"), user.encode(errors="replace"), body))).hexdigest(),
        source=f"webhook:{id_}",
        data=_data(body),
        user_id=user_of(name, user),
    )


def _names(text: str) -> tuple[str, ...]:
    found = tuple(part for part in map(str.strip, text.split(",")) if part)
    if not 1 <= len(found) <= _MAX_NAMES or "*" in found[0].split("."):
        message = f"give 1 to {_MAX_NAMES} names of the event, separated by commas, the concrete one first"
        raise invalid_argument(_PREFIX + "Events", message)
    return found


def _data(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise AppwriteError(Problem.ARGUMENT_INVALID, "The webhook's body is not UTF-8.") from error
