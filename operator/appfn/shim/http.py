"""What every route needs of HTTP: JSON in under limits, JSON out as Appwrite's SDKs expect it."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from aiohttp import web

from appfn.api.base import Json
from appfn.shim.errors import AppwriteError, Problem, invalid_argument
from appfn.shim.services import BODIES, CONFIG

CONTENT_TYPE = "application/json; charset=UTF-8"
ROOM_TAKEN = web.RequestKey("room_taken", int)
"""Bytes of `BodyRoom` that the request's body holds until it is answered."""
BODY_SECONDS = 30.0
"""How long a client may take to send a JSON body."""


def reply(content: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return a JSON response."""
    return web.Response(body=dumps(content), status=status, headers={"Content-Type": CONTENT_TYPE, **(headers or {})})


async def stream(
    request: web.Request, content: AsyncIterator[bytes], *, headers: Mapping[str, str], status: int = 200
) -> web.StreamResponse:
    """Send content as it comes; the connection is cut where it does not come whole."""
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    try:
        async for piece in content:
            await response.write(piece)
        await response.write_eof()
    except BaseException:
        if request.transport is not None:
            request.transport.abort()  # an error's body would be taken for the rest of the content
        raise
    return response


def failure(error: AppwriteError) -> web.Response:
    """Return the response that an error is."""
    return reply(error.body, status=error.problem.status, headers=error.headers)


def dumps(content: object) -> bytes:
    """Return content as JSON."""
    try:
        return orjson.dumps(content)
    except TypeError:  # a lone surrogate, which a function may answer, or a number beyond 64 bits
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return text.encode(errors="replace")


async def read_json(request: web.Request) -> Json:
    """Return the JSON object that is the request's body; empty for none and for `null`, which old SDKs send.

    Raises:
        AppwriteError: general_argument_invalid, general_payload_too_large.
        QueueFullError: other requests' bodies leave no room for it.
    """
    return parse_json(await read_body(request))


def parse_json(body: bytes) -> Json:
    """Return the JSON object that a body is, as `read_json` does.

    Raises:
        AppwriteError: general_argument_invalid.
    """
    content = parse_value(body)
    if content is None or content == []:  # PHP's way to write an empty object
        return {}
    if not isinstance(content, dict):
        raise AppwriteError(Problem.ARGUMENT_INVALID, "The request's body must be a JSON object.")
    return content


def parse_value(body: bytes) -> Any:
    """Return the JSON value that a body is, None for none; raises as `parse_json`."""
    try:
        return orjson.loads(body or b"null")
    except orjson.JSONDecodeError:  # also of what is no error to Python: UTF-16, NaN, lone surrogates
        return _python_value(body)


def _python_value(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise AppwriteError(Problem.ARGUMENT_INVALID, "The request's body is not valid JSON.") from error


async def read_body(request: web.Request) -> bytes:
    """Return the request's body as it came; raises as `read_json`."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise AppwriteError(Problem.ARGUMENT_INVALID, "Content-Encoding is not supported: send the body as it is.")
    if request.body_exists:
        most = request.app[CONFIG].max_payload_bytes
        size = most if request.content_length is None else min(request.content_length, most)
        if taken := request.app[BODIES].take(size):
            request[ROOM_TAKEN] = taken
    try:
        if request.content.is_eof():  # it came with the head, as most do: there is nothing to wait for
            return await request.read()
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
