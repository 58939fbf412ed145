"""The real shim as a process outside the cluster, as `support.operator_process` has the operator."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from bench.harness import ROOT
from support.polling import eventually


class Shim:
    """A running `python -m appfn shim`."""

    def __init__(self, process: asyncio.subprocess.Process, *, url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self._log = log

    async def is_ready(self) -> bool:
        """Ask /readyz."""
        assert self.process.returncode is None, self._log.read_text()
        try:
            async with aiohttp.ClientSession(self.url) as session, session.get("/readyz") as response:
                return response.status == 200  # noqa: PLR2004 - HTTP's number
        except aiohttp.ClientError:
            return False


@asynccontextmanager
async def shim(folder: Path, kubeconfig: Path, *, port: int, **environment: str) -> AsyncIterator[Shim]:
    """Run one until the context ends; yield it when it is ready."""
    log = folder / "shim.log"
    settings = {
        "APPFN_IMAGE": "appfn/appfn:bench",
        "APPFN_KUBECONFIG": str(kubeconfig),
        "APPFN_HOST": "127.0.0.1",
        "APPFN_PORT": str(port),
        "APPFN_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/executions.db",
        "APPFN_ARTIFACTS_URL": f"file://{folder}/artifacts",
        "APPFN_CACHE_DIR": f"{folder}/cache",
        "APPFN_DRAIN_SECONDS": "1",
        "PYTHONPATH": str(ROOT / "operator"),
    }
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "appfn", "shim", env=os.environ | settings | environment, stderr=stderr, stdout=stderr
        )
    running = Shim(process, url=f"http://127.0.0.1:{port}", log=log)
    try:
        await eventually(running.is_ready, within=300)
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(15):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
