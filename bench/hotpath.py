"""What a synchronous call costs in the shim itself, beside a bare aiohttp handler.

    make hotpath                            # the table
    make hotpath ARGS="--flame docs/hot-path.svg"

The real application with its real store, authenticator and catalogue; a function that answers at once stands where the
dispatcher would be, and the few objects it reads where the cluster would. Each server is a process of its own, and so
is the load. CPU is that of the whole server, the process that writes records included: it does not depend on what else
runs.
"""

import argparse
import asyncio
import base64
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from appfn import config as configuration
from appfn.api.execution import ExecutionPhase
from appfn.api.kinds import DEPLOYMENT, FUNCTION, NAMESPACE, RUNTIME, SECRET, Key, Kind
from appfn.core.records import Invocation, Outcome, Times
from appfn.dispatch.stats import Counters, Replicas
from appfn.shim.app import create_app
from appfn.shim.auth import api_key
from appfn.shim.front.site import FrontSite
from appfn.shim.run import make_runner
from appfn.shim.services import SURROUNDINGS, Surroundings
from appfn.telemetry import configure_logging
from bench import flame

Json = dict[str, Any]

PROJECT = "shop"
API_KEY = api_key.ApiKey("0123456789abcdef", "ab" * 32)
TARGET = "/v1/functions/hello/executions"
BODY = json.dumps({"body": json.dumps({"customer": "42", "items": list(range(10))}), "async": False, "path": "/pay"})
RESPONSE = json.dumps({"message": "Hello from Appwrite!", "payload": "x" * 40, "trigger": "http"})
HEADERS = {
    "Host": "appfn-shim",
    "User-Agent": "AppwritePythonSDK/7.0.0 (linux)",
    "Content-Type": "application/json",
    "X-Appwrite-Project": PROJECT,
    "X-Appwrite-Key": API_KEY.text(),
    "X-Appwrite-Response-Format": "1.8.0",
    "Content-Length": str(len(BODY)),
}
_LINES = [f"POST {TARGET} HTTP/1.1", *(f"{name}: {value}" for name, value in HEADERS.items())]
REQUEST = ("\r\n".join(_LINES) + "\r\n\r\n" + BODY).encode()
_WARM_UP = 2000


# ---------------------------------------------------------------------- stand-ins


def _meta(name: str, namespace: str = "", **more: Any) -> Json:
    created = "2026-01-01T00:00:00Z"
    return {"name": name, "namespace": namespace, "uid": f"uid-{name}", "creationTimestamp": created, **more}


def _objects() -> dict[Kind, list[Json]]:
    runtime = {
        "language": "python",
        "version": "3.13",
        "displayName": "Python",
        "enabled": True,
        "loadMode": "Import",
        "images": [{"architecture": "amd64", "image": "runtime"}],
        "entrypoint": "main.py",
        "buildCommand": "true",
        "startCommand": "true",
        "concurrency": 64,
    }
    variables = [{"name": "GREETING", "value": "hello"}]
    build = {"architecture": "amd64", "phase": "ready", "artifact": {"digest": "sha256:" + "a" * 64, "size": 10}}
    secret = api_key.manifest(
        API_KEY, namespace=PROJECT, name="bench", scopes=frozenset({"executions.write"}), expires=None
    )
    return {
        NAMESPACE: [{"metadata": _meta(PROJECT, labels={"appfn.dev/project": PROJECT})}],
        RUNTIME: [{"metadata": _meta("python"), "spec": runtime}],
        FUNCTION: [
            {
                "metadata": _meta("hello", PROJECT),
                "spec": {"runtime": "python", "variables": variables},
                "status": {"activeDeployment": "hello-v1"},
            }
        ],
        DEPLOYMENT: [
            {
                "metadata": _meta("hello-v1", PROJECT),
                "spec": {"functionRef": {"name": "hello"}, "source": {"inline": {"files": {"main.py": "x"}}}},
                "status": {"phase": "ready", "builds": [build]},
            }
        ],
        SECRET: [_stored(secret)],
    }


def _stored(secret: Json) -> Json:
    data = {name: base64.b64encode(value.encode()).decode() for name, value in secret["stringData"].items()}
    return secret | {"data": data}


class _Cache:
    def __init__(self, objects: list[Json]) -> None:
        self._items = {Key(item["metadata"].get("namespace", ""), item["metadata"]["name"]): item for item in objects}

    def get(self, key: Key) -> Json | None:
        return self._items.get(key)

    def items(self) -> Mapping[Key, Json]:
        return self._items

    def subscribe(self, _listener: Callable[[Any], None]) -> Callable[[], None]:
        return lambda: None


class Cluster:
    """As much of Kubernetes as one call needs."""

    def __init__(self) -> None:
        self._objects = _objects()

    @asynccontextmanager
    async def watch(self, kind: Kind, **_: str) -> AsyncIterator[_Cache]:
        """Yield a cache that never changes."""
        yield _Cache(self._objects.get(kind, []))

    async def get(self, kind: Kind, key: Key) -> Json | None:
        """Return an object."""
        return _Cache(self._objects.get(kind, [])).get(key)

    async def list(self, kind: Kind, **_: str) -> list[Json]:
        """Return all objects of a kind."""
        return self._objects.get(kind, [])

    async def create(self, _kind: Kind, manifest: Json) -> Json:
        """Pretend."""
        return manifest


@dataclass(slots=True)
class Instantly:
    """A dispatcher whose functions have always just answered."""

    _outcome: Outcome = field(
        default_factory=lambda: Outcome(
            phase=ExecutionPhase.COMPLETED,
            status_code=200,
            response=RESPONSE,
            stdout="printed",
            duration=0.001,
            times=Times(run_ms=1),
        )
    )

    async def invoke(self, _invocation: Invocation, *_: object, **__: object) -> Outcome:
        """Answer."""
        return self._outcome

    def overloaded(self, *_: str) -> float | None:
        """Say no."""
        return None

    def sync(self, _targets: object) -> None:
        """Take no notice."""

    def functions(self) -> Mapping[tuple[str, str], Replicas]:
        """Return none."""
        return {}

    def counters(self) -> Counters:
        """Return zeros."""
        return Counters()

    async def drain(self, _seconds: float) -> bool:
        """Return at once."""
        return True


@asynccontextmanager
async def _make_invoker(*_: object) -> AsyncIterator[Instantly]:
    yield Instantly()


# ---------------------------------------------------------------------- servers


def _appfn(folder: str) -> web.Application:
    environ = {
        "APPFN_IMAGE": "appfn",
        "APPFN_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/executions.db",
        "APPFN_ARTIFACTS_URL": f"file://{folder}/artifacts",
        "APPFN_CACHE_DIR": f"{folder}/cache",
        "APPFN_METRICS_PORT": "0",
    }
    config = configuration.load(environ)
    return create_app(Surroundings(config=config, cluster=Cluster(), make_invoker=_make_invoker))  # type: ignore[arg-type]


def _bare(answer: bytes) -> web.Application:
    async def handler(request: web.Request) -> web.Response:
        json.loads(await request.read())
        return web.Response(body=answer, status=201, content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/functions/{functionId}/executions", handler)
    return app


def _serve(make: Callable[[str], web.Application], pipe: Connection, profile: str) -> None:
    """Be a server process until the pipe closes; `profile` names the file for a flame graph."""
    with tempfile.TemporaryDirectory(prefix="hotpath-") as folder, Path(folder, "log").open("w") as log:
        sys.stderr = log  # a file, as a container's log is
        configure_logging("INFO")
        uvloop.run(_served(make(folder), pipe, profile))
        sys.stderr = sys.__stderr__


async def _served(app: web.Application, pipe: Connection, profile: str) -> None:
    runner = make_runner(app)
    await runner.setup()
    host = "127.0.0.1"
    site = FrontSite(runner, host, 0) if SURROUNDINGS in app else web.TCPSite(runner, host, 0)
    await site.start()
    pipe.send(runner.addresses[0][1])
    with flame.written(profile):
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    await runner.cleanup()


# ---------------------------------------------------------------------- load


class _Connection(asyncio.Protocol):
    """One kept-alive connection that has one request under way at a time."""

    def __init__(self, left: list[int], taken: list[float], done: asyncio.Event) -> None:
        self._left, self._taken, self._done = left, taken, done
        self._buffer = bytearray()
        self._sent = 0.0
        self.answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if self._left[0] <= 0:
            self._transport.close()
            return
        self._left[0] -= 1
        self._sent = time.perf_counter()
        self._transport.write(REQUEST)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.lower().index(b"content-length:") + 15
        size = int(self._buffer[at : self._buffer.index(b"\r\n", at)])
        if len(self._buffer) < head + 4 + size:
            return
        self._taken.append(time.perf_counter() - self._sent)
        if not self._buffer.startswith(b"HTTP/1.1 201"):
            raise SystemExit(f"unexpected answer: {bytes(self._buffer[:500])!r}")
        self.answer = bytes(self._buffer[head + 4 :])
        self._buffer.clear()
        self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        self._done.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a load showed: seconds of each request, of all together, and of the server's CPU."""

    each: list[float]
    wall: float
    cpu: float
    answer: bytes


async def _load(port: int, pid: int, *, connections: int, requests: int) -> Load:
    left, taken = [requests], list[float]()
    loop = asyncio.get_running_loop()
    before, start = _cpu(pid), time.perf_counter()
    made = []
    for _ in range(connections):
        done = asyncio.Event()
        make = partial(_Connection, left, taken, done)
        _, protocol = await loop.create_connection(make, "127.0.0.1", port)
        made.append((protocol, done))
    for _, done in made:
        await done.wait()
    wall = time.perf_counter() - start
    return Load(each=taken, wall=wall, cpu=_cpu(pid) - before, answer=made[0][0].answer)


def _cpu(pid: int) -> float:
    """Return the CPU seconds of a process so far, of its threads and of the processes they have started."""
    total = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0]) / 1e9
        total += sum(_cpu(int(child)) for child in (task / "children").read_text().split())
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table."""

    name: str
    p50: float
    single_cpu: float
    rate: float
    cpu: float
    answer: bytes


def measure(name: str, make: Callable[[str], web.Application], *, requests: int, profile: str = "") -> Row:
    """Run a server and load it, one connection first, then 32."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(make, theirs, profile), daemon=True)
    process.start()
    try:
        port, pid = ours.recv(), process.pid or 0
        uvloop.run(_load(port, pid, connections=8, requests=_WARM_UP))
        single = uvloop.run(_load(port, pid, connections=1, requests=requests // 4))
        many = uvloop.run(_load(port, pid, connections=32, requests=requests))
    finally:
        ours.send("stop")
        process.join(20)
    return Row(
        name=name,
        p50=statistics.median(single.each) * 1e6,
        single_cpu=single.cpu / len(single.each) * 1e6,
        rate=len(many.each) / many.wall,
        cpu=many.cpu / len(many.each) * 1e6,
        answer=single.answer,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flame", default="", help="write a flame graph (SVG) instead")
    arguments = parser.parse_args()
    if arguments.flame:
        measure("appfn", _appfn, requests=arguments.requests, profile=str(Path(arguments.flame).resolve()))
        return
    rows: dict[str, list[Row]] = {"bare aiohttp": [], "appfn": []}
    for _ in range(arguments.rounds):
        rows["appfn"].append(ours := measure("appfn", _appfn, requests=arguments.requests))
        bare = measure("bare aiohttp", lambda _: _bare(ours.answer), requests=arguments.requests)
        rows["bare aiohttp"].append(bare)
    print(f"{'':14}{'c=1 p50 µs':>12}{'c=1 CPU µs':>12}{'c=32 req/s':>12}{'c=32 CPU µs':>13}")
    best = {name: _best(found) for name, found in rows.items()}
    for name, (p50, single, rate, cpu) in best.items():
        print(f"{name:14}{p50:12.0f}{single:12.0f}{rate:12.0f}{cpu:13.0f}")
    ratios = [a / b for a, b in zip(best["appfn"], best["bare aiohttp"], strict=True)]
    print(
        f"{'ratio':14}" + "".join(f"{ratio:{width}.2f}" for ratio, width in zip(ratios, (12, 12, 12, 13), strict=True))
    )


def _best(rows: list[Row]) -> tuple[float, float, float, float]:
    """Return the best of each column: what others run on the machine only ever adds."""
    return (
        min(row.p50 for row in rows),
        min(row.single_cpu for row in rows),
        max(row.rate for row in rows),
        min(row.cpu for row in rows),
    )


if __name__ == "__main__":
    main()
