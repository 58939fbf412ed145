"""The trigger: which tick a Job stands for, and what counts as done."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appfn.agent.shim import ShimClient
from appfn.trigger import scheduled_time, trigger
from unit.agent.http_server import Reply, web
from unit.agent.patience import quick

NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
MINUTE = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TICK = datetime(2026, 3, 1, 11, 55, tzinfo=UTC)


def minutes(time: datetime) -> int:
    return int(time.timestamp()) // 60


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (f"hello-schedule-{minutes(TICK)}", TICK),
        (f"hello-7-schedule-{minutes(TICK + timedelta(minutes=6))}", TICK + timedelta(minutes=6)),
        (f"hello-{minutes(NOW - timedelta(days=30))}", MINUTE - timedelta(days=30)),
        ("by-hand", MINUTE),
        ("", MINUTE),
        ("by-hand-1", MINUTE),
        ("by-hand-20260301", MINUTE),
        (f"by-hand-{minutes(NOW + timedelta(days=3))}", MINUTE),
        (f"by-hand-{minutes(TICK)}x", MINUTE),
    ],
)
def test_scheduled_time_is_that_of_the_jobs_name_or_else_this_minute(job: str, expected: datetime) -> None:
    assert scheduled_time(job, NOW) == expected


def run(tmp_path: Path, *replies: Reply) -> tuple[bool, str, list[bytes], list[str]]:
    token = tmp_path / "token"
    token.write_text("token")
    environ = {"APPFN_FUNCTION": "hello", "APPFN_JOB_NAME": f"hello-schedule-{minutes(TICK)}"}
    answers = iter(replies)
    with web(lambda _: next(answers, replies[-1])) as server:
        shim = ShimClient(url=server.url, token_path=token, patience=quick(50))
        ok, line = trigger(environ, shim, now=lambda: NOW)
    return ok, line, [request.body for request in server.requests], [request.path for request in server.requests]


def test_execution_is_asked_for_by_the_scheduled_time(tmp_path: Path) -> None:
    ok, line, bodies, paths = run(tmp_path, Reply(status=202, body=b'{"id": "e1"}'))

    assert (ok, line) == (True, "function hello triggered for 2026-03-01T11:55:00Z: execution e1")
    assert [json.loads(body) for body in bodies] == [{"scheduledTime": "2026-03-01T11:55:00Z"}]
    assert paths == ["/internal/v1/functions/hello/ticks"]


def test_shim_that_comes_back_is_waited_for(tmp_path: Path) -> None:
    ok, _, bodies, _ = run(tmp_path, Reply(status=503), Reply(status=429), Reply(status=202, body=b'{"id": "e1"}'))

    assert ok
    assert len(bodies) == 3


@pytest.mark.parametrize("status", [404, 409])
def test_function_without_anything_to_run_is_no_failure(tmp_path: Path, status: int) -> None:
    ok, line, bodies, _ = run(tmp_path, Reply(status=status, body=b'{"message": "the function is disabled"}'))

    assert ok
    assert line.endswith(f"HTTP {status}: the function is disabled")
    assert len(bodies) == 1


@pytest.mark.parametrize("status", [401, 403, 500])
def test_any_other_answer_is_a_failure_in_one_line(tmp_path: Path, status: int) -> None:
    ok, line, _, _ = run(tmp_path, Reply(status=status))

    assert not ok
    assert line.startswith("function hello could not be triggered for 2026-03-01T11:55:00Z: ")
    assert "\n" not in line


def test_program_without_its_environment_says_what_is_missing() -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "appfn", "trigger"]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(root / "operator")}, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (1, "the environment variable APPFN_SHIM_URL is missing\n")
