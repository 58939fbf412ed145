"""From a tarball on the wire to a function's answer: the agent as a process beside a runtime as a process."""

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import signal
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from conformance.cases import DOCS, ECHO
from conformance.runtimes import (
    KEY,
    ROOT,
    Answer,
    Endpoint,
    Language,
    LocalRuntime,
    Program,
    accepts,
    free_port,
    process_environment,
)
from support.polling import eventually

TOKEN = "a-load-token"
FAKE_SERVER = """
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.headers["x-internal-challenge"] == os.environ["INTERNAL_RUNTIME_KEY"]
        names = ("INTERNAL_RUNTIME_ENTRYPOINT", "QUOTED", "not-a-name")
        answer = {"response": {n: os.environ.get(n) for n in names} | call["variables"], "stdout": "", "stderr": ""}
        body = json.dumps(answer if known else {"stderr": "Unauthorized"}).encode()
        self.send_response(200 if known else 500)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def tarball(program: Program) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in program.files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent of a pod, as the dispatcher sees it."""

    session: aiohttp.ClientSession
    url: str

    async def load(self, body: bytes, *, environment: dict[str, str], digest: str = "", token: str = TOKEN) -> Answer:
        description = {
            "digest": digest or f"sha256:{hashlib.sha256(body).hexdigest()}",
            "entrypoint": "",
            "key": KEY,
            "env": environment,
        }
        encoded = base64.urlsafe_b64encode(json.dumps(description).encode()).decode().rstrip("=")
        headers = [("Authorization", f"Bearer {token}")]
        headers += [("X-Appfn-Load", encoded[start : start + 60_000]) for start in range(0, len(encoded), 60_000)]
        async with self.session.post(f"{self.url}/load", headers=headers, data=io.BytesIO(body)) as response:
            return Answer(response.status, await response.json())

    async def state(self) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self.session.get(f"{self.url}/state", headers=headers) as response:
            state: dict[str, Any] = await response.json()
            return state


@contextlib.asynccontextmanager
async def agent(folder: Path, *, mode: str, runtime_port: int, boot_seconds: int = 20) -> AsyncIterator[Agent]:
    port = free_port()
    environment = process_environment(
        PYTHONPATH=str(ROOT / "operator"),
        APPFN_DIR=str(folder),
        APPFN_LOAD_MODE=mode,
        APPFN_AGENT_PORT=str(port),
        APPFN_RUNTIME_PORT=str(runtime_port),
        APPFN_BOOT_SECONDS=str(boot_seconds),
        APPFN_LOAD_TOKEN_SHA256=hashlib.sha256(TOKEN.encode()).hexdigest(),
    )
    command = [sys.executable, "-m", "appfn", "agent", "serve"]
    with subprocess.Popen(command, env=environment) as process:  # noqa: ASYNC220 - a fork takes no time worth a thread
        try:
            await eventually(lambda: accepts(port), within=20)
            async with aiohttp.ClientSession() as session:
                yield Agent(session, f"http://127.0.0.1:{port}")
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=5) == 0


@contextlib.asynccontextmanager
async def fake_v2_image(folder: Path, port: int) -> AsyncIterator[None]:
    """Run what a container of a v2 image runs: wait for the signal, take its environment, unpack, serve."""
    start = folder / "start.sh"
    start.write_text(
        f"tar -xzf {folder}/tmp/code.tar.gz -C {folder}/code && exec python3 {folder}/code/server.py {port}\n"
    )
    wait = f"until [ -p {folder}/start ]; do sleep 0.01; done; . {folder}/start && exec sh {start}"
    with subprocess.Popen(["sh", "-c", wait], env=process_environment()) as process:  # noqa: ASYNC220 - as above
        try:
            yield
        finally:
            process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("language", list(Language))
async def test_code_is_loaded_into_a_waiting_runtime(tmp_path: Path, language: Language) -> None:
    runtime = LocalRuntime(language, tmp_path / "appfn")
    async with runtime.waiting() as waiting:
        port = int(waiting.endpoint.url.rsplit(":", 1)[1].rstrip("/"))
        async with agent(runtime.folder, mode="Import", runtime_port=port) as sidecar:
            body = tarball(DOCS[language])
            loaded = await sidecar.load(body, environment={"BIG": "x" * 100_000})
            answer = await waiting.endpoint.call("hi", variables={"APPWRITE_FUNCTION_TRIGGER": "http"})
            second = await sidecar.load(body, environment={})
            state = await sidecar.state()

    assert loaded.status == 200
    assert set(loaded.envelope) == {"unpackMs", "bootMs"}
    assert answer.envelope["response"]["payload"] == "hi"
    assert second.status == 409
    assert state == {"loaded": True, "digest": f"sha256:{hashlib.sha256(body).hexdigest()}"}


async def test_code_is_loaded_into_a_v2_image_that_is_started_by_its_script(tmp_path: Path) -> None:
    port = free_port()
    quoted = 'it\'s "quoted" $HOME `id` \\ \n two lines ü'
    async with agent(tmp_path, mode="Exec", runtime_port=port) as sidecar, fake_v2_image(tmp_path, port):
        body = tarball(Program({"server.py": FAKE_SERVER}, ""))
        loaded = await sidecar.load(
            body, environment={"QUOTED": quoted, "not-a-name": "x", "INTERNAL_RUNTIME_KEY": "no"}
        )
        answer = await Endpoint(sidecar.session, f"http://127.0.0.1:{port}/").call(variables={"A": "b"})

    assert loaded.status == 200, loaded
    assert answer.envelope["response"] == {
        "INTERNAL_RUNTIME_ENTRYPOINT": "",
        "QUOTED": quoted,
        "not-a-name": None,
        "A": "b",
    }


async def test_load_fails_in_time_where_no_runtime_comes_up(tmp_path: Path) -> None:
    async with agent(tmp_path, mode="Import", runtime_port=free_port(), boot_seconds=0) as sidecar:
        answer = await sidecar.load(tarball(ECHO[Language.PYTHON]), environment={})
        again = await sidecar.load(tarball(ECHO[Language.PYTHON]), environment={})

    assert (answer.status, answer.envelope["reason"]) == (504, "BootTimeout")
    assert again.status == 409


async def test_restarted_agent_remembers_that_the_pod_has_its_code(tmp_path: Path) -> None:
    runtime = LocalRuntime(Language.PYTHON, tmp_path / "appfn")
    async with runtime.waiting() as waiting:
        port = int(waiting.endpoint.url.rsplit(":", 1)[1].rstrip("/"))
        body = tarball(ECHO[Language.PYTHON])
        async with agent(runtime.folder, mode="Import", runtime_port=port) as sidecar:
            assert (await sidecar.load(body, environment={})).status == 200
        async with agent(runtime.folder, mode="Import", runtime_port=port) as sidecar:
            again, state = await asyncio.gather(sidecar.load(body, environment={}), sidecar.state())

    assert again.status == 409
    assert state["loaded"] is True
