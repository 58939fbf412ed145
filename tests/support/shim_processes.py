"""The shim as its users start it, with several processes: `python -m appfn shim`."""

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from support.polling import eventually
from support.shim_server import ShimAt, shim_environ

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shim:
    """A supervisor and its processes."""

    supervisor: asyncio.subprocess.Process
    door: ShimAt
    """The port of them all; each request comes to any of them."""
    pids: list[int]
    """By index; the supervisor where it is alone."""
    sockets: Path
    metrics: ShimAt
    """The port of their metrics."""

    @asynccontextmanager
    async def process(self, index: int) -> AsyncIterator[ShimAt]:
        """Yield a way into one of the processes, that of its siblings."""
        connector = aiohttp.UnixConnector(str(self.sockets / f"{index}.sock"))
        async with aiohttp.ClientSession(connector=connector) as session:
            yield ShimAt("http://sibling", session)

    def living(self) -> list[int]:
        """Return the processes that run, by index."""
        return [index for index, pid in enumerate(self.pids) if _runs(pid)]

    async def ended(self) -> int:
        """Return the supervisor's exit code once nothing of the shim runs."""
        code = await asyncio.wait_for(self.supervisor.wait(), 30)

        async def probe() -> bool:
            return not self.living()

        await eventually(probe, within=30)
        return code


@asynccontextmanager
async def running_shims(
    folder: Path, kubeconfig: Path, system: str, *, processes: int, **variables: str
) -> AsyncIterator[Shim]:
    """Run a shim of so many processes; SIGTERM at the end, unless it has ended by then."""
    metrics_port = free_port()
    options = {
        "KUBECONFIG": str(kubeconfig),
        "PROCESSES": str(processes),
        "PORT": "0",
        "METRICS_PORT": str(metrics_port),
        "POD_NAME": "shim-0",
    }
    environ = shim_environ(folder, system, LOG_LEVEL="INFO", **(options | variables))
    log, sockets = folder / "log", Path()
    with log.open("wb") as stderr:
        supervisor = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "appfn", "shim"),
            env=os.environ | {"PYTHONPATH": str(ROOT / "operator")} | environ,
            stderr=stderr,
        )
    try:
        await _serving(supervisor, log, processes)
        children = sorted(_children(supervisor.pid)) if processes > 1 else [(0, supervisor.pid)]
        environment = _environment(children[0][1])
        base, sockets = f"http://127.0.0.1:{environment['APPFN_PORT']}", Path(environment.get("APPFN_SOCKETS_DIR", ""))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:
            pids = [pid for _, pid in children]
            yield Shim(
                supervisor=supervisor,
                door=ShimAt(base, session),
                pids=pids,
                sockets=sockets,
                metrics=ShimAt(f"http://127.0.0.1:{metrics_port}", session),
            )
    finally:
        if supervisor.returncode is None:
            supervisor.send_signal(signal.SIGTERM)
        await supervisor.wait()
        if sockets.name:  # a supervisor that was killed leaves it
            shutil.rmtree(sockets, ignore_errors=True)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def _serving(supervisor: asyncio.subprocess.Process, log: Path, processes: int) -> None:
    async def probe() -> bool:
        assert supervisor.returncode is None, _read(log)
        return _serving_lines(log) >= processes

    await eventually(probe, within=60)


def _serving_lines(log: Path) -> int:
    return _read(log).count('"message": "serving"')


def _read(log: Path) -> str:
    return log.read_text()


def _children(pid: int) -> Iterator[tuple[int, int]]:
    """Yield index and pid of the processes of a supervisor."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(_environment(int(child))["APPFN_PROCESS_INDEX"]), int(child)


def _environment(pid: int) -> dict[str, str]:
    items = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(item.split("=", 1) for item in items if "=" in item)


def _runs(pid: int) -> bool:
    """Tell whether a process is there and is not only waited for."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
