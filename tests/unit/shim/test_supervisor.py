"""The supervisor of several processes, and what is said of mistakes before any is started."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from appfn import config as configuration
from appfn.errors import ConfigError
from appfn.shim import supervisor


def test_it_takes_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert supervisor.main(["--port", "80"]) == 2
    assert "usage" in capsys.readouterr().err


def test_every_mistake_in_the_environment_is_told_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPFN_PORT", "high")
    monkeypatch.setenv("APPFN_QUEUE_LIMIT", "0")

    assert supervisor.main([]) == 2

    said = capsys.readouterr().err
    assert "APPFN_PORT" in said
    assert "APPFN_QUEUE_LIMIT" in said


CHILD = """
import os, signal, socket, sys
from pathlib import Path
index, notes, line = os.environ["APPFN_PROCESS_INDEX"], Path(sys.argv[1]), socket.socket(fileno=0)
def leave(number, frame):
    (notes / f"left-{index}").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
(notes / f"port-{index}").write_text(os.environ["APPFN_PORT"])
line.send(b"u")
assert line.recv(1) == b"u"
"""


def run(tmp_path: Path, script: str, *, processes: int = 2, **variables: str) -> int:
    """Supervise processes that run CHILD and then the script."""
    environ = {"APPFN_IMAGE": "appfn", "APPFN_HOST": "127.0.0.1", "APPFN_PORT": "0"}
    environ |= {"APPFN_PROCESSES": str(processes), **variables}
    config = configuration.load(environ).shim
    command = (sys.executable, "-c", CHILD + script, str(tmp_path))
    return supervisor.supervise(config, {**os.environ, **environ}, command=command)


def test_where_a_process_ends_by_itself_the_others_leave_and_the_supervisor_fails(tmp_path: Path) -> None:
    assert run(tmp_path, "sys.exit(3) if index == '1' else line.recv(1)", processes=3) == 3
    assert sorted(path.name for path in tmp_path.glob("left-*")) == ["left-0", "left-2"]


def test_a_process_that_ends_without_being_asked_is_a_failure_whatever_it_says(tmp_path: Path) -> None:
    assert run(tmp_path, "index == '0' or line.recv(1)") == 1


def test_a_process_that_is_killed_is_a_failure(tmp_path: Path) -> None:
    assert run(tmp_path, "os.kill(os.getpid(), signal.SIGKILL) if index == '0' else line.recv(1)") == 1


def test_signals_reach_every_process(tmp_path: Path) -> None:
    assert run(tmp_path, "index == '0' and os.kill(os.getppid(), signal.SIGTERM); line.recv(1)") == 0
    assert sorted(path.name for path in tmp_path.glob("left-*")) == ["left-0", "left-1"]


def test_who_does_not_leave_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_CLOSE_SECONDS", 0.2)
    script = "signal.signal(signal.SIGTERM, signal.SIG_IGN); index == '0' and os.kill(os.getppid(), signal.SIGTERM)"

    assert run(tmp_path, script + "; line.recv(1)", APPFN_DRAIN_SECONDS="0") == 1


def test_all_processes_are_told_the_same_port(tmp_path: Path) -> None:
    run(tmp_path, "sys.exit(1)")

    first, second = (path.read_text() for path in tmp_path.glob("port-*"))
    assert first == second != "0"


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigError, match="APPFN_PORT: cannot listen on"):
            run(tmp_path, "", APPFN_PORT=str(other.getsockname()[1]))


def test_the_supervisor_loads_nothing_that_serves() -> None:
    code = "import sys, appfn.shim.supervisor; print(sorted({'aiohttp', 'asyncio', 'sqlalchemy'} & set(sys.modules)))"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    done = subprocess.run((sys.executable, "-c", code), env=environ, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
