"""Every test of the store runs on SQLite and on a real PostgreSQL."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from appfn.store.executions import ExecutionStore
from support.executions import Clock
from support.postgres import Server, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database that is empty and the test's own."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/executions.db"
    server: Server = request.getfixturevalue("postgres")
    return server.create_database()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(url: str, clock: Clock) -> AsyncIterator[ExecutionStore]:
    async with ExecutionStore.open(url, now=clock) as opened:
        yield opened
