"""How code gets into a pod."""

from enum import StrEnum


class LoadMode(StrEnum):
    """How a runtime gets its code (a Runtime's `loadMode`)."""

    IMPORT = "Import"
    EXEC = "Exec"
