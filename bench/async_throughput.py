"""Asynchronous executions: how many are accepted a second, committed before the 202, and how soon all have run.

Through the shim on the cluster's SQLite; the store alone, in this process, on SQLite and on PostgreSQL (both flush each
commit to the disk). The baseline of the store is one INSERT and one commit at a time.
"""

import asyncio
import re
import sqlite3
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import text

from appfn.store.database import open_database
from appfn.store.executions import ExecutionStore
from bench.harness import Context, Result
from bench.load import ACCEPTED, shim_call, wrk
from bench.pods import Wanted, deploy
from bench.warm import first_answer
from support.executions import a_request
from support.polling import wait_for
from support.postgres import postgres_server

CALLERS: Final = 16
_LIMIT = 1_000_000
_DONE = re.compile(r"^appfn_executions_total\{(?=[^}]*namespace=\"([^\"]*)\")[^}]*\} ([0-9.e+]+)$", re.MULTILINE)


def run(context: Context) -> Sequence[Result]:
    """Measure."""
    seconds = context.few(5, 2)
    return [*_through_shim(context, seconds), *_stores(seconds)]


def _through_shim(context: Context, seconds: float) -> list[Result]:
    with context.shim_environment(QUEUE_LIMIT=str(_LIMIT)), context.project() as (project, key):
        deploy(project, Wanted(name="later", spec={"scaling": {"minReplicas": 1, "maxReplicas": 1}}))
        address, metrics, namespace = context.shim_address, context.shim_metrics, project.namespace
        sync = shim_call(address, namespace, key, "later")
        first_answer(sync)
        waiting = wrk(sync, connections=CALLERS, seconds=seconds).faultless()
        before, begun = _done(metrics, namespace), time.monotonic()
        call = shim_call(address, namespace, key, "later", asynchronous=True)
        load = wrk(call, connections=CALLERS, seconds=seconds, count=True)
        accepted = load.statuses.get(str(ACCEPTED), 0)
        wait_for(lambda: _done(metrics, namespace) - before >= accepted, within=120, pause=0.05)
        elapsed = time.monotonic() - begun
    return [
        Result(
            name="async_throughput accepted",
            unit="requests/s",
            value=accepted / load.seconds,
            baseline=waiting.rate,
            against="sync calls",
            n=accepted,
        ),
        Result(
            name="async_throughput finished",
            unit="executions/s",
            value=accepted / elapsed,
            baseline=waiting.rate,
            against="sync calls",
            n=accepted,
        ),
    ]


def _done(metrics: str, namespace: str) -> float:
    with urllib.request.urlopen(metrics, timeout=10) as page:  # noqa: S310 - a pod of ours
        found = _DONE.findall(page.read().decode())
    return sum(float(value) for name, value in found if name == namespace)


def _stores(seconds: float) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="appfn-bench-") as folder, postgres_server(durable=True) as server:
        sqlite = asyncio.run(_accepted(f"sqlite+aiosqlite:///{folder}/executions.db", seconds))
        postgresql = asyncio.run(_accepted(server.create_database(), seconds))
        plain = {
            "SQLite": _plain_sqlite(Path(folder) / "plain.db", seconds),
            "PostgreSQL": asyncio.run(_plain_postgresql(server.create_database(), seconds)),
        }
    return [
        Result(
            name=f"async_throughput store, {engine}",
            unit="executions/s",
            value=count / seconds,
            baseline=plain[engine] / seconds,
            against="single commits",
            n=count,
        )
        for engine, count in (("SQLite", sqlite), ("PostgreSQL", postgresql))
    ]


async def _accepted(url: str, seconds: float) -> int:
    """Return how many executions were accepted by as many callers as there are on the cluster."""
    count = 0
    async with ExecutionStore.open(url, now=lambda: datetime.now(UTC)) as store:
        end = time.monotonic() + seconds

        async def caller() -> None:
            nonlocal count
            while time.monotonic() < end:
                await store.accept(a_request(), queue_limit=_LIMIT)
                count += 1

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return count


def _plain_sqlite(path: Path, seconds: float) -> int:
    count, end = 0, time.monotonic() + seconds
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE plain (id INTEGER PRIMARY KEY, body TEXT)")
    while time.monotonic() < end:
        connection.execute("INSERT INTO plain (body) VALUES ('hello')")
        count += 1
    connection.close()
    return count


async def _plain_postgresql(url: str, seconds: float) -> int:
    count = 0
    async with open_database(url) as database, database.reader.connect() as connection:  # each statement commits
        await connection.execute(text("CREATE TABLE plain (id BIGSERIAL PRIMARY KEY, body TEXT)"))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await connection.execute(text("INSERT INTO plain (body) VALUES ('hello')"))
            count += 1
    return count
