"""The agent's server: who may load, what a load may be, and that exactly one wins."""

import base64
import collections
import concurrent.futures
import hashlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appfn.agent.failure import AgentError
from appfn.agent.layout import Layout
from appfn.agent.load import AlreadyLoadedError, Load, Loader, LoadSettings
from appfn.agent.load_mode import LoadMode
from appfn.agent.server import AgentServer, Lock
from appfn.agent.start_signal import Start, StartSignal, make_fifo
from support.polling import wait_for
from unit.agent.tarballs import file, header, zipped

TOKEN = "token"
CODE = zipped(file("index.js", b"code"))


class Pod:
    """A pod whose runtime is this test: it reads the FIFO and listens on a port."""

    def __init__(
        self,
        folder: Path,
        mode: LoadMode = LoadMode.IMPORT,
        boot_seconds: float = 10.0,
        sha256: str = hashlib.sha256(TOKEN.encode()).hexdigest(),
    ) -> None:
        self.layout = Layout(folder)
        make_fifo(self.layout.start)
        if mode is LoadMode.EXEC:
            self.layout.prepare_folders()
        self._runtime = socket.create_server(("127.0.0.1", 0))
        settings = LoadSettings(mode=mode, boot_seconds=boot_seconds, runtime_address=self._runtime.getsockname())
        self.lock = Lock(sha256)
        self.loader = Loader(self.layout, settings, StartSignal(self.layout.start))
        self.server = AgentServer(("127.0.0.1", 0), loader=self.loader, lock=self.lock)
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.signals: list[bytes] = []

    def listen(self) -> threading.Thread:
        """Wait for one start signal."""
        reader = threading.Thread(target=lambda: self.signals.append(self.layout.start.read_bytes()))
        reader.start()
        return reader

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def load(self, body: bytes = CODE, **changes: Any) -> tuple[int, dict[str, Any]]:
        return self.request("POST", "/load", body, load_headers(body, **changes))

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()
        self._runtime.close()


def load_headers(body: bytes = CODE, *, token: str = TOKEN, **changes: Any) -> dict[str, str]:
    description = {"digest": f"sha256:{hashlib.sha256(body).hexdigest()}", "entrypoint": "e", "key": "k", "env": {}}
    encoded = base64.urlsafe_b64encode(json.dumps(description | changes).encode()).decode()
    return {"Authorization": f"Bearer {token}", "X-Appfn-Load": encoded}


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    running = Pod(tmp_path)
    yield running
    running.close()


def test_code_is_in_place_before_the_start_signal(pod: Pod) -> None:
    reader = pod.listen()

    status, answer = pod.load(env={"A": "1"})

    reader.join()
    assert status == 200
    assert answer["unpackMs"] > 0
    assert json.loads(pod.signals[0]) == {
        "entrypoint": "e",
        "key": "k",
        "env": {"A": "1"},
        "code": str(pod.layout.code),
    }
    assert (pod.layout.code / "index.js").read_bytes() == b"code"
    assert not pod.layout.incoming.exists()


def test_exec_image_finds_the_tarball_as_it_was_sent(tmp_path: Path) -> None:
    pod = Pod(tmp_path, LoadMode.EXEC)
    try:
        reader = pod.listen()
        assert pod.load()[0] == 200
        reader.join()
    finally:
        pod.close()

    assert pod.layout.tarball.read_bytes() == CODE
    assert b"export INTERNAL_RUNTIME_KEY='k'" in pod.signals[0]


@pytest.mark.parametrize("path", ["/load", "/state"])
@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", "Bearer \xe4"])
def test_caller_without_the_token_is_refused(pod: Pod, path: str, authorization: str) -> None:
    method = "POST" if path == "/load" else "GET"
    body = CODE if path == "/load" else None

    status, answer = pod.request(method, path, body, load_headers() | {"Authorization": authorization})

    assert (status, answer["reason"]) == (401, "Unauthorized")
    assert not pod.layout.code.exists()


@pytest.mark.parametrize(
    ("body", "changes", "reason"),
    [
        (CODE, {"digest": "sha256:" + "0" * 64}, "DigestMismatch"),
        (zipped(file("../outside")), {}, "InvalidArchive"),
        (zipped(header(b"l", kind=b"2", link=b"/etc")), {}, "InvalidArchive"),
        (b"not a tarball", {}, "InvalidArchive"),
        (b"", {}, "InvalidArchive"),
    ],
    ids=["digest", "traversal", "link", "text", "nothing"],
)
def test_bad_code_is_refused_and_leaves_the_pod_free(
    pod: Pod, body: bytes, changes: dict[str, str], reason: str
) -> None:
    status, answer = pod.load(body, **changes)
    assert (status, answer["reason"]) == (422, reason)
    assert not pod.layout.code.exists()

    reader = pod.listen()
    assert pod.load()[0] == 200
    reader.join()
    assert len(pod.signals) == 1


@pytest.mark.parametrize("description", ["", "%%%", "bnVsbA", base64.urlsafe_b64encode(b'{"digest": 1}').decode()])
def test_load_that_does_not_say_what_it_is_is_a_bad_request(pod: Pod, description: str) -> None:
    status, answer = pod.request("POST", "/load", CODE, load_headers() | {"X-Appfn-Load": description})

    assert (status, answer["reason"]) == (400, "BadRequest")
    assert pod.server.loader.free


def test_load_without_a_length_is_refused(pod: Pod) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", pod.server.server_port, timeout=20)
    connection.request("POST", "/load", iter([CODE]), load_headers(), encode_chunked=True)

    assert connection.getresponse().status == 411
    connection.close()


def test_of_fifty_callers_exactly_one_loads_the_pod(pod: Pod) -> None:
    reader = pod.listen()
    body = zipped(file("big", bytes(range(256)) * 8000))
    barrier = threading.Barrier(50)

    def call(number: int) -> tuple[int, int]:
        barrier.wait()
        return pod.load(body, key=f"key-{number}")[0], number

    with concurrent.futures.ThreadPoolExecutor(50) as executor:
        outcomes = list(executor.map(call, range(50)))

    reader.join()
    assert collections.Counter(status for status, _ in outcomes) == {200: 1, 409: 49}
    winner = next(number for status, number in outcomes if status == 200)
    assert json.loads(pod.signals[0])["key"] == f"key-{winner}"
    assert len(pod.signals) == 1


def test_of_fifty_callers_past_the_door_exactly_one_gets_to_send(tmp_path: Path) -> None:
    make_fifo(tmp_path / "start")
    loader = Loader(Layout(tmp_path), LoadSettings(mode=LoadMode.IMPORT), StartSignal(tmp_path / "start"))
    load = Load(digest="sha256:", start=Start(entrypoint="", key="k", environment={}))
    barrier, refused, others_are_through = threading.Barrier(50), threading.Semaphore(0), threading.Event()

    class Body:
        def read(self, _size: int, /) -> bytes:
            assert others_are_through.wait(timeout=10), "somebody else is sending too"
            return b""

    def call(_: int) -> str:
        barrier.wait()
        try:
            loader.take(load, Body())
        except AlreadyLoadedError:
            refused.release()
            return "refused"
        except AgentError as error:
            return error.reason
        return "loaded"

    def open_when_49_are_refused() -> None:
        if all(refused.acquire(timeout=5) for _ in range(49)):
            others_are_through.set()

    with concurrent.futures.ThreadPoolExecutor(51) as executor:
        executor.submit(open_when_49_are_refused)
        outcomes = collections.Counter(executor.map(call, range(50)))

    assert outcomes == {"refused": 49, "InvalidArchive": 1}


def test_caller_that_asks_first_is_told_before_it_sends(pod: Pod) -> None:
    reader = pod.listen()
    assert pod.load()[0] == 200
    reader.join()
    head = "POST /load HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in load_headers().items())

    with socket.create_connection(("127.0.0.1", pod.server.server_port), timeout=20) as connection:
        connection.sendall(f"{head}\r\n".encode())
        answer = connection.recv(4096)

    assert answer.startswith(b"HTTP/1.1 409 ")


def test_caller_that_breaks_off_leaves_the_pod_free(pod: Pod) -> None:
    head = "POST /load HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in load_headers().items())
    with socket.create_connection(("127.0.0.1", pod.server.server_port), timeout=20) as connection:
        connection.sendall(f"{head}\r\n".encode() + CODE)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(4096).startswith(b"HTTP/1.1 422 ")

    reader = pod.listen()
    assert pod.load()[0] == 200
    reader.join()


def test_runtime_that_never_waits_for_code_is_given_up(tmp_path: Path) -> None:
    pod = Pod(tmp_path, boot_seconds=0)
    try:
        status, answer = pod.load()
    finally:
        pod.close()

    assert (status, answer["reason"]) == (504, "BootTimeout")


def test_state_tells_what_is_loaded(pod: Pod) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert pod.request("GET", "/state", None, headers) == (200, {"loaded": False, "digest": ""})

    reader = pod.listen()
    pod.load()
    reader.join()

    digest = f"sha256:{hashlib.sha256(CODE).hexdigest()}"
    assert pod.request("GET", "/state", None, headers) == (200, {"loaded": True, "digest": digest})
    assert pod.request("GET", "/healthz") == (200, {"status": "ok"})
    assert pod.request("GET", "/")[0] == pod.request("POST", "/")[0] == 404


def test_a_pod_of_a_pool_is_ready_once_it_can_be_loaded(tmp_path: Path) -> None:
    pod = Pod(tmp_path, sha256="")
    try:
        assert pod.request("GET", "/readyz")[0] == 503
        pod.lock.arm(hashlib.sha256(TOKEN.encode()).hexdigest())
        assert pod.request("GET", "/readyz")[0] == 503, "its runtime does not wait yet"

        reader = pod.listen()
        wait_for(lambda: pod.request("GET", "/readyz")[0] == 200)

        assert pod.load()[0] == 200
        reader.join()
        assert pod.request("GET", "/readyz")[0] == 200
    finally:
        pod.close()


def test_a_load_that_is_faster_than_the_answer_to_the_announcement_waits_for_it(tmp_path: Path) -> None:
    pod = Pod(tmp_path, sha256="")
    try:
        reader = pod.listen()
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            load = executor.submit(pod.load)
            assert not load.done()
            pod.lock.arm(hashlib.sha256(TOKEN.encode()).hexdigest())
            assert load.result(timeout=10)[0] == 200
        reader.join()
    finally:
        pod.close()


def test_the_token_of_a_pod_is_told_once() -> None:
    lock = Lock(hashlib.sha256(b"first").hexdigest())

    lock.arm(hashlib.sha256(b"second").hexdigest())

    assert lock.opens("first")
    assert not lock.opens("second")
