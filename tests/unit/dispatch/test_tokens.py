"""Secrets of runtime pods: each for one purpose of one owner."""

import re

import pytest

from appfn.dispatch.tokens import announce_token, load_token, runtime_key

KEY = b"master"
MINE = {"namespace": "shop", "deployment": "greet-1", "uid": "uid-1"}


def test_a_deployments_pods_announce_themselves_by_the_same_token_each_time() -> None:
    assert announce_token(KEY, **MINE) == announce_token(KEY, **MINE)
    assert re.fullmatch("[0-9a-f]{64}", announce_token(KEY, **MINE))


@pytest.mark.parametrize(
    "other",
    [
        {"namespace": "shop-2"},
        {"deployment": "greet-2"},
        {"uid": "uid-2"},
        {"namespace": "shop/greet-1", "deployment": "uid-1", "uid": ""},
    ],
)
def test_the_token_of_another_deployment_is_another_one(other: dict[str, str]) -> None:
    assert announce_token(KEY, **MINE) != announce_token(KEY, **{**MINE, **other})


def test_a_token_is_of_no_use_for_another_purpose_or_under_another_key() -> None:
    token = announce_token(KEY, **MINE)

    assert token != announce_token(b"another", **MINE)
    assert token != load_token(KEY, namespace="shop", pod="greet-1/uid-1")
    assert token[:32] != runtime_key(KEY, namespace="shop", pod="greet-1/uid-1")
