"""The Deployment model in each format."""

from typing import Any

import pytest

from appfn.api.base import Json
from appfn.api.deployment import Deployment
from appfn.api.runtime import Architecture
from appfn.shim.formats import Format
from appfn.shim.models_deployments import model, status, upload_view, view
from appfn.store.uploads import Found, Upload
from support.objects import DIGEST, NOW, ago, deployment

SOURCE = {"artifact": {"digest": DIGEST, "size": 100}}
COMMON = {
    "$id",
    "$createdAt",
    "$updatedAt",
    "resourceId",
    "resourceType",
    "entrypoint",
    "buildId",
    "activate",
    "status",
}
OLD = COMMON | {"size", "buildStdout", "buildStderr"}
PROVIDER = {
    "installationId",
    "providerRepositoryId",
    "providerRepositoryName",
    "providerRepositoryOwner",
    "providerRepositoryUrl",
    "providerBranch",
    "providerBranchUrl",
    "providerCommitHash",
    "providerCommitAuthor",
    "providerCommitAuthorUrl",
    "providerCommitMessage",
    "providerCommitUrl",
}
NEW = COMMON | PROVIDER | {"type", "buildSize", "buildLogs"}


def build(phase: str, architecture: str = "amd64", **fields: Any) -> Json:
    artifact = {"artifact": {"digest": DIGEST, "size": 40}} if phase == "ready" else {}
    times = {"startTime": ago(50), "endTime": ago(20)} if phase in {"ready", "failed"} else {}
    return {
        "architecture": architecture,
        "phase": phase,
        "logTail": f"log {architecture}",
        **artifact,
        **times,
        **fields,
    }


def made(*builds: Json, meta: Json | None = None, **spec: Any) -> Deployment:
    phase = {"phase": builds[0]["phase"], "builds": list(builds)} if builds else None
    return deployment(status=phase, source=SOURCE, meta=meta, **spec)


def shown(item: Deployment, format_: Format, **kwargs: Any) -> Json:
    return model(view(item, function_id="hello", **kwargs), format_)


@pytest.mark.parametrize(
    ("format_", "keys"),
    [
        (Format.V0, OLD),
        (Format.V1_0, OLD | {"buildTime"}),
        (Format.V1_4, NEW | {"size", "buildTime"}),
        (Format.V1_6, NEW | {"size", "buildTime"}),
        (Format.V1_7, NEW | {"sourceSize", "totalSize", "buildDuration", "screenshotLight", "screenshotDark"}),
    ],
)
def test_each_format_has_its_fields(format_: Format, keys: set[str]) -> None:
    assert set(shown(made(build("ready")), format_)) == keys


def test_what_was_built_is_told() -> None:
    found = shown(made(build("ready")), Format.V1_7)

    assert (found["sourceSize"], found["buildSize"], found["totalSize"]) == (100, 40, 140)
    assert found["buildDuration"] == 30
    assert found["buildLogs"] == "log amd64"
    assert found["$createdAt"] == "2026-03-01T11:59:00.000+00:00"
    assert found["$updatedAt"] == "2026-03-01T11:59:40.000+00:00"
    assert shown(made(build("ready")), Format.V0)["$createdAt"] == int(NOW.timestamp()) - 60


@pytest.mark.parametrize(
    ("item", "new", "old"),
    [
        (made(), "waiting", "processing"),
        (made(build("processing")), "processing", "processing"),
        (made(build("building")), "building", "building"),
        (made(build("ready")), "ready", "ready"),
        (made(build("failed")), "failed", "failed"),
        (made(build("canceled")), "canceled", "failed"),
        (made(build("building"), meta={"annotations": {"appfn.dev/cancel": "x"}}), "canceled", "failed"),
        (made(build("ready"), meta={"annotations": {"appfn.dev/cancel": "x"}}), "ready", "ready"),
        (made(build("ready"), build("building", "arm64")), "building", "building"),
        (made(build("failed"), build("ready", "arm64")), "failed", "failed"),
    ],
)
def test_the_state_is_told_in_the_formats_words(item: Deployment, new: str, old: str) -> None:
    assert status(item) == new
    assert shown(item, Format.V1_7)["status"] == new
    assert shown(item, Format.V1_0)["status"] == old
    assert shown(item, Format.V0)["status"] == old


def test_a_failure_is_told_in_the_stderr_of_old_and_the_log_of_new_formats() -> None:
    item = made(build("failed", message="there is no main.py"))

    assert shown(item, Format.V1_0)["buildStdout"] == "log amd64"
    assert shown(item, Format.V1_0)["buildStderr"] == "there is no main.py"
    assert shown(item, Format.V1_7)["buildLogs"] == "log amd64\nthere is no main.py"


def test_whole_logs_take_the_place_of_last_lines() -> None:
    item = made(build("ready"), build("ready", "arm64"))

    found = shown(item, Format.V1_7, logs={Architecture.AMD64: "whole"})

    assert found["buildLogs"] == "== amd64 ==\nwhole\n== arm64 ==\nlog arm64"


def test_an_upload_waits_and_counts_its_parts() -> None:
    upload = Upload(id="0" * 20, function_uid="u", size=12 * 1024 * 1024, activate=True, created_at=NOW)

    found = model(upload_view(Found(upload=upload, parts=frozenset({0, 2})), function_id="hello"), Format.V1_7)

    assert (found["chunksUploaded"], found["chunksTotal"], found["status"]) == (2, 3, "waiting")
    assert found["buildId"] == ""
