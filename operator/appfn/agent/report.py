"""What a build's agent tells the operator: one JSON document in its container's termination message."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appfn.agent.failure import AgentError
from appfn.agent.shim import StoredFile

TERMINATION_MESSAGE = Path("/dev/termination-log")
MAX_MESSAGE = 2000
"""Characters; Kubernetes takes 4096 bytes for the whole document, and escapes make it longer."""
MAX_DOCUMENT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of a build, or of a step of it; `reason` is empty on success.

    `source_digest` must be what was found before the user's commands could have a hand in it, as it decides what the
    artifact is remembered as.
    """

    artifact: StoredFile | None = None
    log: StoredFile | None = None
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    source_digest: str = ""
    cached: bool = False

    @classmethod
    def of_failure(cls, error: AgentError) -> "Report":
        """Return the report of a failed step."""
        return cls(reason=error.reason, message=error.message, exit_code=1)

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {
            "artifact": self.artifact.to_json() if self.artifact else None,
            "log": self.log.to_json() if self.log else None,
            "exitCode": self.exit_code,
            "reason": self.reason,
            "message": self.message,
            "sourceDigest": self.source_digest,
            "cached": self.cached,
        }

    def write(self, path: Path) -> None:
        """Write the termination message; outside a container there is none to write to."""
        for room in (MAX_MESSAGE, 1000, 500, 250):
            document = {**self.to_json(), "message": _cut(self.message, room)}
            text = json.dumps(document, ensure_ascii=False).encode()
            if len(text) <= MAX_DOCUMENT:
                break
        with contextlib.suppress(FileNotFoundError, PermissionError):
            path.write_bytes(text)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
