"""What can go wrong in a build or a load, in words for machines (`Reason`) and people (the message)."""

from enum import StrEnum

from appfn.errors import AppfnError


class Reason(StrEnum):
    """Stable words that end up as a condition's reason."""

    SOURCE_UNAVAILABLE = "SourceUnavailable"
    DIGEST_MISMATCH = "DigestMismatch"
    INVALID_ARCHIVE = "InvalidArchive"
    ENTRYPOINT_MISSING = "EntrypointMissing"
    ARTIFACT_UNAVAILABLE = "ArtifactUnavailable"
    BUILD_FAILED = "BuildFailed"
    OUTPUT_MISSING = "OutputMissing"
    OUTPUT_INVALID = "OutputInvalid"
    UPLOAD_FAILED = "UploadFailed"
    INTERNAL_ERROR = "InternalError"
    """A mistake of the agent or of the manifest that started it."""


class AgentError(AppfnError):
    """A step failed; the message says what is wrong and what to do, and holds no secret."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class ArchiveError(AppfnError):
    """An archive is not one we unpack; the message names the entry."""
