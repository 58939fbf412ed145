"""The start signal: quoting for shells, and writing to a FIFO that somebody may or may not read."""

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appfn.agent.start_signal import NobodyListensError, Start, StartSignal, as_document, as_shell, make_fifo

values = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


def shell_environment(signal: bytes) -> dict[str, str]:
    """Return what a shell's child sees after the shell has read the signal."""
    script = signal + b"exec env -0\n"
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(["sh"], input=script, env=environment, capture_output=True, check=True)
    pairs = (entry.partition("=") for entry in done.stdout.decode().split("\0") if entry)
    return {name: value for name, _, value in pairs}


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.from_regex(r"U_[A-Za-z0-9_]{1,10}", fullmatch=True), values, max_size=5), values)
def test_shell_gets_every_value_as_it_is(environment: dict[str, str], entrypoint: str) -> None:
    signal = as_shell(Start(entrypoint=entrypoint, key="k", environment=environment))

    seen = shell_environment(signal)

    assert {name: seen[name] for name in environment} == environment
    assert (seen["INTERNAL_RUNTIME_ENTRYPOINT"], seen["INTERNAL_RUNTIME_KEY"]) == (entrypoint, "k")


@pytest.mark.parametrize("name", ["a-b", "1A", "", "A=B", "A;reboot", "A\n", "ä", "$(id)"])
def test_name_that_no_shell_takes_is_left_out(name: str) -> None:
    signal = as_shell(Start(entrypoint="e", key="k", environment={name: "v"}))

    assert signal.decode().count("export") == 2


def test_users_variables_do_not_replace_the_key() -> None:
    environment = {"INTERNAL_RUNTIME_KEY": "forged", "INTERNAL_RUNTIME_ENTRYPOINT": "forged"}

    seen = shell_environment(as_shell(Start(entrypoint="e", key="k", environment=environment)))

    assert (seen["INTERNAL_RUNTIME_KEY"], seen["INTERNAL_RUNTIME_ENTRYPOINT"]) == ("k", "e")


def test_signal_that_is_cut_off_exports_nothing() -> None:
    signal = as_shell(Start(entrypoint="e", key="k", environment={"A": "1", "B": "2"}))

    done = subprocess.run(
        ["sh", "-c", '. /dev/stdin; echo "A is $A"'], input=signal[:-4], capture_output=True, check=False
    )

    assert b"A is 1" not in done.stdout


def test_document_holds_what_a_process_can_have(tmp_path: Path) -> None:
    environment = {"A": "1", "with-dash": "2", "B=C": "3", "": "4", "N": "a\0b"}

    document = json.loads(as_document(Start(entrypoint="e", key="k", environment=environment), code=tmp_path))

    assert document == {"entrypoint": "e", "key": "k", "code": str(tmp_path), "env": {"A": "1", "with-dash": "2"}}


def test_long_signal_arrives_whole(tmp_path: Path) -> None:
    fifo = tmp_path / "start"
    make_fifo(fifo)
    make_fifo(fifo)  # as after a restart
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()))
    reader.start()

    StartSignal(fifo).send(b"x" * 300_000, deadline=time.monotonic() + 10)

    reader.join()
    assert received == [b"x" * 300_000]


def test_sender_gives_up_where_nobody_reads(tmp_path: Path) -> None:
    make_fifo(tmp_path / "start")

    with pytest.raises(NobodyListensError, match="did not come"):
        StartSignal(tmp_path / "start").send(b"x", deadline=time.monotonic())


def test_sender_gives_up_where_the_reader_stalls(tmp_path: Path) -> None:
    make_fifo(tmp_path / "start")
    reader = os.open(tmp_path / "start", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(NobodyListensError, match="stopped reading"):
            StartSignal(tmp_path / "start").send(b"x" * 300_000, deadline=time.monotonic() + 0.2)
    finally:
        os.close(reader)


def test_file_in_place_of_the_fifo_is_refused(tmp_path: Path) -> None:
    (tmp_path / "start").write_text("")

    with pytest.raises(FileExistsError, match="not a FIFO"):
        make_fifo(tmp_path / "start")
