"""Looking at unpacked code."""

from pathlib import Path

from appfn.agent.archive import split_name
from appfn.agent.failure import AgentError, ArchiveError, Reason
from appfn.agent.tar_stream import printable

SHOWN = 20


def require_entrypoint(code: Path, entrypoint: str) -> None:
    """Check that the entrypoint is a file of the code.

    Raises:
        AgentError: EntrypointMissing, listing what there is instead.
    """
    try:
        parts = split_name(entrypoint)
    except ArchiveError as error:
        message = f"the entrypoint must be a path within the code, such as src/main.js: {error}"
        raise AgentError(Reason.ENTRYPOINT_MISSING, message) from error
    if parts and code.joinpath(*parts).is_file():
        return
    message = f"there is no file '{printable(entrypoint)}' in the code; at its top are: {_top_level(code)}"
    raise AgentError(Reason.ENTRYPOINT_MISSING, message)


def _top_level(code: Path) -> str:
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in code.iterdir())
    if not names:
        return "nothing (the code is empty)"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(printable(name) for name in names[:SHOWN]) + more
