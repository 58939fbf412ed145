"""The announcement: who is told what, and when."""

import json
import threading
from pathlib import Path

import pytest

from appfn.agent.announce import Announcement
from appfn.agent.start_signal import StartSignal, make_fifo
from unit.agent.http_server import Reply, web

ANSWER = Reply(body=b'{"loadTokenSha256": "digest"}')


@pytest.fixture
def signal(tmp_path: Path) -> StartSignal:
    make_fifo(tmp_path / "start")
    return StartSignal(tmp_path / "start")


def environment(url: str, folder: Path, **more: str) -> dict[str, str]:
    (folder / "token").write_text("who I am\n")
    return {
        "APPFN_ANNOUNCE_URL": url,
        "APPFN_TOKEN_FILE": str(folder / "token"),
        "APPFN_POD_IP": "10.0.0.7",
        **more,
    }


def announced(environ: dict[str, str], signal: StartSignal) -> list[str]:
    """Announce; return what the shim answered, which is filled in later."""
    told, done = [], threading.Event()

    def arm(sha256: str) -> None:
        told.append(sha256)
        done.set()

    announcement = Announcement.read(environ)
    assert announcement is not None
    announcement.start(signal, arm)
    if not announcement.after_boot:
        assert done.wait(10)
    return told


def test_a_pod_of_one_function_announces_itself_at_once(tmp_path: Path, signal: StartSignal) -> None:
    with web(lambda _: ANSWER) as server:
        told = announced(environment(server.url, tmp_path), signal)

    request = server.requests[0]
    assert told == ["digest"]
    assert request.path == "/internal/v1/pods"
    assert request.headers["Authorization"] == "Bearer who I am"
    assert "X-Appfn-Pod" not in request.headers
    assert json.loads(request.body) == {"address": "10.0.0.7", "booted": False}


def test_a_pod_without_a_token_of_its_own_says_which_it_is(tmp_path: Path, signal: StartSignal) -> None:
    environ = environment("", tmp_path, APPFN_ANNOUNCE_TOKEN="shared", APPFN_ANNOUNCE_AS="shop/greet-1/greet-1-ab")
    del environ["APPFN_TOKEN_FILE"]
    with web(lambda _: ANSWER) as server:
        told = announced({**environ, "APPFN_ANNOUNCE_URL": server.url}, signal)

    request = server.requests[0]
    assert told == ["digest"]
    assert request.headers["Authorization"] == "Bearer shared"
    assert request.headers["X-Appfn-Pod"] == "shop/greet-1/greet-1-ab"
    assert json.loads(request.body) == {"address": "10.0.0.7", "booted": False}


def test_a_token_shows_nowhere(tmp_path: Path) -> None:
    announcement = Announcement.read(environment("http://shim", tmp_path, APPFN_ANNOUNCE_TOKEN="shared"))

    assert announcement is not None
    assert "shared" not in repr(announcement)


def test_a_pod_of_a_pool_announces_itself_when_its_runtime_is_up(tmp_path: Path, signal: StartSignal) -> None:
    arrived = threading.Event()

    def answer(_: object) -> Reply:
        arrived.set()
        return ANSWER

    with web(answer) as server:
        announced(environment(server.url, tmp_path, APPFN_POOL="1"), signal)
        assert not server.requests

        with (tmp_path / "start").open("rb"):
            assert arrived.wait(10)

    assert json.loads(server.requests[0].body)["booted"] is True


@pytest.mark.parametrize("refusal", [Reply(status=403), Reply(body=b"[]"), Reply(body=b'{"other": 1}')])
def test_a_shim_that_does_not_understand_is_asked_again(tmp_path: Path, signal: StartSignal, refusal: Reply) -> None:
    replies = iter([refusal])
    with web(lambda _: next(replies, ANSWER)) as server:
        told = announced(environment(server.url, tmp_path), signal)

    assert told == ["digest"]
    assert len(server.requests) == 2


def test_without_an_address_to_announce_to_nobody_is_told() -> None:
    assert Announcement.read({"APPFN_LOAD_TOKEN_SHA256": "x"}) is None
