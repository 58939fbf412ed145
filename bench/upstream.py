"""Compare the dispatcher's connections to pods with aiohttp's client: same requests, same server, same run.

    PYTHONPATH=operator .venv/bin/python bench/upstream.py [seconds per round]

The server is a process of its own that parses nothing, so that what differs is the client. Rounds alternate between
the clients; the medians are shown. CPU is the client's process alone, which is what a shim has to pay for a call.
"""

import asyncio
import multiprocessing
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import uvloop

from appfn.dispatch.connections import HttpUpstream
from appfn.dispatch.messages import Request
from appfn.dispatch.upstream import Address

ROUNDS = 5
CONCURRENCIES = (1, 32)
BODY = b'{"variables":{"NAME":"Ada"},"payload":"{}","headers":{"x-one":"1"}}'
ANSWER = b'{"response":"hello","stdout":"","stderr":""}'
REPLY = (
    b"HTTP/1.1 200 OK\r\nX-Powered-By: Express\r\nContent-Type: application/json; charset=utf-8\r\n"
    b"Content-Length: %d\r\nDate: Wed, 01 Jan 2025 00:00:00 GMT\r\nConnection: keep-alive\r\n"
    b"Keep-Alive: timeout=5\r\n\r\n%b" % (len(ANSWER), ANSWER)
)
HEADERS = {"content-type": "application/json", "x-internal-challenge": "k" * 32}

Call = Callable[[], Awaitable[int]]


class Answering(asyncio.Protocol):
    """Answers every request, recognised by the end of its body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = transport
        self._seen = b""

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._seen += data
        if self._seen.endswith(BODY):
            self._seen = b""
            self._transport.write(REPLY)  # type: ignore[attr-defined]


def serve(listener: socket.socket) -> None:
    """Answer until killed."""

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Answering, sock=listener)
        await server.serve_forever()

    uvloop.run(main())


@dataclass(frozen=True, slots=True)
class Round:
    """What one client did in one round."""

    rate: float
    """Requests per second."""
    p50: float
    """Microseconds, as is all that follows."""
    p99: float
    cpu: float


async def measure(call: Call, *, concurrency: int, seconds: float) -> Round:
    """Let so many callers call as fast as they can."""
    took: list[float] = []
    clock = time.perf_counter

    async def caller(until: float) -> None:
        while (began := clock()) < until:
            assert await call() == len(ANSWER)
            took.append(clock() - began)

    began, cpu = clock(), time.process_time()
    await asyncio.gather(*(caller(began + seconds) for _ in range(concurrency)))
    elapsed, cpu = clock() - began, time.process_time() - cpu
    cuts = statistics.quantiles(took, n=100)
    return Round(len(took) / elapsed, cuts[49] * 1e6, cuts[98] * 1e6, cpu / len(took) * 1e6)


async def compare(address: Address, seconds: float) -> None:
    """Print the table."""
    upstream = HttpUpstream()
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3.0, use_dns_cache=False)
    timeout = aiohttp.ClientTimeout(total=15, sock_connect=5)
    url = f"http://{address.host}:{address.port}/"

    async def ours() -> int:
        request = Request(headers=HEADERS, body=BODY)
        return len((await upstream.call(address, request, seconds=15, limit=1_000_000)).body)

    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def theirs() -> int:
            async with session.post(url, headers=HEADERS, data=BODY, allow_redirects=False) as response:
                return len(await response.read())

        print(f"{'':18}{'requests/s':>12}{'p50 µs':>10}{'p99 µs':>10}{'cpu µs':>10}")
        for concurrency in CONCURRENCIES:
            rounds: dict[str, list[Round]] = {"upstream": [], "aiohttp": []}
            for _ in range(ROUNDS):
                rounds["upstream"].append(await measure(ours, concurrency=concurrency, seconds=seconds))
                rounds["aiohttp"].append(await measure(theirs, concurrency=concurrency, seconds=seconds))
            show(concurrency, {name: median(each) for name, each in rounds.items()})
    await upstream.close()


def median(rounds: list[Round]) -> Round:
    """Return the medians of each figure."""
    return Round(*(statistics.median(getattr(each, name) for each in rounds) for name in Round.__slots__))


def show(concurrency: int, results: dict[str, Round]) -> None:
    """Print the lines of one concurrency, and how many times better ours is."""
    for name, each in results.items():
        print(f"c={concurrency:<4}{name:12}{each.rate:12,.0f}{each.p50:10.0f}{each.p99:10.0f}{each.cpu:10.0f}")
    ours, theirs = results["upstream"], results["aiohttp"]
    ratios = (ours.rate / theirs.rate, theirs.p50 / ours.p50, theirs.p99 / ours.p99, theirs.cpu / ours.cpu)
    print(f"c={concurrency:<4}{'ratio':12}{ratios[0]:12.2f}" + "".join(f"{ratio:10.2f}" for ratio in ratios[1:]))


def main() -> None:
    """Run server and clients."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        server = multiprocessing.get_context("fork").Process(target=serve, args=(listener,), daemon=True)
        server.start()
        uvloop.run(compare(Address(*listener.getsockname()), seconds))
        server.terminate()


if __name__ == "__main__":
    main()
