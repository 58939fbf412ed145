"""What the benchmarks of cold calls share: functions nobody has called yet, and bare pods to compare them with.

A bare pod tells this machine its address as soon as it listens, and is asked at once: so the baseline is not slowed
down by the kubelet, which reports a pod's address up to a second late.
"""

import asyncio
import random
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from appfn.api.kinds import POD, Key
from appfn.kube.client import connect
from bench.harness import Context, Goal, Result, percentile, quartiles
from bench.load import CREATED, Line, shim_call
from bench.pods import NODE, PYTHON, Wanted, bare_pod, deploy, image
from support.kubectl import Json, Kubectl
from support.polling import wait_for

LANGUAGES = {NODE: "Node", PYTHON: "Python"}
POOL = 3
_PORT = 3000
_POOL_WITHIN = 60
_NODE_SERVER = """
const http = require('http'), net = require('net');
http.createServer((req, res) => { res.setHeader('Content-Length', 2); res.end('ok'); }).listen(3000, '0.0.0.0', () => {
  const [host, port] = process.env.TELL.split(':');
  net.connect(Number(port), host).end(`${process.env.ADDRESS}\\n`);
});
"""
_PYTHON_SERVER = """
import http.server, os, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200); self.send_header('Content-Length', '2'); self.end_headers(); self.wfile.write(b'ok')
server = http.server.HTTPServer(('0.0.0.0', 3000), Handler)
host, port = os.environ['TELL'].split(':')
with socket.create_connection((host, int(port))) as told:
    told.sendall(os.environ['ADDRESS'].encode() + b'\\n')
server.serve_forever()
"""
_COMMANDS = {NODE: ("node", "-e", _NODE_SERVER), PYTHON: ("python3", "-c", _PYTHON_SERVER)}
_ADDRESS: Json = {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cold:
    """Times in milliseconds."""

    ours: list[float]
    bare: list[float]
    pool: bool
    """Whether there were pool pods to claim."""


def measure(
    context: Context, runtime: str, *, count: int, spec: dict[str, object] | None = None, pooled: bool = True
) -> Cold:
    """Call so many fresh functions once each, each time beside a bare pod; `spec`: what the functions ask for."""
    with context.project() as (project, key), listening(context) as (listener, told):
        project("annotate", "namespace", project.namespace, f"pool.appfn.dev/{runtime}={POOL if pooled else 0}")
        spec = {"scaling": {"idleSeconds": 5}, **(spec or {})}
        names = [f"cold-{number}" for number in range(count)]
        deploy(project, *(Wanted(name=name, runtime=runtime, spec=spec) for name in names))
        pool, address = pooled and has_pool(project), context.shim_address
        found = Cold(ours=[], bare=[], pool=pool)
        container = image(context, runtime)
        for name in names:
            if pool:
                wait_for(lambda: full(project), within=120, pause=0.3)
            time.sleep(random.uniform(0.5, 1.5))  # noqa: S311 - fixed pauses lock onto the kubelet's tick
            call = shim_call(address, project.namespace, key, name)
            with Line(call.address) as line:  # a caller that is connected: TCP is not what is measured
                reply = line.post(call.bytes())
            assert reply.status == CREATED, reply
            assert b'"completed"' in reply.body, reply
            found.ours.append(1000 * reply.seconds)
            time.sleep(random.uniform(0.3, 1.0))  # noqa: S311 - likewise
            manifest = _bare(project, runtime, container, told)
            found.bare.append(1000 * asyncio.run(_bare_answer(context, listener, manifest)))
            project("delete", "pod", manifest["metadata"]["name"], "--wait=false", "--grace-period=0")
        return found


def has_pool(project: Kubectl) -> bool:
    """Tell whether a pool comes to be: an appfn without pools is measured too."""
    try:
        wait_for(lambda: full(project), within=_POOL_WITHIN)
    except AssertionError:
        return False
    return True


def full(project: Kubectl) -> bool:
    """Tell whether all pods of the pool can be claimed."""
    pods = project.list("pods", "-l", "appfn.dev/pool")
    return sum(_is_ready(pod) for pod in pods) >= POOL


def _is_ready(pod: Json) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


@contextmanager
def listening(context: Context) -> Iterator[tuple[socket.socket, str]]:
    """Yield a socket that pods can tell their address, and where that is."""
    with socket.create_server(("0.0.0.0", 0)) as listener:  # noqa: S104 - pods come by another interface
        listener.settimeout(60)
        yield listener, f"{context.node_address}:{listener.getsockname()[1]}"


def _bare(project: Kubectl, runtime: str, container: str, told: str) -> Json:
    name = f"bare-{secrets.token_hex(4)}"
    manifest = bare_pod(name, container, _COMMANDS[runtime], {"TELL": told})
    manifest["metadata"]["namespace"] = project.namespace
    manifest["spec"]["containers"][0]["env"].append(_ADDRESS)
    return manifest


async def _bare_answer(context: Context, listener: socket.socket, manifest: Json) -> float:
    """Return the seconds from asking for a bare pod to its first answer."""
    async with connect(context.admin.kubeconfig) as cluster:
        await cluster.get(POD, _nobody(manifest))  # the connection is there, as the shim's is
        answered = asyncio.create_task(asyncio.to_thread(_first_answer, listener))
        begun = time.perf_counter()
        await cluster.create(POD, manifest)
        return await answered - begun


def _nobody(manifest: Json) -> Key:
    return Key(manifest["metadata"]["namespace"], "nobody")


def _first_answer(listener: socket.socket) -> float:
    connection, _ = listener.accept()
    with connection, connection.makefile() as told:
        address = told.readline().strip()
    with Line((address, _PORT)) as line:
        line.post(b"POST / HTTP/1.1\r\nHost: bare\r\nContent-Length: 0\r\n\r\n")
    return time.perf_counter()


def results(name: str, cold: Cold, *, p50: Goal, p95: Goal | None) -> Sequence[Result]:
    """Return median and 95th percentile beside those of the bare pod."""
    against = "a bare pod" if cold.pool or "empty" in name else "a bare pod; there was no pool"
    return [
        Result(
            name=f"{name} p{percent}",
            unit="ms",
            value=percentile(cold.ours, percent),
            baseline=percentile(cold.bare, percent),
            against=against,
            n=len(cold.ours),
            spread=quartiles(cold.ours),
            goal=goal,
        )
        for percent, goal in ((50, p50), (95, p95))
    ]
