"""What the conformance table is run against: a runtime that can be given code and then called by protocol v2."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from appfn.agent.start_signal import Start, StartSignal, as_document, make_fifo
from support.polling import eventually

ROOT = Path(__file__).parents[2]
KEY = "a-challenge"


class Language(StrEnum):
    """The runtimes of our own."""

    NODE = "node"
    PYTHON = "python"


@dataclass(frozen=True, slots=True)
class Program:
    """A function's code."""

    files: Mapping[str, str]
    entrypoint: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came back with."""

    status: int
    envelope: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A runtime that has its code (or is about to), and the client that calls it."""

    session: aiohttp.ClientSession
    url: str
    key: str = KEY

    async def call(
        self,
        payload: str = "",
        *,
        variables: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Execute the function."""
        return await self.post({"variables": variables or {}, "payload": payload, "headers": headers or {}})

    async def post(self, document: Any, *, key: str | None = None, raw: bytes | None = None) -> Answer:
        """Send any body."""
        sent = {"x-internal-challenge": self.key if key is None else key, "content-type": "application/json"}
        body = io.BytesIO(json.dumps(document).encode() if raw is None else raw)
        async with self.session.post(self.url, headers=sent, data=body) as response:
            text = await response.text()
            return Answer(response.status, await response.json() if text else {})


class RuntimeUnderTest(Protocol):
    """Starts a runtime of one language; a process here, a pod elsewhere."""

    language: Language

    def running(self, program: Program) -> AbstractAsyncContextManager[Endpoint]:
        """Yield a runtime that has been given the program."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A runtime's process that still waits for its code."""

    endpoint: Endpoint
    process: subprocess.Popen[bytes]
    folder: Path

    def load(self, program: Program) -> None:
        """Lay the code out and send the start signal, as the agent does."""
        code = self.folder / "code"
        for name, text in program.files.items():
            path = code / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        start = Start(entrypoint=program.entrypoint, key=KEY, environment=program.environment)
        StartSignal(self.folder / "start").send(as_document(start, code=code), deadline=time.monotonic() + 10)

    def container_log(self) -> str:
        """Return what the process wrote outside of executions."""
        return (self.folder / "container.log").read_text()


@dataclass(frozen=True, slots=True)
class LocalRuntime:
    """A runtime's server as a process of this machine."""

    language: Language
    folder: Path

    @contextlib.asynccontextmanager
    async def waiting(self, *, pooled: bool = True) -> AsyncIterator[Waiting]:
        """Yield the runtime before it has its code, as in a pool; not `pooled`: in a pod that was made for a call."""
        port = free_port()
        self.folder.mkdir()
        if not pooled:
            (self.folder / "code").mkdir()
        make_fifo(self.folder / "start")
        with (
            (self.folder / "container.log").open("wb") as log,
            subprocess.Popen(  # noqa: ASYNC220 - a fork takes no time worth a thread
                command(self.language),
                cwd=ROOT / "runtimes" / self.language,
                env=process_environment(APPFN_DIR=str(self.folder), APPFN_RUNTIME_PORT=str(port)),
                stdout=log,
                stderr=log,
            ) as process,
        ):
            try:
                await eventually(lambda: accepts(port), within=20)
                async with aiohttp.ClientSession() as session:
                    yield Waiting(Endpoint(session, f"http://127.0.0.1:{port}/"), process, self.folder)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGKILL)

    @contextlib.asynccontextmanager
    async def running(self, program: Program) -> AsyncIterator[Endpoint]:
        """Yield the runtime with its code."""
        async with self.waiting() as waiting:
            waiting.load(program)
            yield waiting.endpoint


def command(language: Language) -> list[str]:
    """Return how a server is started from its folder."""
    match language:
        case Language.NODE:
            return ["node", "src/server.cjs"]
        case Language.PYTHON:
            return [sys.executable, "-m", "appfn_runtime"]


def process_environment(**variables: str) -> dict[str, str]:
    """Return an environment as bare as a container's."""
    return {"PATH": os.environ["PATH"], "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", **variables}


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def accepts(port: int) -> bool:
    """Tell whether somebody listens on a local port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
