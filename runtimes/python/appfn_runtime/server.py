"""A small HTTP/1.1 server: a thread per connection, as the dispatcher keeps few of them open and reuses each.

It reads what the dispatcher sends and no more (a request line, headers, a body of known length); anything else ends
the connection. Python's own http.server spends more time on one call's headers than this does on the whole call.
"""

import hmac
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from http import HTTPStatus
from typing import Any, NamedTuple, NoReturn, Protocol

from .execution import Request, execute
from .loader import Code

MAX_LINE = 65_536
MAX_HEADERS = 100
MAX_BODY = 32 << 20
BACKLOG = 1024
PAUSE_SECONDS = 0.01
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_BODILESS = frozenset({204, 304})
_RUNNING_PATH = "/appfn/running"
"""Where a dispatcher that takes over the pod asks how many executions run, their callers gone or not."""


class Readable(Protocol):
    """What a connection is read through."""

    def readline(self, limit: int, /) -> bytes:
        """Return a line with its end, or the first `limit` bytes of it; nothing at the end."""

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes, fewer at the end."""


class _BadRequestError(Exception):
    """A request that isn't answered further: its connection ends."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Head(NamedTuple):
    method: str
    target: str
    challenge: bytes
    length: int
    keep: bool
    expects: bool


class Server:
    """The listening socket, the code once it is there, and the count of running calls."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._code: Code | None = None
        self._loaded = threading.Event()
        self._socket = socket.create_server(address, backlog=BACKLOG)
        self._lock = threading.Lock()
        self._running = 0
        self._stopping = False

    def use(self, code: Code) -> None:
        """Answer by this code from now on; calls that came before wait for it."""
        self._code = code
        self._loaded.set()

    def run(self) -> NoReturn:
        """Accept connections until SIGTERM, which ends an idle process at once and a busy one after its calls."""
        signal.signal(signal.SIGTERM, self._stop)
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # out of descriptors, or the peer was gone already
                time.sleep(PAUSE_SECONDS)
                continue
            try:
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
            except RuntimeError:  # out of threads
                connection.close()

    def _stop(self, *_: Any) -> None:
        self._stopping = True
        if not self._running:  # no lock: the handler runs between any two steps of the main thread
            os._exit(0)

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb", buffering=MAX_LINE) as stream:
            try:
                while self._serve_one(connection, stream):
                    pass
            except _BadRequestError as error:
                _send(connection, error.status, json.dumps({"stderr": error.message}), keep=False)
            except OSError:
                pass  # the peer is gone
            except Exception:  # noqa: BLE001 - a mistake of ours must not take the process with it
                traceback.print_exc(file=sys.__stderr__)

    def _serve_one(self, connection: socket.socket, stream: Readable) -> bool:
        """Answer one request; return whether another may follow."""
        head = _read_head(stream)
        if head is None:
            return False
        with self._lock:
            self._running += 1
        try:
            if head.expects:
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = stream.read(head.length)
            if len(body) < head.length:
                return False
            self._loaded.wait()
            assert self._code is not None
            status, envelope = _answer(self._code, head, body, others=self._running - 1)
            _send(connection, status, envelope, keep=head.keep and not self._stopping)
        finally:
            with self._lock:
                self._running -= 1
                if self._stopping and not self._running:
                    os._exit(0)
        return head.keep


def _read_head(stream: Readable) -> _Head | None:
    """Return the head of the next request, None where the connection has ended."""
    line = stream.readline(MAX_LINE)
    if not line:
        return None
    parts = line.split()
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):  # noqa: PLR2004 - method, target, version
        raise _BadRequestError(400, "This is not an HTTP/1 request.")
    headers: dict[bytes, bytes] = {}
    while (line := stream.readline(MAX_LINE)) not in {b"\r\n", b"\n"}:
        name, colon, value = line.partition(b":")
        if not colon or not line.endswith(b"\n") or len(headers) == MAX_HEADERS:
            raise _BadRequestError(400, "The request's headers cannot be read.")
        headers[name.lower()] = value.strip()
    length = headers.get(b"content-length", b"0")
    if b"transfer-encoding" in headers or not length.isdigit():
        raise _BadRequestError(411, "Send the body with a Content-Length.")
    if int(length) > MAX_BODY:
        raise _BadRequestError(413, f"The request is larger than {MAX_BODY} bytes.")
    return _Head(
        method=parts[0].decode("latin-1"),
        target=parts[1].decode("latin-1"),
        challenge=headers.get(b"x-internal-challenge", b""),
        length=int(length),
        keep=headers.get(b"connection", b"").lower() != b"close" and parts[2] != b"HTTP/1.0",
        expects=headers.get(b"expect", b"").lower() == b"100-continue",
    )


def _answer(code: Code, head: _Head, body: bytes, *, others: int) -> tuple[int, str]:
    """Return status and body; `others`: requests that run besides this one."""
    if not hmac.compare_digest(head.challenge, code.key):
        return 500, '{"stderr":"Unauthorized"}'
    if head.target == _RUNNING_PATH:
        return 200, json.dumps({"running": others})
    if head.method != "POST":
        return 405, '{"stderr":"Only POST is answered."}'
    try:
        request = _parse(body)
    except ValueError as error:
        return 400, json.dumps({"stderr": str(error)})
    return execute(code, request)


def _parse(body: bytes) -> Request:
    """Return the request of a call.

    Raises:
        ValueError: saying what is wrong with the body.
    """
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The request body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError("The request body is not a JSON object.")  # noqa: TRY004 - the caller answers one kind
    payload = document.get("payload")
    return Request(
        variables=_object(document.get("variables")),
        headers=_object(document.get("headers")),
        payload=payload if isinstance(payload, str) else "" if payload is None else json.dumps(payload),
    )


def _object(value: Any) -> dict[str, Any]:
    """Return an object; PHP encodes an empty one as []."""
    return value if isinstance(value, dict) else {}


def _send(connection: socket.socket, status: int, envelope: str, *, keep: bool) -> None:
    head = f"HTTP/1.1 {status} {_PHRASES.get(status, 'Status')}\r\n"
    if not keep:
        head += "Connection: close\r\n"
    if status in _BODILESS:
        connection.sendall(f"{head}\r\n".encode())
        return
    body = envelope.encode("utf-8", "replace")
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
