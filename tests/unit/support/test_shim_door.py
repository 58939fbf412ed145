"""The way into a cluster's shim stays open for those who are on it."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

import pytest

from support.kubectl import Kubectl
from support.shim import ShimDoor


class _Shim(BaseHTTPRequestHandler):
    """Answers as its server says."""

    def do_GET(self) -> None:
        server = cast("_Port", self.server)
        server.may_answer.wait()
        self.send_response(server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Port(ThreadingHTTPServer):
    """The local end of what is forwarded to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Shim)
        self.status = HTTPStatus.OK
        self.may_answer = threading.Event()
        self.may_answer.set()


class _Forwards:
    """Stands for kubectl: a new port each time, shut when its time is over."""

    def __init__(self) -> None:
        self.opened: list[_Port] = []

    @contextmanager
    def port_forward(self, target: str, port: int) -> Iterator[int]:
        assert (target, port) == ("svc/appfn-shim", 80)
        with _Port() as server:
            self.opened.append(server)
            threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
            yield server.server_port
            server.may_answer.set()
            server.shutdown()


@pytest.fixture
def forwards() -> _Forwards:
    return _Forwards()


@pytest.fixture
def door(forwards: _Forwards) -> Iterator[ShimDoor]:
    with closing(ShimDoor(cast("Kubectl", forwards), patience=0.2)) as opened:
        yield opened


def test_a_door_to_a_shim_that_is_slow_stays_open_for_the_calls_under_way(door: ShimDoor, forwards: _Forwards) -> None:
    url = door.url()
    forwards.opened[0].may_answer.clear()

    assert door.url() == url
    assert len(forwards.opened) == 1


def test_a_door_to_a_shim_that_refuses_stays_open(door: ShimDoor, forwards: _Forwards) -> None:
    url = door.url()
    forwards.opened[0].status = HTTPStatus.SERVICE_UNAVAILABLE

    assert door.url() == url
    assert len(forwards.opened) == 1


def test_a_door_that_leads_nowhere_is_opened_anew(door: ShimDoor, forwards: _Forwards) -> None:
    url = door.url()
    forwards.opened[0].shutdown()
    forwards.opened[0].server_close()

    assert door.url() != url
    assert len(forwards.opened) == 2
