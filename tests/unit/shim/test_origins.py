"""Which web pages a project knows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfn.shim.origins import Origins


@pytest.mark.parametrize(
    ("allowed", "origin", "known"),
    [
        ("", "http://localhost", True),
        ("", "http://localhost:3000", True),
        ("", "http://127.0.0.1:3000", True),
        ("", "http://[::1]:3000", True),
        ("", "https://example.com", False),
        ("", "https://localhost.example.com", False),
        ("", "null", False),
        ("example.com", "https://example.com", True),
        ("example.com", "https://EXAMPLE.com:8443", True),
        ("Example.com", "http://example.com", True),
        ("example.com", "https://app.example.com", False),
        ("example.com", "https://notexample.com", False),
        ("example.com", "https://example.com.evil.org", False),
        ("example.com", "https://evil.org/example.com", False),
        ("example.com", "https://evil.org#example.com", False),
        ("example.com", "https://example.com@evil.org", False),
        ("example.com", "https://evil.org:x@example.com", False),
        ("example.com", "ftp://example.com", False),
        ("example.com", "example.com", False),
        ("example.com", "https://example.com:port", False),
        ("example.com", "https://[example.com", False),
        ("*.example.com", "https://app.example.com", True),
        ("*.example.com", "https://a.b.example.com", True),
        ("*.example.com", "https://example.com", False),
        ("*.example.com", "https://appexample.com", False),
        ("https://example.com:8443", "https://example.com:8443", True),
        ("https://example.com:8443", "https://example.com", False),
        ("https://example.com:8443", "http://example.com:8443", False),
        ("one.org,two.org  three.org", "https://two.org", True),
        ("one.org,two.org  three.org", "https://three.org", True),
        ("*", "https://anything.org", True),
        ("*", "null", True),
    ],
)
def test_an_origin_is_known_by_its_host(allowed: str, origin: str, known: bool) -> None:  # noqa: FBT001 - a table
    assert Origins.parse(allowed).allow(origin) is known


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_breaks_the_reader(allowed: str, origin: str) -> None:
    Origins.parse(allowed).allow(origin)
