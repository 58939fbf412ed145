"""The build key: what changes it, and that operator and agent compute the same one."""

import json

import pytest

from appfn.agent.build_key import build_key as agents_build_key
from appfn.api.deployment import Deployment
from appfn.api.function import Function
from appfn.api.runtime import Architecture, Runtime
from appfn.core.build_key import build_key, salt
from support.objects import DIGEST, deployment, function, runtime

BOTH = [{"architecture": "amd64", "image": "a"}, {"architecture": "arm64", "image": "b"}]


def key(
    item: Deployment | None = None,
    of: Function | None = None,
    using: Runtime | None = None,
    architecture: Architecture = Architecture.AMD64,
    digest: str = DIGEST,
) -> str:
    return build_key(salt(item or deployment(), of or function(), using or runtime(), architecture), digest)


@pytest.mark.parametrize(
    "other",
    [
        key(deployment(entrypoint="other.js")),
        key(deployment(commands="make")),
        key(of=function(variables=[{"name": "A", "value": "1"}])),
        key(using=runtime(images=[{"architecture": "amd64", "image": "newer"}])),
        key(using=runtime(images=BOTH), architecture=Architecture.ARM64),
        key(digest="sha256:" + "b" * 64),
    ],
)
def test_what_decides_the_result_changes_the_key(other: str) -> None:
    assert other != key()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (key(deployment("hello-v1")), key(deployment("hello-v2"))),
        (key(deployment(entrypoint="index.js", commands="build.sh")), key()),
        (
            key(of=function(variables=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}])),
            key(of=function(variables=[{"name": "B", "value": "changed"}, {"name": "A", "value": "too"}])),
        ),
    ],
)
def test_what_does_not_decide_the_result_leaves_the_key(one: str, other: str) -> None:
    assert one == other


@pytest.mark.parametrize("commands", ["", "npm ci", 'echo "ü" > x\n', "$(a) $$"])
def test_agent_and_operator_compute_the_same_key(commands: str) -> None:
    text = salt(deployment(commands=commands), function(), runtime(), Architecture.AMD64)

    assert agents_build_key(text, DIGEST) == build_key(text, DIGEST)


def test_a_salt_is_canonical_json_without_the_source_and_without_values() -> None:
    text = salt(deployment(), function(variables=[{"name": "A", "value": "secret"}]), runtime(), Architecture.AMD64)

    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == text
    assert set(json.loads(text)) == {"architecture", "commands", "entrypoint", "image", "variables"}
    assert "secret" not in text
