"""`Runtime`: one entry of the cluster's catalogue of languages."""

from enum import StrEnum

from pydantic import Field

from appfn.api.base import Model, Resource
from appfn.api.conditions import Condition
from appfn.api.pods import ResourceRequirements


class Architecture(StrEnum):
    """Values of the node label `kubernetes.io/arch` appfn builds for."""

    AMD64 = "amd64"
    ARM64 = "arm64"


class Protocol(StrEnum):
    """Generations of the open-runtimes HTTP protocol."""

    V2 = "v2"
    V3 = "v3"
    V4 = "v4"
    V5 = "v5"


class LoadMode(StrEnum):
    """How code gets into a waiting runtime container.

    `IMPORT`: the server is up before the code arrives; the agent unpacks it and the server imports it (appfn's own
    images). `EXEC`: the tarball is put at /tmp/code.tar.gz and the image's start command is executed then.
    """

    IMPORT = "Import"
    EXEC = "Exec"


class SecurityProfile(StrEnum):
    """Pod Security level the runtime's containers satisfy."""

    RESTRICTED = "restricted"
    BASELINE = "baseline"


class RuntimeImage(Model):
    """The image of one architecture."""

    architecture: Architecture
    image: str


class RuntimeSpec(Model):
    """Desired catalogue entry."""

    language: str
    version: str
    display_name: str
    """As `APPWRITE_FUNCTION_RUNTIME_NAME` shows it, such as `Node.js`."""
    protocol: Protocol = Protocol.V2
    load_mode: LoadMode = LoadMode.EXEC
    enabled: bool = False
    images: list[RuntimeImage]
    entrypoint: str = ""
    """Default of a Deployment's entrypoint."""
    build_command: str
    """Shell command run in /usr/code for `Exec`, in the code folder for `Import`."""
    start_command: str
    """Shell command that starts the server."""
    agent_command: str = ""
    """Shell command that starts the agent the image brings, for `Import` alone; empty: it brings none."""
    concurrency: int = 1
    """Requests one pod may run at once."""
    pool: int = 0
    """Warm pods per architecture and project; 0 is none."""
    resources: ResourceRequirements = Field(default_factory=ResourceRequirements)
    security_profile: SecurityProfile = SecurityProfile.RESTRICTED

    def image(self, architecture: Architecture) -> str | None:
        """Return the image of an architecture, if the runtime has one."""
        return next((entry.image for entry in self.images if entry.architecture is architecture), None)


class RuntimeStatus(Model):
    """Observed state."""

    observed_generation: int = 0
    conditions: list[Condition] = Field(default_factory=list)


class Runtime(Resource):
    """`runtimes.appfn.dev`, cluster-scoped, short name `rt`."""

    spec: RuntimeSpec
    status: RuntimeStatus = Field(default_factory=RuntimeStatus)
