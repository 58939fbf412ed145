import pytest

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
