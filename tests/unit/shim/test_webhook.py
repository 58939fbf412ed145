"""Webhooks of Appwrite: signatures and Secrets."""

import base64
from typing import Any

import pytest

from appfn.shim.events.webhook import Webhook, stored


def secret(label: str = "hook", **data: bytes) -> dict[str, Any]:
    encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
    return {"metadata": {"labels": {"appfn.dev/webhook": label}}, "data": encoded}


def test_the_signature_is_the_hmac_sha1_of_url_and_body() -> None:
    # printf 'https://example.org/hook{"a":1}' | openssl dgst -sha1 -hmac key -binary | base64
    signature = "aSwh1wxPLqXyZn01RNQS6J/0f/4="

    assert Webhook("https://example.org/hook", "key").signed(b'{"a":1}', signature)
    assert not Webhook("https://example.org/hook", "other").signed(b'{"a":1}', signature)
    assert not Webhook("https://example.org/hook/", "key").signed(b'{"a":1}', signature)
    assert not Webhook("https://example.org/hook", "key").signed(b'{"a":2}', signature)


def test_a_secret_holds_url_and_key_without_the_line_break_of_an_editor() -> None:
    assert stored("hook", secret(url=b"https://x\n", signatureKey=b"k\n")) == Webhook("https://x", "k")


@pytest.mark.parametrize(
    "broken",
    [
        secret(label="other", url=b"https://x", signatureKey=b"k"),
        secret(url=b"https://x"),
        secret(signatureKey=b"k"),
        secret(url=b"https://x", signatureKey=b""),
        secret(url=b"https://x", signatureKey=b"\xff"),
        {"metadata": {"labels": {"appfn.dev/webhook": "hook"}}, "data": {"url": "?", "signatureKey": "="}},
        {"metadata": {}},
    ],
)
def test_a_secret_that_is_not_whole_holds_no_webhook(broken: dict[str, Any]) -> None:
    assert stored("hook", broken) is None
