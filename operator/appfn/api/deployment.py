"""`Deployment`: one immutable version of a function's code and its builds."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from appfn.api.base import Model, Resource
from appfn.api.conditions import Condition
from appfn.api.runtime import Architecture


class BuildPhase(StrEnum):
    """The Appwrite words for the state of a build."""

    PROCESSING = "processing"
    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"
    CANCELED = "canceled"


class NameReference(Model):
    """An object of the same namespace, by name."""

    name: str


class InlineSource(Model):
    """Small code in the resource itself: path to text."""

    files: dict[str, str]


class HttpSource(Model):
    """A gzip tarball to download, with its sha256 (64 hex digits)."""

    url: str
    sha256: str


class GitSource(Model):
    """A folder of a git repository at a ref; `secret_ref`: keys `username` and `password`, or `ssh-privatekey`."""

    url: str
    ref: str = "HEAD"
    path: str = "."
    secret_ref: NameReference | None = None


class ArtifactSource(Model):
    """A tarball that is already in the artifact store, by its digest (`sha256:…`)."""

    digest: str
    size: int | None = None
    """Bytes, where whoever made the Deployment said so."""


class Source(Model):
    """Exactly one is set (CEL)."""

    inline: InlineSource | None = None
    config_map_ref: NameReference | None = None
    http: HttpSource | None = None
    git: GitSource | None = None
    artifact: ArtifactSource | None = None


class DeploymentSpec(Model):
    """Desired state; immutable."""

    id: str | None = None
    function_ref: NameReference
    entrypoint: str = ""
    """File to run; empty: the Runtime's default."""
    commands: str = ""
    """Shell commands that replace the Runtime's build command; empty: the Runtime's."""
    activate: bool = True
    source: Source


class Artifact(Model):
    """A file in the artifact store.

    Checked wherever one is read: what a build reports has been within reach of the user's commands, and the digest
    becomes part of addresses that are asked for with our own rights.
    """

    digest: str = Field(pattern="^sha256:[0-9a-f]{64}$")
    """`sha256:` and 64 hex digits."""
    size: int = Field(ge=0, lt=2**63)
    """Bytes."""


class Build(Model):
    """State of the build for one architecture."""

    architecture: Architecture
    phase: BuildPhase
    attempt: int = 1
    job: str = ""
    """Name of the Job; empty where an earlier build's artifact was taken."""
    image: str = ""
    """Runtime image the build ran in."""
    artifact: Artifact | None = None
    log: Artifact | None = None
    """The whole log in the artifact store."""
    log_tail: str = ""
    """Last lines of the log."""
    reason: str = ""
    message: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None


class DeploymentStatus(Model):
    """Observed state."""

    observed_generation: int = 0
    conditions: list[Condition] = Field(default_factory=list)
    phase: BuildPhase | None = None
    """The worst of the builds' phases, for the printer column."""
    source_digest: str = ""
    """Digest of the source as first seen: what this deployment is, whatever its ConfigMap says later."""
    retry_token: str = ""
    """Value of the retry annotation last acted upon."""
    builds: list[Build] = Field(default_factory=list)

    def build(self, architecture: Architecture) -> Build | None:
        """Return the build of an architecture, if it was started."""
        return next((item for item in self.builds if item.architecture is architecture), None)


class Deployment(Resource):
    """`deployments.appfn.dev`, short name `fdep`."""

    spec: DeploymentSpec
    status: DeploymentStatus = Field(default_factory=DeploymentStatus)

    @property
    def appwrite_id(self) -> str:
        """The id the Appwrite API and APPWRITE_FUNCTION_DEPLOYMENT show."""
        return self.spec.id or self.metadata.name
