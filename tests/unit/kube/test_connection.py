"""In a pod, the ServiceAccount's token is read again as the kubelet renews it."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import certifi
import pytest
from kubernetes.aio.config import incluster_config

from appfn.kube.client import connect


class Clock(dt.datetime):
    """The wall clock as the library sees it."""

    moment = dt.datetime(2026, 1, 1)  # noqa: DTZ001 - the library compares naive times

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
        assert tz is None
        return cls.moment


@pytest.fixture
def write_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], object]:
    """Pretend to be in a pod; return how the kubelet renews its token."""
    path = tmp_path / "token"
    path.write_text("first")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(path))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", certifi.where())
    monkeypatch.setattr(incluster_config, "datetime", SimpleNamespace(datetime=Clock, timedelta=dt.timedelta))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return path.write_text


async def test_a_renewed_token_is_used_within_a_minute(
    write_token: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(None) as cluster:
        found = await cluster.connection()
        assert (found.server, found.authorization) == ("https://10.0.0.1:443", "bearer first")
        assert found.ca_path == certifi.where()

        write_token("second")
        monkeypatch.setattr(Clock, "moment", Clock.moment + dt.timedelta(seconds=61))
        assert (await cluster.connection()).authorization == "bearer second"


async def test_the_token_does_not_show_in_logs(write_token: Callable[[str], object]) -> None:
    write_token("hidden")
    async with connect(None) as cluster:
        assert "hidden" not in repr(await cluster.connection())
