"""Why a build does not go on: a word for machines and a sentence for people."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from appfn import names


class BuildReason(StrEnum):
    """Reasons of a build and of a Deployment's conditions."""

    # States on the way.
    PENDING = "Pending"
    BUILDING = "Building"
    READY = "BuildReady"
    # Waits for something outside.
    FUNCTION_NOT_FOUND = "FunctionNotFound"
    RUNTIME_NOT_FOUND = "RuntimeNotFound"
    RUNTIME_DISABLED = "RuntimeDisabled"
    RUNTIME_UNSUPPORTED = "RuntimeUnsupported"
    NOT_A_PROJECT = "NotAProject"
    NO_NODE_FOR_ARCHITECTURE = "NoNodeForArchitecture"
    NOT_OWNED = "NotOwned"
    FORBIDDEN = "Forbidden"
    SHIM_UNAVAILABLE = "ShimUnavailable"
    UNSCHEDULABLE = "Unschedulable"
    # The agent's words (its termination message).
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    DIGEST_MISMATCH = "DigestMismatch"
    INVALID_ARCHIVE = "InvalidArchive"
    ENTRYPOINT_MISSING = "EntrypointMissing"
    ARTIFACT_UNAVAILABLE = "ArtifactUnavailable"
    BUILD_FAILED = "BuildFailed"
    OUTPUT_MISSING = "OutputMissing"
    OUTPUT_INVALID = "OutputInvalid"
    UPLOAD_FAILED = "UploadFailed"
    # What a user asked for.
    CANCELED = "Canceled"
    # What the operator concludes from the Job and its pod.
    INVALID_SOURCE = "InvalidSource"
    REJECTED = "Rejected"
    NO_IMAGE_FOR_ARCHITECTURE = "NoImageForArchitecture"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    OUT_OF_MEMORY = "OutOfMemory"
    EVICTED = "Evicted"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_START_FAILED = "ContainerStartFailed"
    POD_LOST = "PodLost"
    AGENT_FAILED = "AgentFailed"
    REPORT_MISSING = "ReportMissing"


class Severity(StrEnum):
    """What has to happen before it goes on."""

    WAITING = "waiting"
    """Something outside may come by itself, as when a GitOps tool applies in any order."""
    STALLED = "stalled"
    """A person has to act; then it goes on by itself."""
    FAILED = "failed"
    """Over, until it is asked for again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What stands in the way."""

    severity: Severity
    reason: str
    message: str

    @classmethod
    def waiting(cls, reason: BuildReason, message: str) -> Self:
        """Something outside may come by itself."""
        return cls(severity=Severity.WAITING, reason=reason, message=message)

    @classmethod
    def stalled(cls, reason: BuildReason, message: str) -> Self:
        """A person has to act."""
        return cls(severity=Severity.STALLED, reason=reason, message=message)

    @classmethod
    def failed(cls, reason: BuildReason, message: str) -> Self:
        """Over, until it is asked for again."""
        return cls(severity=Severity.FAILED, reason=reason, message=message)


def not_a_project(namespace: str) -> Problem:
    """Return what is to be said of an object in a namespace that is no project."""
    message = f"namespace {namespace} is no project; apply manifests/project to it and label it {names.LABEL_PROJECT}"
    return Problem.stalled(BuildReason.NOT_A_PROJECT, message)
