"""The front answers as aiohttp would, and hands over what it does not know."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from appfn.api.kinds import FUNCTION, SECRET, Key
from appfn.config import Config
from appfn.core.records import Invocation, Outcome
from appfn.kube.client import KubeCluster
from appfn.shim.auth.identity import Caller
from appfn.shim.callee import Project
from appfn.shim.front.site import FRONT
from appfn.shim.services import AUTH, CATALOG, DRAIN, METRICS, STORE
from support.fake_invoker import FakeInvoker, completed
from support.polling import eventually
from support.project import ProjectKit
from support.shim_server import ShimServer, running_shim, shim_config

OF_ONE_ANSWER = re.compile(r'"\$id":"[0-9a-f]+"|"\$(created|updated)At":("[^"]*"|\d+)|"X-Request-Id: \w+"')


@dataclass(frozen=True)
class Raw:
    """An answer, byte for byte."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Line:
    """One connection of a client that writes what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, content: bytes) -> None:
        self.writer.write(content)

    async def answer(self) -> Raw:
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(headers.get("Content-Length", "0")))
        return Raw(int(first.split()[1]), headers, body)

    async def ended(self) -> bool:
        async with asyncio.timeout(20):
            with suppress(ConnectionResetError):
                return await self.reader.read() == b""
        return True


@asynccontextmanager
async def line(port: int) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def request(
    project: str, key: str, body: bytes = b"{}", *, function: str = "hello", format_: str = "1.8.0", more: str = ""
) -> bytes:
    lines = [
        f"POST /v1/functions/{function}/executions HTTP/1.1",
        "Host: shim",
        "Content-Type: application/json",
        f"X-Appwrite-Project: {project}",
        *([f"X-Appwrite-Key: {key}"] if key else []),
        f"X-Appwrite-Response-Format: {format_}",
        f"Content-Length: {len(body)}",
        *([more] if more else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def port_of(shim: ShimServer) -> int:
    return int(shim.base.rpartition(":")[2])


@pytest.fixture
async def plain(shim: ShimServer) -> AsyncIterator[int]:
    """A port of the same application without the front."""
    site = web.TCPSite(shim.site._runner, "127.0.0.1", 0)
    await site.start()
    yield site.port
    await site.stop()


@pytest.fixture
async def key(project: ProjectKit) -> str:
    return await project.key("executions.read", "executions.write")


@dataclass(frozen=True)
class Callers:
    project: str
    key: str
    narrow: str
    expired: str


@pytest.fixture
async def caller(project: ProjectKit, key: str) -> Callers:
    narrow = await project.key("executions.read")
    expired = await project.key("executions.write", expires=datetime.now(UTC) - timedelta(days=1))
    return Callers(project.namespace, key, narrow, expired)


CASES: dict[str, Callable[[Callers], bytes]] = {
    "current": lambda it: request(it.project, it.key, b'{"body":"x","path":"/a","method":"GET","headers":{"a":"b"}}'),
    "1.0": lambda it: request(it.project, it.key, b'{"data":"x"}', format_="1.0.0"),
    "0.15": lambda it: request(it.project, it.key, b'{"data":"x","async":false}', format_="0.15.0"),
    "async": lambda it: request(it.project, it.key, b'{"async":true}'),
    "async-0.15": lambda it: request(it.project, it.key, b"{}", format_="0.15.0"),
    "no-body": lambda it: request(it.project, it.key, b""),
    "null": lambda it: request(it.project, it.key, b"null"),
    "surrogates": lambda it: request(it.project, it.key, b'{"headers":{"a":"\\ud800"}}'),
    "broken": lambda it: request(it.project, it.key, b"{"),
    "list": lambda it: request(it.project, it.key, b"[1]"),
    "long": lambda it: request(it.project, it.key, json.dumps({"data": "x" * 8193}).encode(), format_="1.0.0"),
    "bad-method": lambda it: request(it.project, it.key, b'{"method":"X"}'),
    "guest": lambda it: request(it.project, ""),
    "unknown-key": lambda it: request(it.project, f"appfn_{'0' * 16}_{'0' * 64}"),
    "narrow-key": lambda it: request(it.project, it.narrow),
    "expired-key": lambda it: request(it.project, it.expired),
    "no-project": lambda it: request("", it.key),
    "unknown-project": lambda it: request("nowhere", it.key),
    "unknown-function": lambda it: request(it.project, it.key, function="nothing"),
    "chunked": lambda it: (
        request(it.project, it.key, b"", more="Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
        + b"2\r\n{}\r\n0\r\n\r\n"
    ),
    "request-id": lambda it: request(it.project, it.key, more="X-Request-Id: mine"),
    "not-http": lambda _: b"HELLO\r\n\r\n",
}


@pytest.mark.parametrize("case", CASES)
async def test_the_front_answers_as_the_application_does(
    shim: ShimServer, plain: int, caller: Callers, case: str
) -> None:
    content = CASES[case](caller)
    answers = []
    for port in (port_of(shim), plain):
        async with line(port) as client:
            for _ in range(2):  # the second time, it is known
                client.send(content)
                answers.append(await client.answer())
                if case == "not-http":
                    break
    shown = [(raw.status, OF_ONE_ANSWER.sub("", raw.body.decode()), headers(raw)) for raw in answers]

    assert all(other == shown[0] for other in shown), shown


def headers(raw: Raw) -> dict[str, str]:
    """Return the headers without those that differ from answer to answer, or only with the server."""
    kept = {name: value for name, value in raw.headers.items() if name not in {"Date", "Server"}}
    if len(kept.get("X-Request-Id", "")) == 32:
        kept["X-Request-Id"] = "made"
    for name in ("X-RateLimit-Remaining", "X-RateLimit-Reset"):
        if name in kept:
            kept[name] = "some"
    if "Server-Timing" in kept:
        kept["Server-Timing"] = re.sub(r"\d+(\.\d+)?", "0", kept["Server-Timing"])
    kept.pop("Content-Length", None)
    return kept


async def test_requests_sent_without_waiting_are_answered_in_their_order(
    shim: ShimServer, project: ProjectKit, key: str
) -> None:
    bodies = [json.dumps({"body": f"number {number}"}).encode() for number in range(20)]
    async with line(port_of(shim)) as client:
        client.send(b"".join(request(project.namespace, key, body) for body in bodies))
        answers = [await client.answer() for _ in bodies]

    payloads = [json.loads(answer.json["responseBody"])["payload"] for answer in answers]
    assert payloads == [f"number {number}" for number in range(20)]


@pytest.mark.parametrize("size", [1, 7, 200])
async def test_a_request_may_come_in_pieces(shim: ShimServer, project: ProjectKit, key: str, size: int) -> None:
    content = request(project.namespace, key, b'{"body":"in pieces"}')
    async with line(port_of(shim)) as client:
        for start in range(0, len(content), size):
            client.send(content[start : start + size])
            await asyncio.sleep(0)
        answer = await client.answer()

    assert json.loads(answer.json["responseBody"])["payload"] == "in pieces"


async def test_a_body_may_come_after_its_head_on_a_connection_that_stays_with_the_front(
    shim: ShimServer, project: ProjectKit, key: str
) -> None:
    content = request(project.namespace, key, b'{"body":"later"}')
    head = content.index(b"{")
    async with line(port_of(shim)) as client:
        for _ in range(2):
            client.send(content[:head])
            await client.writer.drain()
            await eventually(lambda: buffered(shim))
            client.send(content[head:])
            assert (await client.answer()).status == 201
        assert len(shim.app[FRONT].open) == 1


async def buffered(shim: ShimServer) -> bool:
    return any(connection._buffer for connection in shim.app[FRONT].open)


async def test_other_requests_and_executions_go_over_one_connection(
    shim: ShimServer, project: ProjectKit, key: str
) -> None:
    execution = request(project.namespace, key)
    listing = execution.replace(b"POST", b"GET").replace(b"Content-Length: 2\r\n", b"")[:-2]
    async with line(port_of(shim)) as client:
        client.send(execution)
        assert (await client.answer()).status == 201
        client.send(listing + execution)
        assert (await client.answer()).json["total"] == 1
        assert (await client.answer()).status == 201


async def test_a_revoked_key_is_refused_on_a_connection_where_it_was_good(
    cluster: KubeCluster, shim: ShimServer, project: ProjectKit, key: str
) -> None:
    content = request(project.namespace, key)
    async with line(port_of(shim)) as client:
        client.send(content)
        assert (await client.answer()).status == 201
        await cluster.delete(SECRET, Key(project.namespace, f"appfn-key-{key.split('_')[1]}"))
        client.send(content)

        assert (await client.answer()).json["type"] == "user_unauthorized"


async def test_a_function_that_is_switched_off_is_gone_for_callers_that_are_known(
    cluster: KubeCluster, shim: ShimServer, project: ProjectKit, key: str
) -> None:

    content = request(project.namespace, key)
    async with line(port_of(shim)) as client:
        client.send(content)
        assert (await client.answer()).status == 201
        await cluster.merge_patch(
            FUNCTION, Key(project.namespace, "hello"), {"spec": {"enabled": False}}, manager="test"
        )

        async def refused() -> bool:
            client.send(content)
            return (await client.answer()).status == 404

        await eventually(refused)


async def test_what_was_found_while_the_cluster_changed_is_found_anew(
    cluster: KubeCluster,
    tmp_path: Path,
    system: str,
    project: ProjectKit,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = shim_config(tmp_path, system, AUTH_CACHE_SECONDS="60")
    async with running_shim(cluster, config, FakeInvoker()) as shim, line(port_of(shim)) as client:
        await shim.sees(project.namespace, "hello")
        auth, catalog = shim.app[AUTH], shim.app[CATALOG]
        found = auth.caller
        looked: list[Project] = []

        async def meanwhile(headers: Mapping[str, str], of: Project) -> Caller:
            caller = await found(headers, of)
            if not looked:
                catalog._on_change()  # the project's label may be another namespace's by now
            looked.append(of)
            return caller

        monkeypatch.setattr(auth, "caller", meanwhile)
        for _ in range(3):
            client.send(request(project.namespace, key))
            assert (await client.answer()).status == 201

        assert len(looked) == 2


async def test_a_call_whose_client_has_gone_is_run_to_its_end_and_recorded(
    cluster: KubeCluster, config: Config, project: ProjectKit, key: str
) -> None:
    gate = asyncio.Event()

    async def wait(_: Invocation) -> Outcome:
        await gate.wait()
        return completed("nobody hears it")

    invoker = FakeInvoker(wait)
    async with running_shim(cluster, config, invoker) as shim:
        async with line(port_of(shim)) as client:
            client.send(request(project.namespace, key))

            async def started() -> bool:
                return bool(invoker.started)

            await eventually(started)
        gate.set()

        async def recorded() -> bool:
            found = await shim.app[STORE].get(project.namespace, invoker.started[0])
            return found is not None and found.outcome is not None

        await eventually(recorded)


async def test_while_the_shim_leaves_each_connection_is_closed_after_its_answer(
    shim: ShimServer, project: ProjectKit, key: str
) -> None:
    content = request(project.namespace, key)
    async with line(port_of(shim)) as client, line(port_of(shim)) as idle:
        client.send(content)
        assert "Connection" not in (await client.answer()).headers
        shim.app[DRAIN].begin()
        client.send(content)

        assert (await client.answer()).headers["Connection"] == "close"
        assert await client.ended()
        await shim.leave()
        assert not idle.reader.at_eof()


async def test_a_connection_that_brings_nothing_is_closed_and_half_a_body_is_left_to_aiohttp(
    shim: ShimServer, project: ProjectKit, key: str
) -> None:
    content = request(project.namespace, key, b'{"body":"slow"}')
    front = shim.app[FRONT]
    async with line(port_of(shim)) as silent, line(port_of(shim)) as slow:
        slow.send(content[:-3])
        await eventually(lambda: buffered(shim))
        later = asyncio.get_running_loop().time() + 1000
        for connection in list(front.open):
            connection.look(later)

        assert await silent.ended()
        assert not front.open
        slow.send(content[-3:])
        assert (await slow.answer()).status == 201


async def test_each_call_counts_as_a_request_of_its_route(shim: ShimServer, project: ProjectKit, key: str) -> None:
    async with line(port_of(shim)) as client:
        for _ in range(3):
            client.send(request(project.namespace, key))
            await client.answer()
    labels = 'method="POST",route="/v1/functions/{functionId}/executions",status="201"'

    assert f"appfn_http_requests_total{{{labels}}} 3.0" in shim.app[METRICS].render().decode()


async def test_a_body_larger_than_the_configured_limit_is_refused(
    cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory, system: str, project: ProjectKit, key: str
) -> None:
    config = shim_config(tmp_path_factory.mktemp("small"), system, MAX_PAYLOAD_BYTES="2000")
    async with running_shim(cluster, config, FakeInvoker()) as shim, line(port_of(shim)) as client:
        client.send(request(project.namespace, key, json.dumps({"body": "x" * 3000}).encode()))

        assert (await client.answer()).status == 413
