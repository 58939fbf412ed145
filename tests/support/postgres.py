"""A private PostgreSQL from Debian's package: own folder, own socket, no network; gone when the tests are."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

_FOLDERS = "usr/lib/postgresql/*/bin"
_USERS = ("postgres", "nobody")
_SETTINGS = (
    "listen_addresses=''",
    "max_connections=60",
)
# No test cuts the power; crashes of clients and of the server itself lose nothing by these.
_HASTY = ("fsync=off", "full_page_writes=off")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    programs: Path
    socket: Path
    user: str | None
    """Who it runs as; None: who we are."""
    durable: bool = False
    """Whether a commit is on the disk when it is answered, as a benchmark wants it."""
    names: Iterator[int] = field(default_factory=count)

    def start(self) -> None:
        """Start it."""
        settings = (*_SETTINGS, *(() if self.durable else _HASTY), f"unix_socket_directories={self.socket}")
        options = " ".join(f"-c {setting}" for setting in settings)
        self._control("--log", self.socket / "log", "--options", options, "start")

    def stop(self) -> None:
        """Stop it as a crash would."""
        self._control("--mode", "immediate", "stop")

    def _control(self, *arguments: str | Path) -> None:
        data = self.socket / "data"
        _run([self.programs / "pg_ctl", "--pgdata", data, "--silent", "--wait", *arguments], user=self.user)

    def create_database(self) -> str:
        """Make an empty database; return its URL."""
        name = f"test{next(self.names)}"
        _run([self.programs / "createdb", "--host", self.socket, "--username", "appfn", name], user=None)
        return f"postgresql+asyncpg://appfn@/{name}?host={self.socket}"


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[Server]:
    """Start a server, stop and remove it in the end."""
    programs = _programs()
    user = _user()
    folder = Path(tempfile.mkdtemp(prefix="appfn-pg-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        _run([programs / "initdb", "--pgdata", data, "--username", "appfn", "--auth", "trust", "--no-sync"], user=user)
        server = Server(programs, folder, user, durable)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    found = sorted(Path("/").glob(_FOLDERS), key=lambda path: int(path.parent.name))
    if not found:
        raise RuntimeError("PostgreSQL is missing: apt-get install postgresql")
    return found[-1]


def _user() -> str | None:
    """Return the user to run as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    known = {line.split(":")[0] for line in Path("/etc/passwd").read_text().splitlines()}
    return next(user for user in _USERS if user in known)


def _run(command: list[str | Path], *, user: str | None) -> None:
    # extra_groups: root's own must not be kept.
    done = subprocess.run(
        command,
        user=user,
        extra_groups=None if user is None else [],
        cwd="/",
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed: {done.stderr or done.stdout}")
