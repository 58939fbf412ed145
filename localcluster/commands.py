"""Running other programs to their end."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcluster.errors import ClusterError

_SYSTEM_PATHS = "/usr/local/sbin:/usr/sbin:/sbin"
_SHOWN_OF_STDERR = 600


def find(program: str) -> str | None:
    """Path of ``program``, looked for also where ``PATH`` of a plain user doesn't reach."""
    return shutil.which(program) or shutil.which(program, path=_SYSTEM_PATHS)


def run(
    command: Sequence[str | Path],
    *,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    remedy: str = "see its message",
) -> str:
    """Run ``command`` and return its standard output.

    Raises ClusterError, with the end of its standard error, if it fails or is missing.
    """
    done = attempt(command, stdin=stdin, cwd=cwd, env=env)
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-_SHOWN_OF_STDERR:]
        problem = f"{Path(command[0]).name} ended with {done.returncode}: {said}"
        raise ClusterError(problem, remedy=remedy)
    return done.stdout


def attempt(
    command: Sequence[str | Path],
    *,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` whose failure is an answer too; only a missing program raises."""
    program = find(str(command[0]))
    if program is None:
        raise ClusterError(f"{command[0]} is not installed", remedy=f"install {command[0]}")
    return subprocess.run(
        [program, *map(str, command[1:])],
        input=stdin,
        cwd=cwd,
        env=None if env is None else dict(env),
        capture_output=True,
        text=True,
        check=False,
    )
