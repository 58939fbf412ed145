"""The catalogue is the table of Appwrite's documentation, and two runtimes of our own."""

from collections.abc import Callable
from typing import Any

import pytest

from appfn.api.runtime import Architecture, LoadMode, Runtime, SecurityProfile

Json = dict[str, Any]

BOTH = (Architecture.AMD64, Architecture.ARM64)
X86 = (Architecture.AMD64,)
TABLE = {
    "node-14.5": ("Node.js", "openruntimes/node:v2-14.5", BOTH),
    "node-16.0": ("Node.js", "openruntimes/node:v2-16.0", BOTH),
    "node-18.0": ("Node.js", "openruntimes/node:v2-18.0", BOTH),
    "php-8.0": ("PHP", "openruntimes/php:v2-8.0", BOTH),
    "php-8.1": ("PHP", "openruntimes/php:v2-8.1", BOTH),
    "ruby-3.0": ("Ruby", "openruntimes/ruby:v2-3.0", BOTH),
    "ruby-3.1": ("Ruby", "openruntimes/ruby:v2-3.1", BOTH),
    "python-3.8": ("Python", "openruntimes/python:v2-3.8", BOTH),
    "python-3.9": ("Python", "openruntimes/python:v2-3.9", BOTH),
    "python-3.10": ("Python", "openruntimes/python:v2-3.10", BOTH),
    "deno-1.21": ("Deno", "openruntimes/deno:v2-1.21", X86),
    "deno-1.24": ("Deno", "openruntimes/deno:v2-1.24", X86),
    "dart-2.15": ("Dart", "openruntimes/dart:v2-2.15", BOTH),
    "dart-2.16": ("Dart", "openruntimes/dart:v2-2.16", BOTH),
    "dart-2.17": ("Dart", "openruntimes/dart:v2-2.17", BOTH),
    "dotnet-3.1": (".NET", "openruntimes/dotnet:v2-3.1", BOTH),
    "dotnet-6.0": (".NET", "openruntimes/dotnet:v2-6.0", BOTH),
    "java-8.0": ("Java", "openruntimes/java:v2-8.0", BOTH),
    "java-11.0": ("Java", "openruntimes/java:v2-11.0", BOTH),
    "java-17.0": ("Java", "openruntimes/java:v2-17.0", BOTH),
    "java-18.0": ("Java", "openruntimes/java:v2-18.0", BOTH),
    "swift-5.5": ("Swift", "openruntimes/swift:v2-5.5", BOTH),
    "kotlin-1.6": ("Kotlin", "openruntimes/kotlin:v2-1.6", BOTH),
    "cpp-17.0": ("C++", "openruntimes/cpp:v2-17", BOTH),
}
ENABLED = {"node-16.0", "php-8.0", "python-3.9", "ruby-3.0", "dart-2.17"}
ENTRYPOINTS = {
    "node": "index.js",
    "php": "index.php",
    "ruby": "index.rb",
    "python": "main.py",
    "deno": "mod.ts",
    "dart": "lib/main.dart",
}
OWN = {
    "node-20.0": ("Node.js", "appfn/runtime-node:20.0", "index.js"),
    "python-3.13": ("Python", "appfn/runtime-python:3.13", "main.py"),
}


POOLED = OWN.keys()
"""Pods of the others are too heavy to wait unasked."""


@pytest.fixture(scope="session")
def catalogue(documents: Callable[[str], list[Json]]) -> dict[str, Runtime]:
    parsed = [Runtime.parse(item) for item in documents("manifests/runtimes")]
    return {runtime.metadata.name: runtime for runtime in parsed}


def test_the_catalogue_has_the_documented_runtimes_and_our_own(catalogue: dict[str, Runtime]) -> None:
    assert catalogue.keys() == TABLE.keys() | OWN.keys()


def test_the_documented_defaults_and_our_own_runtimes_are_enabled(catalogue: dict[str, Runtime]) -> None:
    assert {name for name, runtime in catalogue.items() if runtime.spec.enabled} == ENABLED | OWN.keys()


@pytest.mark.parametrize("name", TABLE)
def test_a_documented_runtime_has_the_documented_image(catalogue: dict[str, Runtime], name: str) -> None:
    display_name, image, architectures = TABLE[name]
    spec = catalogue[name].spec
    language, _, version = name.partition("-")

    assert (spec.language, spec.version, spec.display_name) == (language, version, display_name)
    assert [(entry.architecture, entry.image) for entry in spec.images] == [
        (architecture, f"docker.io/{image}") for architecture in architectures
    ]
    assert spec.entrypoint == ENTRYPOINTS.get(language, "")


@pytest.mark.parametrize("name", TABLE)
def test_a_documented_runtime_is_built_and_started_as_its_image_wants(catalogue: dict[str, Runtime], name: str) -> None:
    spec = catalogue[name].spec

    assert spec.load_mode is LoadMode.EXEC
    assert spec.build_command == "tar -zxf /tmp/code.tar.gz -C /usr/code && cd /usr/local/src/ && ./build.sh"
    assert spec.start_command == "/usr/local/src/start.sh"
    assert spec.agent_command == ""
    assert spec.concurrency == 1
    assert spec.security_profile is SecurityProfile.BASELINE


@pytest.mark.parametrize("name", OWN)
def test_our_own_runtimes_are_unprivileged_and_run_many_executions_at_once(
    catalogue: dict[str, Runtime], name: str
) -> None:
    display_name, image, entrypoint = OWN[name]
    spec = catalogue[name].spec

    assert (spec.display_name, spec.entrypoint) == (display_name, entrypoint)
    assert {entry.image for entry in spec.images} == {f"docker.io/{image}"}
    assert spec.load_mode is LoadMode.IMPORT
    assert spec.agent_command.endswith("/usr/local/src/agent.sh")
    assert spec.security_profile is SecurityProfile.RESTRICTED
    assert spec.concurrency > 1


def test_every_runtime_has_requests_and_limits(catalogue: dict[str, Runtime]) -> None:
    for runtime in catalogue.values():
        assert runtime.spec.resources.requests.keys() == {"cpu", "memory"}
        assert runtime.spec.resources.limits.keys() == {"cpu", "memory"}


def test_our_own_runtimes_have_pools(catalogue: dict[str, Runtime]) -> None:
    pools = {name: runtime.spec.pool for name, runtime in catalogue.items() if runtime.spec.pool}

    assert pools == dict.fromkeys(POOLED, 2)
