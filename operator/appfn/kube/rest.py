"""JSON over HTTPS to one API server: the one place where its answers become the errors of `appfn.errors`."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

import aiohttp
from kubernetes.aio.client import ApiClient

from appfn.api.base import Json
from appfn.errors import AppfnError, ConflictError, ForbiddenError, RejectedError, TransientError

REQUEST_SECONDS = 30.0
CONNECT_SECONDS = 10.0

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_REQUEST = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
_MAX_MESSAGE = 1000


class NotFoundError(AppfnError):
    """404: the object, its namespace or its whole kind is not there. Does not leave this package."""


class ExpiredError(AppfnError):
    """410: the resourceVersion or continue token is too old; list again. Does not leave this package."""


class Rest:
    """Requests to one API server, authenticated and bounded in time."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = JSON,
    ) -> Json:
        """Send a request and return the object it is answered with.

        Raises:
            NotFoundError, ExpiredError, or the error of `appfn.errors` that `error_of` names.
        """
        async with self._answer(method, path, query=query, body=body, content_type=content_type) as response:
            return parsed(await response.read())

    async def text(self, path: str, *, query: Mapping[str, str]) -> str:
        """Read a document that is not JSON; raises as `json` does."""
        async with self._answer("GET", path, query=query, accept="*/*") as response:
            return (await response.read()).decode(errors="replace")

    @asynccontextmanager
    async def lines(
        self, path: str, *, query: Mapping[str, str], silence: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an endless document and yield its lines; TransientError when it breaks off or is silent for so long."""
        bound = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
        async with self._answer("GET", path, query=query, bound=bound) as response:
            yield split_lines(response.content.iter_any())

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None,
        body: Json | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        bound: aiohttp.ClientTimeout = _REQUEST,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; yield a good answer, raise for a bad one and for whatever happens while it is read."""
        try:
            _, url, headers, content, _ = await self._api.param_serialize(
                method,
                path,
                query_params=dict(query or {}),
                header_params={"Accept": accept, "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await self._api.call_api(method, url, headers, content, _request_timeout=bound)
            async with answer.response as response:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise error_of(response.status, response.headers, await response.read())
                yield response
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError, so is an unreadable token
            raise TransientError(f"API server: {type(error).__name__}: {error}") from error


async def split_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the complete lines of a stream, however they are cut; a line may be much longer than a chunk."""
    head: list[bytes] = []
    async for chunk in chunks:
        *complete, tail = chunk.split(b"\n")
        for line in complete:
            yield b"".join((*head, line))
            head.clear()
        head.append(tail)


def parsed(content: bytes) -> Json:
    """Return the JSON object; TransientError where it is none, as when a proxy answers in the server's place."""
    try:
        answer = json.loads(content)
    except ValueError as error:
        raise TransientError(f"API server: the answer is not JSON: {error}") from error
    if not isinstance(answer, dict):
        raise TransientError("API server: the answer is not a JSON object")
    return answer


def error_of(status: int, headers: Mapping[str, str], content: bytes) -> AppfnError:
    """Return the error an answer of 400 and above stands for, with the server's own message."""
    message = _message(status, content)
    match status:
        case HTTPStatus.NOT_FOUND:
            return NotFoundError(message)
        case HTTPStatus.GONE:
            return ExpiredError(message)
        case HTTPStatus.CONFLICT:
            return ConflictError(message)
        case HTTPStatus.FORBIDDEN:
            return ForbiddenError(message)
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.REQUEST_TIMEOUT | HTTPStatus.TOO_MANY_REQUESTS:
            # 401 too: the token has just been rotated or the server's authenticators are still starting
            return TransientError(message, retry_after=_retry_after(headers))
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return TransientError(message, retry_after=_retry_after(headers))
        case _:
            return RejectedError(message)


def status_error(status: Json) -> AppfnError:
    """Return the error a `Status` object inside a stream stands for."""
    return error_of(int(status.get("code") or HTTPStatus.INTERNAL_SERVER_ERROR), {}, json.dumps(status).encode())


def _message(status: int, content: bytes) -> str:
    try:
        message = json.loads(content)["message"]
    except (ValueError, TypeError, KeyError):
        message = content.decode(errors="replace")
    return f"{str(message).strip()[:_MAX_MESSAGE] or 'no message'} (HTTP {status})"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None
