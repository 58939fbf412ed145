"""The agent's HTTP server in a runtime pod: takes one load from the dispatcher (`POST /load`).

A thread per connection; connections are few and only the shim may open them (NetworkPolicy), but user code shares the
pod's loopback address, or the very container, so every call is authenticated by a token that user code can't read: the
agent itself knows only its hash. A pod made for one function is born with the hash, a pod of a pool is told it by the
shim.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from appfn.agent.announce import Announcement
from appfn.agent.archive import ARTIFACT_LIMITS
from appfn.agent.failure import AgentError, ArchiveError
from appfn.agent.layout import Layout
from appfn.agent.load import AlreadyLoadedError, BootError, Load, Loader, LoadSettings
from appfn.agent.load_mode import LoadMode
from appfn.agent.start_signal import Start, StartSignal, make_fifo

IDLE_SECONDS = 30.0
"""A peer that sends nothing for so long is dropped; a load that stalls makes the pod free again."""
LINGER_SECONDS = 2.0
HEADER = "X-Appfn-Load"
ALREADY_LOADED = "this pod has been given its code already"
ARM_SECONDS = 5.0
"""How long a load waits for the hash of its token: the shim may be faster here than its own answer to us."""


class Lock:
    """What a load's token is checked against."""

    def __init__(self, sha256: str = "") -> None:
        """`sha256`: hex digest of the token; empty while it is not known."""
        self._sha256 = sha256
        self._armed = threading.Event()
        if sha256:
            self._armed.set()

    @property
    def armed(self) -> bool:
        """Tell whether there is a token that opens it."""
        return self._armed.is_set()

    def arm(self, sha256: str) -> None:
        """Learn the digest; the first one stands."""
        if not self.armed:
            self._sha256 = sha256
            self._armed.set()

    def opens(self, token: str) -> bool:
        """Tell, in constant time, whether this is the token; wait a little where it is not known yet."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        return self._armed.wait(ARM_SECONDS) and hmac.compare_digest(digest, self._sha256)


class AgentServer(ThreadingHTTPServer):
    """The server; `loader` is the pod's state."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], *, loader: Loader, lock: Lock) -> None:
        super().__init__(address, _Handler)
        self.loader = loader
        self.lock = lock

    def server_bind(self) -> None:
        """Bind without the reverse look-up of the base class, which may wait for DNS."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a peer that went away; anything else is a mistake worth a trace."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "appfn-agent"
    sys_version = ""
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    server: AgentServer

    def do_GET(self) -> None:
        match self.path:
            case "/healthz":
                self._answer(HTTPStatus.OK, {"status": "ok"})
            case "/readyz" if self.server.lock.armed and self.server.loader.ready:
                self._answer(HTTPStatus.OK, {"status": "ready"})
            case "/readyz":
                self._answer(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    {"status": "the runtime does not wait for code yet, or the shim has not answered"},
                )
            case "/state" if self._authenticated():
                self._answer(HTTPStatus.OK, {"loaded": self.server.loader.loaded, "digest": self.server.loader.digest})
            case "/state":
                self._refuse(HTTPStatus.UNAUTHORIZED, "Unauthorized", "the token is missing or wrong")
            case _:
                self._refuse(HTTPStatus.NOT_FOUND, "NotFound", "there is POST /load, GET /state and GET /healthz")

    def do_POST(self) -> None:
        if not self._acceptable():
            return
        body = _Body(self.rfile, int(self.headers["Content-Length"]))
        try:
            load = self._load()
            done = self.server.loader.take(load, body)
        except ValueError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, "BadRequest", f"{HEADER}: {error}", drain=body.left)
        except AlreadyLoadedError:
            self._refuse(HTTPStatus.CONFLICT, "AlreadyLoaded", ALREADY_LOADED, drain=body.left)
        except AgentError as error:
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, error.reason, error.message, drain=body.left)
        except BootError as error:
            self._refuse(HTTPStatus.GATEWAY_TIMEOUT, "BootTimeout", str(error))
        else:
            self._answer(HTTPStatus.OK, {"unpackMs": round(done.unpack_ms, 3), "bootMs": round(done.boot_ms, 3)})

    def handle_expect_100(self) -> bool:
        """Say that a body may be sent only where it would be taken."""
        return self._acceptable() and super().handle_expect_100()

    def _acceptable(self) -> bool:
        """Tell whether the head of a request is that of a load that could succeed; else answer it."""
        if self.path != "/load":
            self._refuse(HTTPStatus.NOT_FOUND, "NotFound", "there is POST /load, GET /state and GET /healthz")
        elif not self._authenticated():
            self._refuse(HTTPStatus.UNAUTHORIZED, "Unauthorized", "the token is missing or wrong")
        elif not self.headers.get("Content-Length", "").isdecimal() or "Transfer-Encoding" in self.headers:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "LengthRequired", "send the tarball with a Content-Length")
        elif (size := int(self.headers["Content-Length"])) > ARTIFACT_LIMITS.compressed:
            limit = ARTIFACT_LIMITS.compressed >> 20
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "TooLarge", f"the tarball is larger than {limit} MiB")
        elif not self.server.loader.free:
            self._refuse(HTTPStatus.CONFLICT, "AlreadyLoaded", ALREADY_LOADED, drain=size)
        else:
            return True
        return False

    def _authenticated(self) -> bool:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.server.lock.opens(token.strip())

    def _load(self) -> Load:
        """Parse the load's description; long ones come in several headers of the same name, in order.

        Raises:
            ValueError: it is not what it should be.
        """
        text = "".join(self.headers.get_all(HEADER) or [])
        document = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        match document:
            case {"digest": str(digest), "entrypoint": str(entrypoint), "key": str(key), "env": dict(env)} if key:
                environment = {str(name): str(value) for name, value in env.items()}
                return Load(digest=digest, start=Start(entrypoint=entrypoint, key=key, environment=environment))
            case _:
                raise ValueError("digest, entrypoint, key and env are wanted")

    def _answer(self, status: HTTPStatus, document: dict[str, Any], *, close: bool = False) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if close:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, reason: str, message: str, *, drain: int = 65_536) -> None:
        """Answer with an error and end the connection.

        Up to `drain` bytes are read on, as a peer still sending would be reset and might not see the answer.
        """
        self.close_connection = True
        self._answer(status, {"reason": reason, "message": message}, close=True)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER_SECONDS)
            while drain > 0 and (chunk := self.connection.recv(65_536)):
                drain -= len(chunk)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Write no access log: the dispatcher's record of a load has all there is to say."""


class _Body:
    """A request's body, which ends after its Content-Length."""

    def __init__(self, source: Any, length: int) -> None:
        self._source = source
        self.left = length

    def read(self, size: int, /) -> bytes:
        if not self.left:
            return b""
        chunk: bytes = self._source.read1(min(size, self.left))
        if not chunk:
            raise ArchiveError("the connection ended before the code did")
        self.left -= len(chunk)
        return chunk


def run(environ: Mapping[str, str]) -> int:
    """Serve until the pod ends; the FIFO comes first, as the runtime may be waiting for it."""
    layout = Layout(Path(environ.get("APPFN_DIR", "/appfn")))
    make_fifo(layout.start)
    mode = LoadMode(environ["APPFN_LOAD_MODE"])
    if mode is LoadMode.EXEC:
        layout.prepare_folders()
    settings = LoadSettings(
        mode=mode,
        boot_seconds=float(environ.get("APPFN_BOOT_SECONDS", "60")),
        runtime_address=("127.0.0.1", int(environ.get("APPFN_RUNTIME_PORT", "3000"))),
    )
    address = ("0.0.0.0", int(environ.get("APPFN_AGENT_PORT", "3001")))  # noqa: S104 - pods are reached by their address
    start, lock = StartSignal(layout.start), Lock(environ.get("APPFN_LOAD_TOKEN_SHA256", ""))
    server = AgentServer(address, loader=Loader(layout, settings, start), lock=lock)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # the first process of a container ignores it otherwise
    shutil.rmtree(layout.incoming, ignore_errors=True)
    if (announcement := Announcement.read(environ)) is not None:  # last: the shim loads as soon as it hears of us
        announcement.start(start, lock.arm)
    server.serve_forever()
    return 0
