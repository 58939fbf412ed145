"""What the operator tells the agent of a build, by the environment of its container."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from appfn.agent.failure import AgentError, Reason
from appfn.agent.load_mode import LoadMode


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSource:
    """A gzip tarball to download; `sha256` is 64 hex digits."""

    url: str = field(repr=False)
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GitSource:
    """A folder of a repository at a branch, tag, full commit or HEAD."""

    url: str = field(repr=False)
    ref: str = "HEAD"
    path: str = "."


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactSource:
    """A tarball in the artifact store, by its `sha256:…` digest."""

    digest: str


Source = HttpSource | GitSource | ArtifactSource


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """The settings of one build."""

    shim_url: str
    namespace: str
    deployment: str
    load_mode: LoadMode
    source: Source
    entrypoint: str = ""
    """Path of the file to run, within the code; empty where the runtime finds it by itself."""
    commands: str = ""
    """Build commands of the Deployment's own; they may make the entrypoint."""
    build_key_salt: str = ""
    """JSON of what decides the build besides its source; empty where the operator has looked already."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "BuildSettings":
        """Read the settings.

        Raises:
            AgentError: a variable is missing or makes no sense.
        """
        try:
            return cls(
                shim_url=environ["APPFN_SHIM_URL"].rstrip("/"),
                namespace=environ["APPFN_NAMESPACE"],
                deployment=environ["APPFN_DEPLOYMENT"],
                load_mode=LoadMode(environ["APPFN_LOAD_MODE"]),
                source=_source(json.loads(environ["APPFN_SOURCE"])),
                entrypoint=environ.get("APPFN_ENTRYPOINT", ""),
                commands=environ.get("APPFN_COMMANDS", ""),
                build_key_salt=environ.get("APPFN_BUILD_KEY_SALT", ""),
            )
        except (KeyError, ValueError, TypeError) as error:
            message = f"the build's environment cannot be used: {type(error).__name__} {error}"
            raise AgentError(Reason.INTERNAL_ERROR, message) from error


def _source(document: dict[str, dict[str, Any]]) -> Source:
    match document:
        case {"http": {"url": str(url), "sha256": str(sha256)}}:
            return HttpSource(url=url, sha256=sha256.lower())
        case {"git": {"url": str(url), **rest}}:
            return GitSource(url=url, ref=rest.get("ref") or "HEAD", path=rest.get("path") or ".")
        case {"artifact": {"digest": str(digest)}}:
            return ArtifactSource(digest=digest)
        case _:
            raise ValueError(f"APPFN_SOURCE names no known source: {', '.join(document)}")
