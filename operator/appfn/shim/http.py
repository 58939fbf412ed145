"""What every route needs of HTTP: JSON in under limits, JSON out as Appwrite's SDKs expect it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from appfn.api.base import Json
from appfn.shim.errors import AppwriteError, Problem, invalid_argument
from appfn.shim.services import CONFIG

CONTENT_TYPE = "application/json; charset=UTF-8"
TAKE_ROOM: web.RequestKey[Callable[[int], None]] = web.RequestKey("take_room")
"""Takes room for the request's body until it is answered; raises QueueFullError where there is none."""
BODY_SECONDS = 30.0
"""How long a client may take to send a JSON body."""
_BIG = 262_144
"""Bytes of JSON beyond which a thread parses it, so that other calls go on."""


def reply(content: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return a JSON response."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    body = text.encode(errors="replace")  # a function may answer lone surrogates
    return web.Response(body=body, status=status, headers={"Content-Type": CONTENT_TYPE, **(headers or {})})


def failure(error: AppwriteError) -> web.Response:
    """Return the response that an error is."""
    return reply(error.body, status=error.problem.status, headers=error.headers)


async def read_json(request: web.Request) -> Json:
    """Return the JSON object that is the request's body; empty for none and for `null`, which old SDKs send.

    Raises:
        AppwriteError: general_argument_invalid, general_payload_too_large.
        QueueFullError: other requests' bodies leave no room for it.
    """
    body = await read_body(request)
    try:
        content: Any = await asyncio.to_thread(json.loads, body) if len(body) > _BIG else json.loads(body or b"null")
    except (ValueError, RecursionError) as error:
        raise AppwriteError(Problem.ARGUMENT_INVALID, "The request's body is not valid JSON.") from error
    if content is None or content == []:  # PHP's way to write an empty object
        return {}
    if not isinstance(content, dict):
        raise AppwriteError(Problem.ARGUMENT_INVALID, "The request's body must be a JSON object.")
    return content


async def read_body(request: web.Request) -> bytes:
    """Return the request's body as it came; raises as `read_json`."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise AppwriteError(Problem.ARGUMENT_INVALID, "Content-Encoding is not supported: send the body as it is.")
    if request.body_exists:
        most = request.app[CONFIG].max_payload_bytes
        request[TAKE_ROOM](most if request.content_length is None else min(request.content_length, most))
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise AppwriteError(Problem.PAYLOAD_TOO_LARGE) from error
    except TimeoutError as error:
        message = f"The request's body did not arrive within {BODY_SECONDS:g} seconds."
        raise AppwriteError(Problem.ARGUMENT_INVALID, message) from error


def text(body: Json, name: str, *, required: bool = False) -> str:
    """Return a string of a body, empty where it is absent.

    Raises:
        AppwriteError: general_argument_invalid.
    """
    value = body.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value):
        raise invalid_argument(name, "Value must be a valid string")
    return value


def number(request: web.Request, name: str, *, default: int, low: int, high: int) -> int:
    """Return a whole number of the URL's query.

    Raises:
        AppwriteError: general_argument_invalid.
    """
    value = request.query.get(name)
    if value is None:
        return default
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20 and low <= int(value) <= high):  # noqa: PLR2004 - fits 64 bits
        raise invalid_argument(name, f"Value must be a whole number from {low} to {high}")
    return int(value)


def seconds(request: web.Request, name: str, *, high: float) -> float:
    """Return a duration of the URL's query in seconds, 0 where it is absent.

    Raises:
        AppwriteError: general_argument_invalid.
    """
    try:
        value = float(request.query.get(name, "0"))
    except ValueError as error:
        raise invalid_argument(name, "Value must be a number of seconds") from error
    if not 0 <= value <= high:
        raise invalid_argument(name, f"Value must be a number of seconds from 0 to {high:g}")
    return value
