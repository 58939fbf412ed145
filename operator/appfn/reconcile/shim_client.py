"""The operator's side of the shim's internal API.

Every call carries the operator's ServiceAccount token, read from its file again each minute as the kubelet renews it.
An answer that only time can change becomes TransientError; what asks for a person, Forbidden- or RejectedError.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import aiohttp
from pydantic import ValidationError

from appfn.api.base import Json, Model
from appfn.api.deployment import Artifact
from appfn.core.observed import Changes, ObservedExecution, StoredBuild, Summary
from appfn.errors import ForbiddenError, RejectedError, TransientError

TOKEN_SECONDS = 60.0
"""How long a token that was read is used."""
CALL_SECONDS = 30.0
"""A call that takes longer is given up."""
_MAX_REASON = 200
_JSON = {"Content-Type": "application/json"}
M = TypeVar("M", bound=Model)


class Shim(Protocol):
    """What the operator asks of the shim. All raise TransientError, ForbiddenError and RejectedError."""

    async def put_artifact(self, namespace: str, content: bytes, *, digest: str) -> Artifact:
        """Store a file; idempotent by its digest (`sha256:…`)."""

    async def log_tail(self, namespace: str, digest: str, *, lines: int) -> str:
        """Return the last lines of a stored log; empty where it is gone."""

    async def get_build(self, namespace: str, key: str) -> StoredBuild | None:
        """Return the build stored under a build key."""

    async def put_build(self, namespace: str, key: str, build: StoredBuild) -> None:
        """Remember a build under its key."""

    async def submit(self, request: Json) -> ObservedExecution | None:
        """Have an execution accepted, idempotent by `uid`; None where the shim does not know the function (yet)."""

    async def execution(self, namespace: str, execution: str) -> ObservedExecution | None:
        """Return an execution."""

    async def summary(
        self, namespace: str, name: str, *, uid: str, completed: int, failed: int, ticks_since: datetime | None
    ) -> Summary | None:
        """Return counts, newest executions and ticks of a function; None where the shim does not know it."""

    async def changes(self, after: int, *, wait: float) -> Changes:
        """Return changes after a position of the feed, waiting up to `wait` seconds for one; -1: only the position."""


class ShimClient:
    """`Shim` over HTTP. Made by `connect`."""

    def __init__(self, session: aiohttp.ClientSession, *, token: Callable[[], str]) -> None:
        self._session = session
        self._token = token

    async def put_artifact(self, namespace: str, content: bytes, *, digest: str) -> Artifact:
        """See `Shim`."""
        path = f"artifacts/{namespace}"
        answer = await self._call("PUT", path, body=content, headers={"X-Appfn-Digest": digest})
        return _parsed(Artifact, _required(answer, path))

    async def log_tail(self, namespace: str, digest: str, *, lines: int) -> str:
        """See `Shim`."""
        answer = await self._call("GET", f"artifacts/{namespace}/{digest}", query={"tailLines": str(lines)})
        return "" if answer is None else answer.decode(errors="replace")

    async def get_build(self, namespace: str, key: str) -> StoredBuild | None:
        """See `Shim`."""
        answer = await self._call("GET", f"builds/{namespace}/{key}")
        return None if answer is None else _parsed(StoredBuild, answer)

    async def put_build(self, namespace: str, key: str, build: StoredBuild) -> None:
        """See `Shim`."""
        await self._call("PUT", f"builds/{namespace}/{key}", body=_document(build.to_json()), headers=_JSON)

    async def submit(self, request: Json) -> ObservedExecution | None:
        """See `Shim`."""
        answer = await self._call("POST", "executions", body=_document(request), headers=_JSON)
        return None if answer is None else _parsed(ObservedExecution, answer)

    async def execution(self, namespace: str, execution: str) -> ObservedExecution | None:
        """See `Shim`."""
        answer = await self._call("GET", f"executions/{namespace}/{execution}")
        return None if answer is None else _parsed(ObservedExecution, answer)

    async def summary(
        self, namespace: str, name: str, *, uid: str, completed: int, failed: int, ticks_since: datetime | None
    ) -> Summary | None:
        """See `Shim`."""
        query = {"uid": uid, "completed": str(completed), "failed": str(failed)}
        if ticks_since is not None:
            query["ticksSince"] = ticks_since.isoformat().replace("+00:00", "Z")
        answer = await self._call("GET", f"functions/{namespace}/{name}/summary", query=query)
        return None if answer is None else _parsed(Summary, answer)

    async def changes(self, after: int, *, wait: float) -> Changes:
        """See `Shim`."""
        query = {"after": str(after), "wait": f"{wait:g}"}
        answer = await self._call("GET", "changes", query=query, seconds=wait + CALL_SECONDS)
        return _parsed(Changes, _required(answer, "changes"))

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        seconds: float = CALL_SECONDS,
    ) -> bytes | None:
        """Return the body of a good answer, None for 404."""
        try:
            async with self._session.request(
                method,
                f"/internal/v1/{path}",
                data=body,
                params=query,
                headers={**(headers or {}), "Authorization": f"Bearer {self._token()}"},
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
            ) as response:
                content = await response.read()
                return None if response.status == 404 else _checked(response, content)  # noqa: PLR2004 - HTTP's number
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise TransientError(
                f"the shim cannot be reached: {method} {path}: {error or type(error).__name__}"
            ) from error


@asynccontextmanager
async def connect(base_url: str, *, token_path: Path, clock: Callable[[], float]) -> AsyncIterator[ShimClient]:
    """Yield a client of the shim at `base_url`; `clock` is monotonic, in seconds."""
    token = _TokenFile(token_path, clock=clock)
    async with aiohttp.ClientSession(base_url) as session:
        yield ShimClient(session, token=token.read)


class _TokenFile:
    """A token in a file, read again when it is older than TOKEN_SECONDS. A few hundred bytes of tmpfs: read in line."""

    def __init__(self, path: Path, *, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._token = ""
        self._read_at = float("-inf")

    def read(self) -> str:
        """Return the token; OSError where there is none."""
        if self._clock() - self._read_at >= TOKEN_SECONDS:
            self._token = self._path.read_text().strip()
            self._read_at = self._clock()
        return self._token


def _checked(response: aiohttp.ClientResponse, content: bytes) -> bytes:
    """Return the content of a 2xx answer; raise what the others mean."""
    if response.ok:
        return content
    what = f"the shim answered {response.status} to {response.method} {response.url.path}: {_reason(content)}"
    match response.status:
        case 401 | 403:
            raise ForbiddenError(f"{what}. Is APPFN_OPERATOR_USER of the shim the operator's ServiceAccount?")
        case 408 | 429 | 500 | 502 | 503 | 504:
            raise TransientError(what, retry_after=_seconds(response.headers.get("Retry-After")))
        case _:
            raise RejectedError(what)


def _reason(content: bytes) -> str:
    """Return the `message` of an error body; never the body itself, which may hold a payload."""
    try:
        return str(json.loads(content)["message"])[:_MAX_REASON]
    except (ValueError, KeyError, TypeError):
        return "no message"


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and header.isdecimal() else None


def _document(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _required(answer: bytes | None, path: str) -> bytes:
    """Return the answer to a call that has no 404 of its own: then the address is not a shim's."""
    if answer is None:
        raise TransientError(f"no shim answers at {path}: check APPFN_SHIM_URL")
    return answer


def _parsed(model: type[M], answer: bytes) -> M:
    """Return the typed answer. One that cannot be understood comes from another version, during an upgrade."""
    try:
        return model.model_validate_json(answer)
    except ValidationError as error:
        raise TransientError(f"the shim's answer is not a {model.__name__}: is it of another version?") from error
