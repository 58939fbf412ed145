import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import containers, dns, processes
from localcluster.errors import ClusterError
from localcluster.processes import Launcher, Process


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    made = Launcher(pids=tmp_path, logs=tmp_path, cwd=tmp_path)
    yield made
    processes.end(processes.recorded(tmp_path), grace=0.0)
    made.reap()


def pid_of(launcher: Launcher, name: str) -> int:
    process = processes.read(launcher.pids, name)
    assert process is not None
    return process.pid


def test_a_started_process_is_recognised(launcher: Launcher) -> None:
    launcher.ensure("sleeper", ["/bin/sleep", "100"])
    assert processes.identify(pid_of(launcher, "sleeper")) == processes.read(launcher.pids, "sleeper")


def test_a_process_that_runs_as_wanted_is_left_alone(launcher: Launcher) -> None:
    launcher.ensure("sleeper", ["/bin/sleep", "100"])
    before = pid_of(launcher, "sleeper")
    launcher.ensure("sleeper", ["/bin/sleep", "100"])
    assert pid_of(launcher, "sleeper") == before


def test_other_arguments_or_another_configuration_make_it_start_again(launcher: Launcher, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("one")
    launcher.ensure("sleeper", ["/bin/sleep", "100"], reads=[config])
    pids = [pid_of(launcher, "sleeper")]
    config.write_text("two")
    launcher.ensure("sleeper", ["/bin/sleep", "100"], reads=[config])
    pids.append(pid_of(launcher, "sleeper"))
    launcher.ensure("sleeper", ["/bin/sleep", "101"], reads=[config])
    pids.append(pid_of(launcher, "sleeper"))
    assert len(set(pids)) == 3
    assert processes.identify(pids[0]) is None


def test_a_pid_that_was_given_to_another_process_is_not_ours(launcher: Launcher) -> None:
    launcher.ensure("sleeper", ["/bin/sleep", "100"])
    process = processes.read(launcher.pids, "sleeper")
    assert process is not None
    assert not dataclasses.replace(process, started=process.started - 1).alive()
    assert not dataclasses.replace(process, argv=["/bin/sleep", "99"]).alive()


def test_an_ended_process_is_gone_although_its_exit_was_not_collected(launcher: Launcher) -> None:
    launcher.ensure("sleeper", ["/bin/sleep", "100"])
    processes.end(processes.recorded(launcher.pids))
    assert processes.read(launcher.pids, "sleeper") is None


def test_a_failure_is_told_in_the_programs_last_words(launcher: Launcher) -> None:
    (launcher.logs / "broken.log").write_text("first\nsecond\nthird\n  address in use\n")
    assert str(launcher.failure("broken")) == (
        f"broken ended: second | third | address in use; read {launcher.logs}/broken.log"
    )


def test_a_program_that_is_not_there_is_reported(launcher: Launcher) -> None:
    with pytest.raises(ClusterError, match=r"/no/such/program can't be started"):
        launcher.ensure("absent", ["/no/such/program"])


@pytest.mark.parametrize("content", ["", "{}", "[]", "not json", '{"process": {"pid": 1}}'])
def test_a_damaged_pid_file_means_no_process(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    assert processes.read(tmp_path, "x") is None


def test_this_process_knows_itself() -> None:
    process = processes.identify(os.getpid())
    assert process is not None
    assert process.alive()


MOUNTS = r"""
24 30 0:22 / /proc rw - proc proc rw
30 1 254:0 / / rw - ext4 /dev/vda rw
99 30 0:50 / /var/lib/appfn/a\040b/m rw - tmpfs tmpfs rw
"""


def test_mount_points_with_spaces_are_read_right() -> None:
    found = containers.mount_points(MOUNTS.strip())
    assert found == [Path("/proc"), Path("/"), Path("/var/lib/appfn/a b/m")]


def shim(address: str) -> Process:
    arguments = ["-namespace", "k8s.io", "-id", "abc", "-address", address]
    return Process(pid=1, started=1, argv=["/usr/bin/containerd-shim-runc-v2", *arguments])


def test_only_the_shims_of_our_own_containerd_are_ours() -> None:
    ours = Path("/run/appfn/appfn/containerd.sock")
    assert containers.is_shim(shim(str(ours)), ours)
    assert not containers.is_shim(shim("/run/containerd/containerd.sock"), ours)
    assert not containers.is_shim(Process(pid=1, started=1, argv=["vi", str(ours)]), ours)


def test_the_socket_of_a_shim_is_named_as_containerd_does() -> None:
    name = containers.shim_socket_name(shim("/run/x.sock"))
    assert name == hashlib.sha256(b"/run/x.sock/k8s.io/abc").hexdigest()


def test_a_dns_answer_counts_only_with_records_and_for_the_same_question() -> None:
    question = dns.query(7, "a.example")
    assert question[12:] == b"\x01a\x07example\x00\x00\x01\x00\x01"
    answer = b"\x00\x07\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00"
    assert dns.has_answer(7, answer)
    assert not dns.has_answer(8, answer)
    assert not dns.has_answer(7, answer[:7] + b"\x00" + answer[8:])
    assert not dns.has_answer(7, answer[:3] + b"\x83" + answer[4:])
    assert not dns.has_answer(7, b"\x00\x07")
