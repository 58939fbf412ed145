"""Fetching over HTTP: digests, redirects, credentials, sizes."""

import base64
import hashlib
import io
import urllib.request
from collections.abc import Callable

import pytest

from appfn.agent import download as module
from appfn.agent.build_settings import HttpSource
from appfn.agent.download import download, public_url
from appfn.agent.failure import AgentError, Reason
from appfn.agent.tar_stream import Limits
from unit.agent.http_server import Reply, Request, web
from unit.agent.patience import quick

BODY = b"tarball" * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()


def fetch(url: str, sha256: str = SHA256, *, seconds: float = 60.0) -> tuple[bytes, list[str]]:
    target, lines = io.BytesIO(), list[str]()
    download(HttpSource(url=url, sha256=sha256), target, say=lines.append, patience=quick(seconds))
    return target.getvalue(), lines


def failure(url: str, sha256: str = SHA256) -> AgentError:
    with pytest.raises(AgentError) as error:
        fetch(url, sha256)
    return error.value


def test_tarball_is_fetched_and_said_so_without_secrets() -> None:
    with web(lambda _: Reply(body=BODY)) as server:
        url = server.url.replace("//", "//user:pass%20word@")
        data, lines = fetch(f"{url}/a.tar.gz?signature=secret#secret")

    expected = base64.b64encode(b"user:pass word").decode()
    assert data == BODY
    assert server.requests[0].headers["Authorization"] == f"Basic {expected}"
    assert server.requests[0].path == "/a.tar.gz?signature=secret"
    assert lines == [f"Fetched {server.url}/a.tar.gz (7.0 kB)"]


def test_wrong_digest_says_both() -> None:
    with web(lambda _: Reply(body=BODY)) as server:
        error = failure(f"{server.url}/a", "0" * 64)

    assert error.reason is Reason.DIGEST_MISMATCH
    assert SHA256 in error.message
    assert "spec.source.http.sha256" in error.message


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_refusal_is_final_and_holds_no_secret(status: int) -> None:
    with web(lambda _: Reply(status=status)) as server:
        error = failure(server.url.replace("//", "//user:hidden@") + "/a?token=hidden")

    assert error.reason is Reason.SOURCE_UNAVAILABLE
    assert f"HTTP {status}" in error.message
    assert "hidden" not in error.message
    assert len(server.requests) == 1


def failing_first(times: int, reply: Reply) -> Callable[[Request], Reply]:
    replies = iter([reply] * times)
    return lambda _: next(replies, Reply(body=BODY))


@pytest.mark.parametrize("trouble", [Reply(status=503), Reply(status=429), Reply(body=BODY, cut=100)])
def test_passing_trouble_is_waited_out(trouble: Reply) -> None:
    with web(failing_first(3, trouble)) as server:
        assert fetch(f"{server.url}/a")[0] == BODY

    assert len(server.requests) == 4


def test_lasting_trouble_is_reported_in_the_end() -> None:
    with web(lambda _: Reply(status=502)) as server:
        error = failure(f"{server.url}/a")

    assert error.message == f"{server.url}/a cannot be fetched: the server answered HTTP 502 Bad Gateway"
    assert len(server.requests) > 5


def test_server_that_is_not_there_is_reported() -> None:
    with web(lambda _: Reply()) as server:
        pass

    assert "ConnectionRefusedError" in failure(f"{server.url}/a").message


def test_redirect_within_a_host_keeps_the_credentials() -> None:
    def answer(request: Request) -> Reply:
        return Reply(body=BODY) if request.path == "/b" else Reply(status=302, headers={"Location": "/b"})

    with web(answer) as server:
        assert fetch(server.url.replace("//", "//u:p@") + "/a")[0] == BODY

    assert "Authorization" in server.requests[1].headers


def test_redirect_to_another_host_gets_no_credentials() -> None:
    with (
        web(lambda _: Reply(body=BODY)) as other,
        web(lambda _: Reply(status=302, headers={"Location": f"{other.url}/b"})) as first,
    ):
        assert fetch(first.url.replace("//", "//u:p@") + "/a")[0] == BODY

    assert "Authorization" in first.requests[0].headers
    assert "Authorization" not in other.requests[0].headers


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://host/a"])
def test_redirect_to_another_kind_of_url_is_refused(location: str) -> None:
    with web(lambda _: Reply(status=302, headers={"Location": location})) as server:
        error = failure(f"{server.url}/a")

    assert "not followed" in error.message or "HTTP 302" in error.message


def test_redirect_from_https_to_http_is_refused() -> None:
    request = urllib.request.Request("https://example.com/a")

    with pytest.raises(AgentError, match="redirects to http, which is not followed"):
        module._Redirects().redirect_request(request, io.BytesIO(), 302, "", {}, "http://example.com/b")


def test_redirects_in_a_circle_end() -> None:
    with web(lambda _: Reply(status=302, headers={"Location": "/a"})) as server:
        error = failure(f"{server.url}/a")

    assert "HTTP 302" in error.message
    assert len(server.requests) <= 10


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a", "/etc/passwd", "gopher://x"])
def test_other_kinds_of_urls_are_refused(url: str) -> None:
    assert "only http and https" in failure(url).message


def test_download_ends_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SOURCE_LIMITS", Limits(compressed=1 << 20, unpacked=1, entries=1))
    with web(lambda _: Reply(body=bytes((1 << 20) + 1))) as server:
        error = failure(f"{server.url}/a")

    assert (error.reason, error.message) == (Reason.INVALID_ARCHIVE, f"{server.url}/a is larger than 1 MiB")


def test_shown_url_has_nothing_that_may_be_secret() -> None:
    assert public_url("https://u:p@host:8443/a/b?q=1#f") == "https://host:8443/a/b"
