"""What a client asks to be executed, pure: the bodies of all formats in, one `Asked` out."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from appfn.api.base import Json
from appfn.core.values import Value
from appfn.shim.errors import AppwriteError, Problem, invalid_argument
from appfn.shim.formats import Format

MAX_DATA = 8192
"""Characters of `data` in formats before 1.4; later ones are bounded by the size of the request alone."""
MAX_DELAY = timedelta(days=366)
"""How far away the time of a delayed execution may be."""
MAX_PATH = 2048
MAX_HEADERS = 64
MAX_HEADER_BYTES = 16_384
MAX_IDEMPOTENCY_KEY = 255
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"})

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,255}", re.ASCII)
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,255}")


class Asked(Value, frozen=True, kw_only=True):
    """An execution as asked for."""

    hidden = frozenset({"data", "headers"})

    data: str = ""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    path: str = "/"
    method: str = "POST"
    asynchronous: bool = False
    scheduled_at: datetime | None = None
    """When to run it, instead of now."""

    def digest(self) -> str:
        """SHA-256 of all of it, in hex: tells a repeated request from another one with the same idempotency key."""
        parts = [self.data, sorted(self.headers.items()), self.path, self.method, self.asynchronous]
        if self.scheduled_at is not None:
            parts.append(self.scheduled_at.isoformat())
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def parse(body: Json, format_: Format, *, now: Callable[[], datetime]) -> Asked:
    """Return what a body asks for. `data` and `body` are both understood in every format; `body` wins.

    Raises:
        AppwriteError: general_argument_invalid, naming the parameter; general_bad_request for a delayed execution that
            somebody waits for.
    """
    name = "body" if "body" in body else "data"
    data = _text(name, body.get(name))
    if format_ < Format.V1_4 and len(data) > MAX_DATA:
        raise invalid_argument(name, f"Value must be a valid string and at most {MAX_DATA} chars long")
    choice, later = body.get("async"), body.get("scheduledAt")
    path, method = body.get("path"), body.get("method")
    asynchronous = format_ is Format.V0 if choice is None else _boolean("async", choice)
    scheduled_at = None if later is None else _future(later, now)
    if scheduled_at is not None and not asynchronous:
        raise AppwriteError(
            Problem.BAD_REQUEST,
            "Scheduled executions must run asynchronously. Set async to true, or leave scheduledAt.",
        )
    return Asked(
        data=data,
        headers=headers(body.get("headers")),
        path="/" if path is None else _path(path),
        method="POST" if method is None else _method(method),
        asynchronous=asynchronous,
        scheduled_at=scheduled_at,
    )


def is_id(text: str) -> bool:
    """Tell whether a text may be the id of an execution: ours, or the uid of an Execution."""
    return _ID.fullmatch(text) is not None


def idempotency_key(value: str | None) -> str | None:
    """Return the checked value of the header Idempotency-Key.

    Raises:
        AppwriteError: general_argument_invalid.
    """
    if value is not None and not _VISIBLE_ASCII.fullmatch(value):
        raise invalid_argument("Idempotency-Key", f"give 1 to {MAX_IDEMPOTENCY_KEY} visible ASCII characters")
    return value


def headers(value: Any) -> dict[str, str]:
    """Return headers to hand to a function, names lower-cased: an object of strings, or such an object as JSON text.

    Raises:
        AppwriteError: general_argument_invalid.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except (ValueError, RecursionError) as error:
            raise invalid_argument("headers", "Value must be a valid object") from error
    if value is None or value == []:  # PHP's way to write an empty object
        return {}
    if not isinstance(value, dict) or len(value) > MAX_HEADERS:
        raise invalid_argument("headers", f"Value must be an object of at most {MAX_HEADERS} headers")
    for name, text in value.items():
        if not _TOKEN.fullmatch(name) or not isinstance(text, str) or not _FIELD_VALUE.fullmatch(text):
            raise invalid_argument("headers", "each name must be an HTTP token, each value a line of text")
    if sum(len(name) + len(text) for name, text in value.items()) > MAX_HEADER_BYTES:
        raise invalid_argument("headers", f"all together may have {MAX_HEADER_BYTES} characters")
    return {name.lower(): _text("headers", text) for name, text in value.items()}


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid_argument(name, "Value must be a valid string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise invalid_argument(name, "Value must be valid Unicode, without lone surrogates") from error
    return value


def _path(value: Any) -> str:
    path = _text("path", value) or "/"
    if len(path) > MAX_PATH or not path.startswith("/") or not path.isprintable():
        raise invalid_argument("path", f"Value must begin with / and have at most {MAX_PATH} printable characters")
    return path


def _method(value: Any) -> str:
    method = _text("method", value).upper() or "POST"
    if method not in METHODS:
        raise invalid_argument("method", f"Value must be one of ({', '.join(sorted(METHODS))})")
    return method


def _future(value: Any, clock: Callable[[], datetime]) -> datetime | None:
    text = _text("scheduledAt", value)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid_argument("scheduledAt", "Value must be a date such as 2030-01-31T12:00:00.000+00:00") from error
    now = clock()
    if moment <= now or moment - now > MAX_DELAY or moment.second or moment.microsecond:
        raise invalid_argument(
            "scheduledAt", f"Value must be a whole minute in the future, at most {MAX_DELAY.days} days from now"
        )
    return moment


def _boolean(name: str, value: Any) -> bool:
    match value:
        case bool():
            return value
        case "true" | "1" | 1:
            return True
        case "false" | "0" | 0:
            return False
        case _:
            raise invalid_argument(name, "Value must be a valid boolean")
