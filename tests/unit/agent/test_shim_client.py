"""The client of the shim: the token of the moment, patience, digests."""

import hashlib
import io
import json
from pathlib import Path

import pytest

from appfn.agent.shim import ShimClient, ShimError, StoredFile
from unit.agent.http_server import Reply, Request, web
from unit.agent.patience import quick

DATA = b"artifact" * 1000
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


def client(url: str, token: Path) -> ShimClient:
    return ShimClient(url=url, token_path=token, patience=quick())


def test_artifact_is_downloaded(token: Path) -> None:
    target = io.BytesIO(b"left over from an attempt before" * 1000)
    with web(lambda _: Reply(body=DATA)) as server:
        size = client(server.url, token).download("ns", DIGEST, target)

    assert (size, target.getvalue()) == (len(DATA), DATA)
    assert server.requests[0].path == f"/internal/v1/artifacts/ns/{DIGEST}"
    assert server.requests[0].headers["Authorization"] == "Bearer first"


def test_cut_off_download_begins_anew(token: Path) -> None:
    replies = iter([Reply(body=DATA, cut=100), Reply(status=500)])
    target = io.BytesIO()
    with web(lambda _: next(replies, Reply(body=DATA))) as server:
        client(server.url, token).download("ns", DIGEST, target)

    assert target.getvalue() == DATA


def test_bytes_of_another_digest_are_refused(token: Path) -> None:
    with web(lambda _: Reply(body=b"other")) as server, pytest.raises(ShimError, match="not what its digest"):
        client(server.url, token).download("ns", DIGEST, io.BytesIO())


def test_artifact_is_uploaded_again_whole_after_a_failure(token: Path) -> None:
    stored = Reply(status=201, body=json.dumps({"digest": DIGEST, "size": len(DATA)}).encode())
    replies = iter([Reply(status=503)])
    with web(lambda _: next(replies, stored)) as server:
        result = client(server.url, token).upload("ns", io.BytesIO(DATA), digest=DIGEST)

    assert result == StoredFile(digest=DIGEST, size=len(DATA))
    assert [request.body for request in server.requests] == [DATA, DATA]
    assert server.requests[0].headers["X-Appfn-Digest"] == DIGEST


def test_token_is_read_anew_for_each_attempt(token: Path) -> None:
    def answer(request: Request) -> Reply:
        token.write_text("second")
        return Reply(status=503) if request.headers["Authorization"] == "Bearer first" else Reply()

    with web(answer) as server:
        client(server.url, token).post("/x", {})

    assert [request.headers["Authorization"] for request in server.requests] == ["Bearer first", "Bearer second"]


def test_refusal_carries_status_and_message_at_once(token: Path) -> None:
    body = json.dumps({"message": "not yours"}).encode()
    with web(lambda _: Reply(status=403, body=body)) as server, pytest.raises(ShimError, match="not yours") as error:
        client(server.url, token).post("/x", {})

    assert error.value.status == 403
    assert len(server.requests) == 1


def test_build_that_is_not_recorded_is_none(token: Path) -> None:
    with web(lambda _: Reply(status=404)) as server:
        assert client(server.url, token).build("ns", "key") is None


def test_shim_that_is_not_there_is_given_up_in_time(token: Path) -> None:
    with web(lambda _: Reply()) as server:
        pass

    with pytest.raises(ShimError, match=r"did not answer within 60 s \(ConnectionRefusedError") as error:
        client(server.url, token).post("/x", {})
    assert error.value.status == 0


def test_answer_that_is_no_json_is_asked_again(token: Path) -> None:
    replies = iter([Reply(body=b"<html>")])
    with web(lambda _: next(replies, Reply(body=b'{"a": 1}'))) as server:
        assert client(server.url, token).post("/x", {}) == {"a": 1}
