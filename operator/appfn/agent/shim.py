"""Client of the shim's internal API for programs that have the standard library alone."""

import contextlib
import copy
import hashlib
import http.client
import json
import os
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

from appfn.agent.retry import Patience
from appfn.errors import AppfnError

T = TypeVar("T")

CHUNK = 262_144
SOCKET_SECONDS = 30.0
MAX_ANSWER = 1 << 20
POD_HEADER = "X-Appfn-Pod"
TOKEN_PATH = Path("/var/run/secrets/appfn/token")
_AGAIN = frozenset({429, 500, 502, 503, 504})


class ShimError(AppfnError):
    """The shim refused, or could not be reached in time; `status` is 0 in the latter case."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class _Again(Exception):  # noqa: N818 - not an error yet
    """An attempt failed in a way the next may not."""


class StoredFile(NamedTuple):
    """A file in the artifact store."""

    digest: str
    size: int

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {"digest": self.digest, "size": self.size}


class ShimClient:
    """Calls the shim with the pod's token, again and again while it may yet answer."""

    def __init__(
        self,
        *,
        url: str,
        token_path: Path = TOKEN_PATH,
        token: str = "",
        speaks_for: str = "",
        patience: Patience = Patience(seconds=60.0),  # noqa: B008 - a constant
        socket_seconds: float = SOCKET_SECONDS,
    ) -> None:
        """Make a client.

        Args:
            url: base URL, without a trailing slash.
            token_path: read for every attempt, as the kubelet renews it.
            token: instead of what lies there, where given.
            speaks_for: `namespace/deployment/pod` of a token that doesn't say itself whose it is.
            patience: how long to try.
            socket_seconds: how long the shim may be silent in the middle of an attempt.
        """
        self.url = url
        self.token_path = token_path
        self.token = token
        self.speaks_for = speaks_for
        self.patience = patience
        self.socket_seconds = socket_seconds

    def in_a_hurry(self, seconds: float) -> "ShimClient":
        """Return one that gives up after so long."""
        hurried = copy.copy(self)
        hurried.patience, hurried.socket_seconds = Patience(seconds=seconds), seconds
        return hurried

    def download(self, namespace: str, digest: str, target: BinaryIO) -> int:
        """Write an artifact to `target` (from its start) and return its size.

        Raises:
            ShimError: 404 where there is none; or the bytes are not those of the digest.
        """
        path = f"/internal/v1/artifacts/{namespace}/{digest}"

        def receive(response: http.client.HTTPResponse) -> int:
            target.seek(0)
            target.truncate()
            sha256 = hashlib.sha256()
            while chunk := response.read(CHUNK):
                sha256.update(chunk)
                target.write(chunk)
            if response.length:
                raise _Again("the artifact was cut off")
            if f"sha256:{sha256.hexdigest()}" != digest:
                raise ShimError(f"the artifact is not what its digest {digest} says", status=200)
            return target.tell()

        return self._call("GET", path, receive)

    def upload(self, namespace: str, source: BinaryIO, *, digest: str) -> StoredFile:
        """Store the content of `source` (a file, from its start), which has this digest."""
        size = source.seek(0, os.SEEK_END)
        headers = {"X-Appfn-Digest": digest, "Content-Length": str(size), "Content-Type": "application/octet-stream"}
        answer = self._call("PUT", f"/internal/v1/artifacts/{namespace}", _read_json, body=source, headers=headers)
        return StoredFile(digest=str(answer["digest"]), size=int(answer["size"]))

    def build(self, namespace: str, key: str) -> Mapping[str, Any] | None:
        """Return the recorded build of a key, or None where there is none."""
        try:
            answer: Mapping[str, Any] = self._call("GET", f"/internal/v1/builds/{namespace}/{key}", _read_json)
        except ShimError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return None
            raise
        return answer

    def post(self, path: str, document: Mapping[str, Any]) -> Any:
        """Send a JSON document and return the JSON answer."""
        headers = {"Content-Type": "application/json"}
        return self._call("POST", path, _read_json, body=json.dumps(document).encode(), headers=headers)

    def _call(
        self,
        method: str,
        path: str,
        receive: Callable[[http.client.HTTPResponse], T],
        *,
        body: bytes | BinaryIO | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        trouble = ""
        for _ in self.patience.attempts():
            try:
                return self._attempt(method, path, receive, body=body, headers=headers or {})
            except _Again as error:
                trouble = str(error)
            except (OSError, http.client.HTTPException) as error:
                trouble = f"{type(error).__name__}: {error}"
        raise ShimError(f"the shim at {self.url} did not answer within {self.patience.seconds:g} s ({trouble})")

    def _attempt(
        self,
        method: str,
        path: str,
        receive: Callable[[http.client.HTTPResponse], T],
        *,
        body: bytes | BinaryIO | None,
        headers: Mapping[str, str],
    ) -> T:
        base = urllib.parse.urlsplit(self.url)
        kind = http.client.HTTPSConnection if base.scheme == "https" else http.client.HTTPConnection
        connection = kind(base.hostname or "", base.port, timeout=self.socket_seconds)
        credentials = self._credentials()
        if body is not None and not isinstance(body, bytes):
            body.seek(0)
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused midway: the answer says why
                connection.request(method, base.path + path, body, {**headers, **credentials})
            response = connection.getresponse()
            if response.status in _AGAIN:
                raise _Again(f"HTTP {response.status}")
            if response.status >= http.HTTPStatus.MULTIPLE_CHOICES:
                raise ShimError(_refusal(response), status=response.status)
            return receive(response)
        finally:
            connection.close()

    def _credentials(self) -> dict[str, str]:
        token = self.token or self.token_path.read_text().strip()
        return {"Authorization": f"Bearer {token}", **({POD_HEADER: self.speaks_for} if self.speaks_for else {})}


def _read_json(response: http.client.HTTPResponse) -> Any:
    try:
        return json.loads(response.read(MAX_ANSWER))
    except ValueError as error:
        raise _Again("the answer is not JSON") from error


def _refusal(response: http.client.HTTPResponse) -> str:
    """Return the message of an error answer, or at least its status."""
    try:
        message = json.loads(response.read(MAX_ANSWER))["message"]
    except (ValueError, KeyError, TypeError):
        message = response.reason
    return f"HTTP {response.status}: {message}"
