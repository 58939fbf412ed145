"""The shim's application on a port of its own, in the test's event loop."""

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from appfn import config as configuration
from appfn.api.base import Json
from appfn.config import Config
from appfn.kube.client import KubeCluster
from appfn.shim.app import create_app
from appfn.shim.front.site import FrontSite
from appfn.shim.run import leave, make_runner
from appfn.shim.services import CATALOG, Surroundings
from support.fake_invoker import FakeInvoker
from support.polling import eventually


def shim_config(folder: Path, system: str, **variables: str) -> Config:
    """Return a configuration that keeps everything in a folder."""
    return configuration.load(shim_environ(folder, system, **variables))


def shim_environ(folder: Path, system: str, **variables: str) -> dict[str, str]:
    """Return the environment of such a configuration."""
    environ = {
        "APPFN_IMAGE": "appfn/appfn:test",
        "APPFN_NAMESPACE": system,
        "APPFN_OPERATOR_USER": f"system:serviceaccount:{system}:appfn-operator",
        "APPFN_HOST": "127.0.0.1",
        "APPFN_PORT": "0",
        "APPFN_METRICS_PORT": "0",
        "APPFN_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/executions.db",
        "APPFN_ARTIFACTS_URL": f"file://{folder}/artifacts",
        "APPFN_CACHE_DIR": f"{folder}/cache",
        "APPFN_DRAIN_SECONDS": "5",
        "APPFN_AUTH_CACHE_SECONDS": "0",
        "APPFN_VARIABLE_CACHE_SECONDS": "0",
    }
    return environ | {f"APPFN_{name}": value for name, value in variables.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer as the client has it."""

    status: int
    headers: Any
    body: Any = field(default=None)

    @property
    def error(self) -> tuple[int, str]:
        """Status and type of an error body."""
        return self.status, self.body["type"]


class ShimAt:
    """A shim at a URL."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self.base = base
        self.session = session

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Send one request; bytes, at once or in pieces, go as they are, all else as JSON.

        `_` in header names stands for `-`.
        """
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        way = "data" if isinstance(body, bytes | io.BytesIO | AsyncIterator) else "json"
        content: Json = {} if body is None else {way: body}
        async with self.session.request(method, self.base + path, headers=sent, **content) as response:
            raw = await response.read()
            is_json = "json" in response.headers.get("Content-Type", "")
            parsed = await response.json(content_type=None) if is_json and raw else raw
            return Reply(status=response.status, headers=response.headers.copy(), body=parsed)


class ShimServer(ShimAt):
    """A shim that runs in this process."""

    def __init__(self, app: web.Application, site: web.BaseSite, session: aiohttp.ClientSession, base: str) -> None:
        super().__init__(base, session)
        self.app = app
        self.site = site

    async def sees(self, namespace: str, name: str) -> None:
        """Return when a function of the cluster can be called here."""

        async def probe() -> bool:
            return any(callee.function.metadata.key == (namespace, name) for callee in self.app[CATALOG].callees())

        await eventually(probe)

    async def leave(self) -> None:
        """Do what SIGTERM does, up to the closing of the parts."""
        await leave(self.app, self.site)


@asynccontextmanager
async def running_shim(
    cluster: KubeCluster,
    config: Config,
    invoker: FakeInvoker,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncIterator[ShimServer]:
    """Run a shim; at the end it drains and closes as after SIGTERM."""
    app = create_app(Surroundings(config=config, cluster=cluster, make_invoker=invoker.make, now=now))
    runner = make_runner(app)
    await runner.setup()
    try:
        site = FrontSite(runner, config.shim.host, config.shim.port)
        await site.start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession() as session:
            server = ShimServer(app, site, session, f"http://{host}:{port}")
            yield server
        if site in runner.sites:
            await server.leave()
    finally:
        await runner.cleanup()
