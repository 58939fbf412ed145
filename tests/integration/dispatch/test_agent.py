"""The two ends of a load, as they are: our client and the agent that runs in pods."""

import asyncio
import gzip
import hashlib
import io
import json
import socket
import tarfile
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appfn.agent.layout import Layout
from appfn.agent.load import Loader, LoadSettings
from appfn.agent.load_mode import LoadMode
from appfn.agent.server import AgentServer, Lock
from appfn.agent.start_signal import StartSignal, make_fifo
from appfn.dispatch.connections import HttpUpstream
from appfn.dispatch.failures import NotServedError
from appfn.dispatch.launcher import _boot_seconds, _load_headers
from appfn.dispatch.messages import Reply
from appfn.dispatch.tokens import load_token_hash
from appfn.dispatch.upstream import Address


@dataclass(frozen=True, slots=True)
class Agent:
    """A running agent whose runtime is a socket that listens."""

    address: Address
    layout: Layout
    server: AgentServer
    settings: LoadSettings

    def renew(self, folder: Path) -> Layout:
        """Become the agent of another pod, which is yet to be loaded."""
        folder.mkdir()
        layout = Layout(folder)
        make_fifo(layout.start)
        self.server.loader = Loader(layout, self.settings, StartSignal(layout.start))
        return layout

    async def started(self) -> Any:
        """Wait for the start signal, as a runtime does."""
        return json.loads(await asyncio.to_thread(self.layout.start.read_bytes))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    layout = Layout(tmp_path)
    make_fifo(layout.start)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as runtime:  # nobody accepts what the agent opens
        settings = LoadSettings(mode=LoadMode.IMPORT, runtime_address=runtime.getsockname())
        server = AgentServer(
            ("127.0.0.1", 0),
            loader=Loader(layout, settings, StartSignal(layout.start)),
            lock=Lock(load_token_hash("open sesame")),
        )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Agent(Address("127.0.0.1", server.server_address[1]), layout, server, settings)
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
async def upstream() -> AsyncIterator[HttpUpstream]:
    client = HttpUpstream()
    yield client
    await client.close()


def a_tarball() -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        info = tarfile.TarInfo("index.js")
        info.size = 300_000
        archive.addfile(info, io.BytesIO(b"x" * info.size))
    return gzip.compress(plain.getvalue())


TARBALL = a_tarball()
ORDER = {
    "digest": "sha256:" + hashlib.sha256(TARBALL).hexdigest(),
    "entrypoint": "index.js",
    "key": "key",
    "env": {f"V{number}": "€" * 4000 for number in range(20)},
}


async def push(
    upstream: HttpUpstream,
    agent: Agent,
    *,
    content: bytes = TARBALL,
    token: str = "open sesame",  # noqa: S107 - test data
) -> Reply:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]

    headers = [("authorization", f"Bearer {token}"), *_load_headers(ORDER)]
    size = len(content)
    return await upstream.push(agent.address, path="/load", headers=headers, size=size, content=chunks(), limit=65_536)


async def test_the_agent_takes_a_load_once_however_large_its_variables(agent: Agent, upstream: HttpUpstream) -> None:
    assert await upstream.reachable(agent.address)
    signal = asyncio.create_task(agent.started())
    reply = await push(upstream, agent)
    assert _boot_seconds(reply) >= 0
    assert (await signal)["env"] == ORDER["env"]
    assert (agent.layout.code / "index.js").read_bytes() == b"x" * 300_000
    with pytest.raises(NotServedError, match="already loaded"):
        _boot_seconds(await push(upstream, agent))


async def test_the_agents_refusals_are_understood(agent: Agent, upstream: HttpUpstream) -> None:
    with pytest.raises(NotServedError, match="refuses our token"):
        _boot_seconds(await push(upstream, agent, token="wrong"))
    with pytest.raises(NotServedError, match="the archive is cut off"):
        _boot_seconds(await push(upstream, agent, content=gzip.compress(b"something else")))


async def test_of_two_shims_that_claim_a_pod_at_once_one_gets_it_a_thousand_times(agent: Agent, tmp_path: Path) -> None:
    content = gzip.compress(b"\0" * 1024)
    one, other = HttpUpstream(), HttpUpstream()

    async def claim(shim: HttpUpstream, name: str) -> int:
        order = {"digest": f"sha256:{hashlib.sha256(content).hexdigest()}", "entrypoint": "", "key": name, "env": {}}
        headers = [("authorization", "Bearer open sesame"), *_load_headers(order)]

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        reply = await shim.push(
            agent.address, path="/load", headers=headers, size=len(content), content=chunks(), limit=65_536
        )
        return reply.status

    try:
        for number in range(1000):
            layout = agent.renew(tmp_path / str(number))
            started = asyncio.create_task(asyncio.to_thread(layout.start.read_bytes))
            statuses = await asyncio.gather(claim(one, "one"), claim(other, "other"))
            winner = ("one", "other")[statuses.index(200)]
            assert sorted(statuses) == [200, 409]
            assert json.loads(await started)["key"] == winner
    finally:
        await one.close()
        await other.close()
