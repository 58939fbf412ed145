"""The operator as a process of its own, as it runs in its pod, without a shim to talk to."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from support.cluster import ROOT
from support.polling import eventually


class Operator:
    """A running `python -m appfn operator`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self._log = log

    def log(self) -> list[dict[str, Any]]:
        """Return what it logged."""
        lines = self._log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def output(self) -> str:
        """Return all it wrote to stderr."""
        return self._log.read_text()

    async def role(self) -> str:
        """Return what /readyz says, `starting` while it does not answer."""
        try:
            return (await self.get("/readyz"))[1]
        except aiohttp.ClientError:
            return "starting"

    async def becomes(self, role: str, *, within: float) -> None:
        """Return when it has that role."""

        async def probe() -> bool:
            assert self.process.returncode is None, self.output()
            now = await self.role()
            assert now == role
            return True

        await eventually(probe, within=within)

    async def get(self, path: str) -> tuple[int, str]:
        """Ask its health server."""
        port = next((entry["port"] for entry in self.log() if entry["message"] == "health server listens"), 1)
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
            session.get(path) as response,
        ):
            return response.status, await response.text()

    async def ends(self, *, within: float) -> int:
        """Return its exit code."""
        async with asyncio.timeout(within):
            return await self.process.wait()

    async def terminate(self, *, within: float = 10) -> int:
        """Ask it to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ends(within=within)


@asynccontextmanager
async def operator(directory: Path, kubeconfig: Path, **environment: str) -> AsyncIterator[Operator]:
    """Run one; afterwards it is killed if it still runs."""
    log = directory / f"operator-{environment.get('APPFN_POD_NAME', '0')}.log"
    settings = {
        "APPFN_IMAGE": "appfn/appfn:test",
        "APPFN_KUBECONFIG": str(kubeconfig),
        "APPFN_SHIM_URL": "http://127.0.0.1:1",
        "APPFN_HEALTH_PORT": "0",
        "APPFN_TOKEN_PATH": str(directory / "no-token"),
        "PYTHONPATH": str(ROOT / "operator"),
    }
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "appfn", "operator", env=inherited | settings | environment, stderr=stderr
        )
    try:
        yield Operator(process, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
