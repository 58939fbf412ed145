"""Which requests the front answers itself."""

import pytest

from appfn.shim.bodies import SMALL
from appfn.shim.formats import Format
from appfn.shim.front.heads import parse

LINES = (
    b"POST /v1/functions/hello/executions HTTP/1.1",
    b"Host: shim",
    b"content-type: application/json",
    b"x-appwrite-project: shop",
    b"X-Appwrite-Key: secret",
    b"X-Appwrite-Response-Format: 1.0.0",
    b"Content-Length: 12",
)


def head(*more: bytes, without: bytes = b"\0", first: bytes = LINES[0]) -> bytes:
    kept = [line for line in LINES[1:] if not line.startswith(without)]
    return b"\r\n".join([first, *kept, *more, b"", b""])


def test_a_usual_head_says_who_wants_what_run() -> None:
    found = parse(head(b"X-Request-Id: abc-1", b"Connection: keep-alive"))

    assert found is not None
    assert (found.function_id, found.project_id, found.format) == ("hello", "shop", Format.V1_0)
    assert (found.length, found.request_id) == (12, "abc-1")
    assert found.headers["x-appwrite-key"] == "secret"


def test_a_key_is_not_shown_by_accident() -> None:
    assert "secret" not in repr(parse(head()))


def test_an_id_that_could_forge_a_line_of_the_log_is_not_taken() -> None:
    found = parse(head(b"X-Request-Id: a b"))

    assert found is not None
    assert found.request_id == ""


@pytest.mark.parametrize(
    "unusual",
    [
        pytest.param(head(first=b"GET /v1/functions/hello/executions HTTP/1.1"), id="other-method"),
        pytest.param(head(first=b"POST /v1/functions/hello/executions/x HTTP/1.1"), id="other-route"),
        pytest.param(head(first=b"POST /v1/functions/hello/executions?project=x HTTP/1.1"), id="query"),
        pytest.param(head(first=b"POST /v1/functions/h%65llo/executions HTTP/1.1"), id="escapes"),
        pytest.param(head(first=b"POST http://a/v1/functions/hello/executions HTTP/1.1"), id="absolute"),
        pytest.param(head(first=b"POST /v1/functions/" + b"x" * 37 + b"/executions HTTP/1.1"), id="long-id"),
        pytest.param(head(first=b"POST /v1/functions/hello/executions HTTP/1.0"), id="old-http"),
        pytest.param(head(first=b"POST /v1/functions/hello/executions HTTP/2.0"), id="new-http"),
        pytest.param(head(b"Connection: close"), id="closing"),
        pytest.param(head(*(b"a%d:" % number for number in range(64))), id="many-headers"),
        pytest.param(head(b"Connection: upgrade", b"Upgrade: websocket"), id="upgrade"),
        pytest.param(head(b"Transfer-Encoding: chunked", without=b"Content-Length"), id="chunked"),
        pytest.param(head(b"Transfer-Encoding: chunked"), id="smuggling"),
        pytest.param(head(without=b"Content-Length"), id="no-length"),
        pytest.param(head(b"Content-Length: 12"), id="two-lengths"),
        pytest.param(head(b"Content-Length: +1", without=b"Content-Length"), id="length-with-sign"),
        pytest.param(head(b"Content-Length: %d" % (SMALL + 1), without=b"Content-Length"), id="large"),
        pytest.param(head(b"Expect: 100-continue"), id="expect"),
        pytest.param(head(b"Content-Encoding: gzip"), id="compressed"),
        pytest.param(head(b"Idempotency-Key: x"), id="idempotent"),
        pytest.param(head(b"Origin: https://shop.example"), id="browser"),
        pytest.param(head(b"X-Appwrite-Key: other"), id="two-keys"),
        pytest.param(head(b"X-A: b\r\n c"), id="folded"),
        pytest.param(head(b"X-A: b\nX-B: c"), id="bare-line-feed"),
        pytest.param(head(b"X-A: b\n\nPOST /v1/functions/hello/executions HTTP/1.1"), id="two-heads"),
        pytest.param(head(b"X A: b"), id="no-token"),
        pytest.param(head(b"X-A: \0"), id="nul"),
        pytest.param(head(b"X-A: " + b"x" * 9000), id="long"),
        pytest.param(b"POST /v1/functions/hello/executions\r\n\r\n", id="http-0.9"),
        pytest.param(b"\r\n\r\n", id="nothing"),
    ],
)
def test_whatever_is_unusual_is_for_aiohttp(unusual: bytes) -> None:
    assert parse(unusual) is None
