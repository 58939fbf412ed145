"""Callers: one by one over a raw socket, or many at once by wrk."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

_SCRIPT = Path(__file__).parent / "post.lua"
_THREADS = 2
_GRACE = 60
OK = 200
CREATED = 201
ACCEPTED = 202
TOO_MANY = 429


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One POST, to whom and with what."""

    address: tuple[str, int]
    path: str
    headers: Mapping[str, str]
    body: bytes

    def bytes(self) -> bytes:
        """Return it as it goes over the wire."""
        headers = {"Host": self.address[0], **self.headers, "Content-Length": str(len(self.body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {self.path} HTTP/1.1\r\n{head}\r\n".encode() + self.body


def shim_call(
    address: tuple[str, int], project: str, key: str, function: str, *, data: str = "", asynchronous: bool = False
) -> Call:
    """Return a call of a function through the shim, by an API key."""
    headers = {
        "Content-Type": "application/json",
        "X-Appwrite-Project": project,
        "X-Appwrite-Key": key,
        "X-Appwrite-Response-Format": "1.0.0",
    }
    body = json.dumps({"data": data, "async": asynchronous}).encode()
    return Call(address=address, path=f"/v1/functions/{function}/executions", headers=headers, body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer and how long it took."""

    status: int
    head: bytes
    body: bytes
    seconds: float


class Line:
    """A kept-alive connection on which one request follows the other."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket: Final = socket.create_connection(address, timeout=70)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def post(self, request: bytes) -> Reply:
        """Send a request and return the whole answer; it must have a Content-Length."""
        begun = time.perf_counter()
        self._socket.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        length = _length(head)
        while len(body) < length:
            body += self._more()
        seconds = time.perf_counter() - begun
        return Reply(status=int(head[9:12]), head=head, body=body, seconds=seconds)

    def _more(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("closed in the middle of an answer")
        return data


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ConnectionError(f"an answer without Content-Length: {head[:200]!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What wrk saw; times in milliseconds."""

    requests: int
    seconds: float
    bad: int
    """Answers with a status of 400 and more."""
    broken: int
    """Connections refused, broken off or silent for too long."""
    p50: float
    p99: float
    statuses: Mapping[str, int] = field(default_factory=dict)
    """Counted only where asked for."""

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (self.requests - self.bad) / self.seconds

    def faultless(self) -> Self:
        """Return itself, if every request was answered well; what was measured is worthless otherwise."""
        if self.bad or self.broken:
            raise RuntimeError(f"{self.bad} bad answers and {self.broken} broken connections of {self.requests}")
        return self


def start_wrk(
    call: Call, *, connections: int, seconds: float, pause: float = 0, count: bool = False
) -> subprocess.Popen[str]:
    """Start wrk; `pause` is the mean time (seconds) a connection waits between two requests."""
    host, port = call.address
    environment = os.environ | {
        "BENCH_BODY": call.body.decode(),
        "BENCH_HEADERS": "".join(f"{name}: {value}\n" for name, value in call.headers.items()),
        "BENCH_PAUSE_MS": str(round(pause * 1000)),
    }
    if count:
        environment["BENCH_COUNT"] = "1"
    threads = min(_THREADS, connections)
    command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "-s", str(_SCRIPT)]
    return subprocess.Popen(
        [*command, f"http://{host}:{port}{call.path}"], env=environment, stdout=subprocess.PIPE, text=True
    )


def finish_wrk(process: subprocess.Popen[str], *, seconds: float) -> Load:
    """Return what it saw when it has ended."""
    output, _ = process.communicate(timeout=seconds + _GRACE)
    line = next((line for line in output.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise RuntimeError(f"wrk failed: {output}")
    return Load(**json.loads(line.removeprefix("RESULT ")))


def wrk(call: Call, *, connections: int, seconds: float, pause: float = 0, count: bool = False) -> Load:
    """Run wrk from start to end."""
    process = start_wrk(call, connections=connections, seconds=seconds, pause=pause, count=count)
    return finish_wrk(process, seconds=seconds)
