"""Background processes: started apart from us, recognised later beyond doubt, ended.

A pid file holds more than the pid: pids are reused, after a reboot at once. A
process is ours only if its start time and its arguments are those we recorded.
"""

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from localcluster import commands
from localcluster.errors import ClusterError

_START_TIME_FIELD = 21
_LOG_LINES_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Identity of a process: ``started`` is in clock ticks since boot."""

    pid: int
    started: int
    argv: list[str]

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return identify(self.pid) == self


def identify(pid: int) -> Process | None:
    """The process that has ``pid`` now; None if there is none or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        cmdline = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    # The second field, the program's name in brackets, may itself hold spaces and brackets.
    fields = stat[stat.rindex(")") + 2 :].split()
    if fields[0] in "ZX" or not cmdline:
        return None
    argv = cmdline.decode(errors="replace").rstrip("\0").split("\0")
    return Process(pid=pid, started=int(fields[_START_TIME_FIELD - 2]), argv=argv)


def read(pids: Path, name: str) -> Process | None:
    """The live process recorded under ``name``; None if there is none any more."""
    try:
        process = Process(**json.loads(_path(pids, name).read_text())["process"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return process if process.alive() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Starts processes of one cluster, unless they run already.

    With ``bound`` the kernel kills them as soon as the starting thread ends, so
    that an aborted test run leaves nothing behind: start them from the main thread.
    """

    pids: Path
    logs: Path
    cwd: Path
    bound: bool = False
    children: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def reap(self) -> None:
        """Collect the exit of every started process; they must have been ended."""
        while self.children:
            self.children.pop().wait(timeout=10)

    def ensure(self, name: str, argv: Sequence[str | Path], *, reads: Sequence[Path] = ()) -> None:
        """Start ``argv`` as ``name`` unless that very command already runs.

        It is started again when the files it ``reads`` have changed since.
        """
        wanted = [str(part) for part in argv]
        inputs = _digest(reads)
        running = read(self.pids, name)
        if running is not None and running.argv == wanted and _recorded_inputs(self.pids, name) == inputs:
            return
        if running is not None:
            end([running])
        process = self._start(name, wanted)
        _path(self.pids, name).write_text(json.dumps({"process": asdict(process), "inputs": inputs}))

    def _start(self, name: str, argv: list[str]) -> Process:
        if commands.find(argv[0]) is None:
            raise ClusterError(f"{argv[0]} can't be started", remedy="install it, or run `up` to build it")
        with (self.logs / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                [*self._prefix(), *argv],
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.children.append(child)
        return self._settled(child, name, argv)

    def _prefix(self) -> list[str]:
        if not self.bound:
            return []
        return [commands.find("setpriv") or "setpriv", "--pdeathsig", "KILL", "--"]

    def _settled(self, child: "subprocess.Popen[bytes]", name: str, argv: list[str]) -> Process:
        """Wait until ``child`` has become ``argv``: between fork and exec it is still us."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            process = identify(child.pid)
            if process is not None and process.argv == argv:
                return process
            if child.poll() is not None:
                break
            time.sleep(0.005)
        raise self.failure(name)

    def failure(self, name: str) -> ClusterError:
        """The error that says why ``name`` ended, by the end of its log."""
        log = self.logs / f"{name}.log"
        lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        said = " | ".join(line.strip()[:300] for line in lines)
        return ClusterError(f"{name} ended: {said}", remedy=f"read {log}")


def recorded(pids: Path) -> list[Process]:
    """Every live process recorded in ``pids``."""
    found = (read(pids, path.stem) for path in sorted(pids.glob("*.json")))
    return [process for process in found if process is not None]


def end(processes: Sequence[Process], *, grace: float = 5.0) -> None:
    """Ask processes to end, all at once, and after ``grace`` seconds kill the rest."""
    for how, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        remaining = [process for process in processes if process.alive()]
        for process in remaining:
            send(process.pid, how)
        if wait_until(partial(_all_gone, remaining), within=patience):
            return


def _path(pids: Path, name: str) -> Path:
    return pids / f"{name}.json"


def _recorded_inputs(pids: Path, name: str) -> str:
    return str(json.loads(_path(pids, name).read_text()).get("inputs"))


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()


def _all_gone(those: Sequence[Process]) -> bool:
    return not any(process.alive() for process in those)


def send(pid: int, how: signal.Signals) -> None:
    """Send a signal; that the process is gone already is fine."""
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return


def wait_until(done: Callable[[], bool], *, within: float, every: float = 0.02) -> bool:
    """Whether ``done`` came true within so many seconds."""
    deadline = time.monotonic() + within
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def matching(belongs: Callable[[Process], bool]) -> list[Process]:
    """Every process of the host for which ``belongs`` holds."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    found = (identify(pid) for pid in pids)
    return [process for process in found if process is not None and belongs(process)]
