"""Which builds are the same: the key an artifact is found again by.

Names of variables are part of it and values are not: a rotated secret must not rebuild anything.
The agent repeats `build_key` for git sources, whose digest only the build learns; both are tested against one table.
"""

import hashlib
import json
from collections.abc import Iterable

from appfn.api.deployment import Deployment
from appfn.api.function import Function
from appfn.api.runtime import Architecture, Runtime


def entrypoint(deployment: Deployment, runtime: Runtime) -> str:
    """Return the file to run."""
    return deployment.spec.entrypoint or runtime.spec.entrypoint


def command(deployment: Deployment, runtime: Runtime) -> str:
    """Return the shell commands that build."""
    return deployment.spec.commands or runtime.spec.build_command


def salt(deployment: Deployment, function: Function, runtime: Runtime, architecture: Architecture) -> str:
    """Return everything of the key but the source, as canonical JSON."""
    return _canonical(
        {
            "architecture": str(architecture),
            "commands": command(deployment, runtime),
            "entrypoint": entrypoint(deployment, runtime),
            "image": runtime.spec.image(architecture) or "",
            "variables": _names_digest(variable.name for variable in function.spec.variables),
        }
    )


def build_key(salt_json: str, source_digest: str) -> str:
    """Return the key: sha256 (hex) of the salt with the source's digest in it."""
    return hashlib.sha256(_canonical({**json.loads(salt_json), "source": source_digest}).encode()).hexdigest()


def _names_digest(names: Iterable[str]) -> str:
    return hashlib.sha256(_canonical(sorted(names)).encode()).hexdigest()


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
