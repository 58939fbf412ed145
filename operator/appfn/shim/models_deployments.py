"""The Deployment model in each format, pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from appfn import names
from appfn.api.base import Json
from appfn.api.deployment import Build, BuildPhase, Deployment
from appfn.api.runtime import Architecture
from appfn.core.build_status import worst_phase
from appfn.shim.formats import Format
from appfn.shim.models import timestamp
from appfn.store.uploads import Found

_ENDED = frozenset({BuildPhase.READY, BuildPhase.FAILED, BuildPhase.CANCELED})
_OLD_WORDS = {"waiting": "processing", "canceled": "failed"}
"""Of states that were not there before 1.4, in the words of those that were."""
_NO_REPOSITORY: Json = {
    "installationId": "",
    "providerRepositoryId": "",
    "providerRepositoryName": "",
    "providerRepositoryOwner": "",
    "providerRepositoryUrl": "",
    "providerBranch": "",
    "providerBranchUrl": "",
    "providerCommitHash": "",
    "providerCommitAuthor": "",
    "providerCommitAuthorUrl": "",
    "providerCommitMessage": "",
    "providerCommitUrl": "",
}
"""Appwrite's integration with git hosts is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What there is to show of a deployment, or of the upload it will be made of."""

    id: str
    function_id: str
    created_at: datetime
    updated_at: datetime
    entrypoint: str
    activate: bool
    status: str
    """The word of today's Appwrite."""
    source_size: int = 0
    build_size: int = 0
    build_id: str = ""
    log: str = field(default="", repr=False)
    error: str = field(default="", repr=False)
    """Why the build failed."""
    seconds: int = 0
    """That the build took."""
    parts: tuple[int, int] | None = None
    """How many parts have come, of how many; None once nobody asks any more."""


def view(
    deployment: Deployment,
    *,
    function_id: str,
    logs: Mapping[Architecture, str] | None = None,
    parts: tuple[int, int] | None = None,
) -> View:
    """Return what there is to show of a deployment.

    Args:
        deployment: it.
        function_id: Appwrite id of its function.
        logs: whole logs of builds; of others the last lines are shown.
        parts: see `View`.
    """
    meta, builds = deployment.metadata, deployment.status.builds
    created = meta.creation_timestamp
    assert created is not None
    artifact = deployment.spec.source.artifact
    ended = [build.end_time for build in builds if build.end_time is not None]
    return View(
        id=deployment.appwrite_id,
        function_id=function_id,
        created_at=created,
        updated_at=max([created, *ended]),
        entrypoint=deployment.spec.entrypoint,
        activate=deployment.spec.activate,
        status=status(deployment),
        source_size=artifact.size or 0 if artifact is not None else 0,
        build_size=max((build.artifact.size for build in builds if build.artifact is not None), default=0),
        build_id=deployment.appwrite_id,
        log=_log(builds, logs or {}),
        error="\n".join(build.message for build in builds if build.phase is BuildPhase.FAILED and build.message),
        seconds=max(map(_seconds, builds), default=0),
        parts=parts,
    )


def upload_view(found: Found, *, function_id: str) -> View:
    """Return what there is to show of an upload that is not done."""
    upload = found.upload
    return View(
        id=upload.id,
        function_id=function_id,
        created_at=upload.created_at,
        updated_at=upload.created_at,
        entrypoint=upload.entrypoint,
        activate=upload.activate,
        status="waiting",
        source_size=upload.size,
        parts=(len(found.parts), upload.parts),
    )


def status(deployment: Deployment) -> str:
    """Return the state of the latest build as today's Appwrite calls it; of several architectures, the worst."""
    phase = deployment.status.phase
    if phase not in _ENDED and names.ANNOTATION_CANCEL in deployment.metadata.annotations:
        return "canceled"
    if phase is None:
        return "waiting"
    return str(worst_phase(deployment.status.builds) if deployment.status.builds else phase)


def model(shown: View, format_: Format) -> Json:
    """Return the Deployment model."""
    match format_:
        case Format.V0:
            found = _old(shown) | {
                "$createdAt": int(shown.created_at.timestamp()),
                "$updatedAt": int(shown.updated_at.timestamp()),
            }
        case Format.V1_0:
            found = _old(shown) | {"buildTime": shown.seconds}
        case Format.V1_4 | Format.V1_6:
            found = _new(shown) | {"size": shown.source_size, "buildTime": shown.seconds}
        case Format.V1_7:
            found = _new(shown) | {
                "sourceSize": shown.source_size,
                "totalSize": shown.source_size + shown.build_size,
                "buildDuration": shown.seconds,
                "screenshotLight": "",
                "screenshotDark": "",
            }
        case _:
            assert_never(format_)
    if shown.parts is not None:
        found |= {"chunksUploaded": shown.parts[0], "chunksTotal": shown.parts[1]}
    return found


def _common(shown: View) -> Json:
    return {
        "$id": shown.id,
        "$createdAt": timestamp(shown.created_at),
        "$updatedAt": timestamp(shown.updated_at),
        "resourceId": shown.function_id,
        "resourceType": "functions",
        "entrypoint": shown.entrypoint,
        "buildId": shown.build_id,
        "activate": shown.activate,
    }


def _old(shown: View) -> Json:
    return _common(shown) | {
        "size": shown.source_size,
        "status": _OLD_WORDS.get(shown.status, shown.status),
        "buildStdout": shown.log,
        "buildStderr": shown.error,
    }


def _new(shown: View) -> Json:
    told = shown.error and shown.error not in shown.log
    return (
        _common(shown)
        | _NO_REPOSITORY
        | {
            "type": "manual",
            "status": shown.status,
            "buildSize": shown.build_size,
            "buildLogs": f"{shown.log}\n{shown.error}".lstrip("\n") if told else shown.log,
        }
    )


def _log(builds: Sequence[Build], logs: Mapping[Architecture, str]) -> str:
    """Return the builds' logs; of several, each under the name of its architecture."""
    found = [(build, logs.get(build.architecture, build.log_tail)) for build in builds]
    if len(found) == 1:
        return found[0][1]
    return "\n".join(f"== {build.architecture} ==\n{text}" for build, text in found if text)


def _seconds(build: Build) -> int:
    if build.start_time is None or build.end_time is None:
        return 0
    return max(0, round((build.end_time - build.start_time).total_seconds()))
