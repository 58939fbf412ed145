"""What the benchmarks of warm calls share."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.harness import Context
from bench.load import CREATED, Call, Line, Load, shim_call, wrk
from bench.pods import CODE, NODE, Wanted, answers, deploy, direct_pod
from support.kubectl import Kubectl
from support.polling import wait_for

_WARM_UP = 1.0
"""Seconds of load per pod before it is measured: connections are made, and the pod compiles its code."""


@contextmanager
def bare_proxy(target: Call, *, loop: str = "asyncio") -> Iterator[Call]:
    """Yield the call through a bare aiohttp proxy on this machine, which runs on `asyncio` or `uvloop`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    host, target_port = target.address
    url = f"http://{host}:{target_port}/"
    process = subprocess.Popen([sys.executable, str(Path(__file__).parent / "bare_proxy.py"), str(port), url, loop])
    try:
        call = replace(target, address=("127.0.0.1", port))
        wait_for(lambda: answers(call), within=30)
        yield call
    finally:
        process.terminate()
        process.wait()


@contextmanager
def function_and_pod(context: Context, name: str, **scaling: object) -> Iterator[tuple[Call, Call]]:
    """Yield a call of a Node function through the shim, warm, and one of a pod like its own, directly."""
    with context.project() as (project, key), direct_pod(context, project, CODE[NODE]) as direct:
        deploy(project, Wanted(name=name, spec={"scaling": {"idleSeconds": 600, **scaling}}))
        through = shim_call(context.shim_address, project.namespace, key, name)
        first_answer(through)
        yield through, direct


def first_answer(call: Call, *, within: float = 90) -> None:
    """Call until the function answers."""
    wait_for(lambda: answers(call, CREATED), within=within)


def loaded_pods(project: Kubectl, function: str, count: int) -> None:
    """Return when a function has so many pods that run."""
    selector = f"appfn.dev/component=runtime,appfn.dev/function={function}"

    def probe() -> bool:
        phases = [pod["status"].get("phase") for pod in project.list("pods", "-l", selector)]
        return phases.count("Running") >= count

    wait_for(probe, within=180)


def rounds(count: int, *measures: Callable[[], Load]) -> list[list[Load]]:
    """Run the measures in turn so many times; return the loads of each."""
    found: list[list[Load]] = [[] for _ in measures]
    for _ in range(count):
        for loads, measure in zip(found, measures, strict=True):
            loads.append(measure())
    return found


def steadily(call: Call, *, connections: int, seconds: float, pods: int = 1) -> Callable[[], Load]:
    """Return a measure: load on so many pods that goes on without a pause, all answered well."""
    with contextlib.suppress(RuntimeError):
        wrk(call, connections=connections, seconds=_WARM_UP * pods)
    return lambda: wrk(call, connections=connections, seconds=seconds).faultless()


def paced(call: Call, *, seconds: float, interval: float, status: int = CREATED) -> list[float]:
    """Call one by one at an interval; return the times of the answers in milliseconds."""
    request, times = call.bytes(), []
    end = time.monotonic() + seconds
    with Line(call.address) as line:
        while time.monotonic() < end:
            reply = line.post(request)
            assert reply.status == status, reply
            times.append(1000 * reply.seconds)
            time.sleep(max(0.0, interval - reply.seconds))
    return times
