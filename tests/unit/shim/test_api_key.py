import base64
from datetime import UTC, datetime, timedelta

import pytest

from appfn.api.base import Json
from appfn.shim.auth import api_key
from appfn.shim.auth.api_key import ApiKey
from appfn.shim.auth.identity import scopes_of

NOW = datetime(2030, 1, 1, tzinfo=UTC)
KEY = ApiKey("0123456789abcdef", "ab" * 32)


def secret(**changes: str) -> Json:
    """What the API server returns for the manifest of KEY."""
    manifest = api_key.manifest(KEY, namespace="shop", name="ci", scopes=frozenset({"executions.read"}), expires=NOW)
    data = manifest.pop("stringData") | changes
    return manifest | {"data": {name: base64.b64encode(value.encode()).decode() for name, value in data.items()}}


def test_a_generated_key_is_read_again() -> None:
    made = api_key.generate(lambda count: bytes(range(count)))

    assert api_key.parse(made.text()) == made
    assert made.text() == "appfn_0001020304050607_" + bytes(range(32)).hex()


@pytest.mark.parametrize(
    "text",
    ["", "x", KEY.text()[:-1], KEY.text() + "0", KEY.text().upper(), KEY.text().replace("_", "-"), " " + KEY.text()],
)
def test_another_text_is_no_key(text: str) -> None:
    assert api_key.parse(text) is None


def test_a_secret_holds_a_hash_and_never_the_key() -> None:
    manifest = api_key.manifest(KEY, namespace="shop", name="ci", scopes=frozenset({"b", "a"}), expires=NOW)

    assert manifest["metadata"]["name"] == "appfn-key-0123456789abcdef"
    assert manifest["stringData"] == {
        "name": "ci",
        "hash": KEY.hash,
        "scopes": "a b",
        "expires": "2030-01-01T00:00:00+00:00",
    }
    assert KEY.secret not in str(manifest)


def test_a_stored_key_knows_its_own_secret_only() -> None:
    stored = api_key.stored(KEY.id, secret())

    assert stored is not None
    assert stored.matches(KEY)
    assert not stored.matches(ApiKey(KEY.id, "cd" * 32))
    assert stored.scopes == {"executions.read", "health.read", "graphql"}  # the last two are every key's


def test_a_stored_key_expires_at_its_time() -> None:
    stored = api_key.stored(KEY.id, secret())

    assert stored is not None
    assert not stored.expired(NOW - timedelta(seconds=1))
    assert stored.expired(NOW)


def test_a_key_without_expiry_never_expires() -> None:
    stored = api_key.stored(KEY.id, secret(expires=""))

    assert stored is not None
    assert not stored.expired(NOW + timedelta(days=10_000))


@pytest.mark.parametrize(
    "broken",
    [
        secret(hash=""),
        secret(expires="tomorrow"),
        secret(expires="2030-01-01T00:00:00"),
        secret() | {"data": None},
        secret() | {"data": {"hash": "%%%"}},
        secret() | {"data": {"hash": base64.b64encode(b"\xff").decode()}},
        secret() | {"metadata": {"name": "appfn-key-0123456789abcdef"}},
        secret() | {"metadata": {"labels": {"appfn.dev/api-key": "other"}}},
    ],
)
def test_a_secret_that_is_not_whole_is_no_key(broken: Json) -> None:
    assert api_key.stored(KEY.id, broken) is None


def test_an_empty_key_is_never_matched_by_an_empty_hash() -> None:
    assert api_key.stored(KEY.id, secret(hash=" ")) is None


def test_old_names_of_scopes_mean_the_new_ones() -> None:
    assert scopes_of("execution.write  executions.read\nfunctions.read") == {
        "executions.write",
        "executions.read",
        "functions.read",
    }
