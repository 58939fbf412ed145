import base64
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from appfn.shim import key_command
from appfn.shim.auth import api_key


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, dict[str, str]], str]:
    assert key_command.main(["--namespace", "shop", *arguments]) == 0
    said = capsys.readouterr()
    return yaml.safe_load(said.out), said.err


def test_the_secret_goes_to_stdout_and_the_key_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    manifest, said = run(capsys, "--scope", "execution.write", "--scope", "executions.read", "--name", "ci")

    key = api_key.parse(said.split()[-1])
    assert key is not None
    assert manifest["metadata"]["namespace"] == "shop"
    assert manifest["metadata"]["name"] == f"appfn-key-{key.id}"
    assert manifest["stringData"] == {"name": "ci", "hash": key.hash, "scopes": "executions.read executions.write"}
    assert key.secret not in yaml.safe_dump(manifest)


def test_what_is_printed_is_the_key_that_is_stored(capsys: pytest.CaptureFixture[str]) -> None:
    manifest, said = run(capsys, "--scope", "executions.write", "--expires", "90d")
    data = {name: base64.b64encode(value.encode()).decode() for name, value in manifest["stringData"].items()}

    key = api_key.parse(said.split()[-1])
    assert key is not None
    stored = api_key.stored(key.id, {**manifest, "data": data})

    assert stored is not None
    assert stored.matches(key)
    assert stored.expires is not None
    assert timedelta(days=89) < stored.expires - datetime.now(UTC) <= timedelta(days=90)


def test_every_key_is_another(capsys: pytest.CaptureFixture[str]) -> None:
    keys = {run(capsys, "--scope", "executions.read")[1].split()[-1] for _ in range(5)}

    assert len(keys) == 5


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "--scope"),
        (["--scope", "everything"], "everything"),
        (["--scope", "executions.read executions.write"], "executions.read executions.write"),
        (["--scope", ""], "--scope"),
        (["--scope", "executions.read", "--expires", "soon"], "soon"),
        (["--scope", "executions.read", "--expires", "2030-01-01T00:00:00"], "time zone"),
        (["--scope", "executions.read", "--expires", "2020-01-01T00:00:00Z"], "past"),
    ],
)
def test_mistakes_are_told(capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str) -> None:
    with pytest.raises(SystemExit) as caught:
        key_command.main(["--namespace", "shop", *arguments])

    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err
