"""The shim's internal API as the operator's client sees it, in memory: the only part of the operator's world that its
integration tests do not run for real."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Handler

from appfn.api.base import Json

TOKEN = "operators-token"


@dataclass
class FakeShim:
    """What it was told and what it answers; tests read and change it."""

    artifacts: dict[str, bytes] = field(default_factory=dict)
    """By digest."""
    builds: dict[str, Json] = field(default_factory=dict)
    """By build key."""
    executions: dict[str, Json] = field(default_factory=dict)
    """Records by id."""
    recent: list[Json] = field(default_factory=list)
    counts: Json = field(default_factory=lambda: {"total": 0, "completed": 0, "failed": 0})
    ticks: list[Json] = field(default_factory=list)
    changes: list[Json] = field(default_factory=list)
    submissions: list[Json] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    """`METHOD path` of each request."""
    broken: int = 0
    """Status to answer everything with; 0: works."""
    retry_after: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def report(self, namespace: str, function: str, execution: str, *, origin: str, phase: str) -> None:
        """Add an entry to the change feed."""
        entry = {"namespace": namespace, "function": function, "execution": execution}
        self.changes.append({**entry, "origin": origin, "phase": phase})
        self.changed.set()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Serve on a free port; yield the base URL."""
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.put("/internal/v1/artifacts/{namespace}", self._put_artifact),
                web.get("/internal/v1/artifacts/{namespace}/{digest}", self._tail),
                web.get("/internal/v1/builds/{namespace}/{key}", self._get_build),
                web.put("/internal/v1/builds/{namespace}/{key}", self._put_build),
                web.post("/internal/v1/executions", self._submit),
                web.get("/internal/v1/executions/{namespace}/{id}", self._execution),
                web.get("/internal/v1/changes", self._changes),
                web.get("/internal/v1/functions/{namespace}/{name}/summary", self._summary),
            ]
        )
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.calls.append(f"{request.method} {request.path}")
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _answer({"message": "who are you?"}, status=401)
        if self.broken:
            return _answer({"message": "broken on purpose"}, status=self.broken, retry_after=self.retry_after)
        return await handler(request)

    async def _put_artifact(self, request: web.Request) -> web.Response:
        content = await request.read()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert request.headers["X-Appfn-Digest"] == digest
        self.artifacts[digest] = content
        return _answer({"digest": digest, "size": len(content)}, status=201)

    async def _tail(self, request: web.Request) -> web.Response:
        found = self.artifacts.get(request.match_info["digest"])
        if found is None:
            return _answer({"message": "no such artifact"}, status=404)
        lines = found.decode().splitlines(keepends=True)[-int(request.query["tailLines"]) :]
        return web.Response(text="".join(lines))

    async def _get_build(self, request: web.Request) -> web.Response:
        found = self.builds.get(request.match_info["key"])
        return _answer({"message": "no such build"}, status=404) if found is None else _answer(found)

    async def _put_build(self, request: web.Request) -> web.Response:
        self.builds[request.match_info["key"]] = await request.json()
        return _answer({})

    async def _submit(self, request: web.Request) -> web.Response:
        body: Json = await request.json()
        self.submissions.append(body)
        record = self.executions.setdefault(
            body["uid"],
            {"id": body["uid"], "origin": "resource", "status": "waiting", "createdAt": "2026-03-01T12:00:00Z"},
        )
        return _answer(record, status=202)

    async def _execution(self, request: web.Request) -> web.Response:
        found = self.executions.get(request.match_info["id"])
        return _answer({"message": "no such execution"}, status=404) if found is None else _answer(found)

    async def _changes(self, request: web.Request) -> web.Response:
        after = int(request.query["after"])
        if after < 0:
            return _answer({"next": len(self.changes), "changes": []})
        if after >= len(self.changes):
            self.changed.clear()
            await self.changed.wait()
        return _answer({"next": len(self.changes), "changes": self.changes[after:]})

    async def _summary(self, request: web.Request) -> web.Response:
        assert request.query["uid"]
        ticks = self.ticks if "ticksSince" in request.query else []
        return _answer({"counts": self.counts, "recent": self.recent, "ticks": ticks, "replicas": 0})


def _answer(body: Json, *, status: int = 200, retry_after: str = "") -> web.Response:
    headers = {"Retry-After": retry_after} if retry_after else {}
    return web.json_response(body, status=status, headers=headers)
