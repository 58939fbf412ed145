"""A million executions that have ended, in SQLite and in PostgreSQL: lists, counts and retention over them.

Half of them are of one busy function, the rest of a hundred others; one in a hundred failed. They are written by SQL,
as the store itself would take an hour. The baseline of each figure is the same with a hundredth of them.

Goals, chosen here: 99 of 100 lists take no longer than 50 ms, also while old executions are being deleted.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import insert, text

from appfn.api.execution import ExecutionPhase
from appfn.store.database import Database, open_database
from appfn.store.executions import ExecutionStore
from appfn.store.model import Comparison, ExecutionQuery, Field, Filter
from appfn.store.rows import row_of_record
from appfn.store.schema import ALL_FUNCTIONS, COUNTS, EXECUTIONS, USAGE
from bench.harness import Context, Goal, Result, median, percentile, quartiles
from support.executions import a_finished, an_outcome, failed
from support.postgres import postgres_server

EXECUTIONS_MADE: Final = 1_000_000
BASE: Final = 10_000
NOW = datetime(2030, 6, 1, tzinfo=UTC)
BUSY = ExecutionQuery(namespace="shop", function_uid="uid-busy")
_BATCH = 5000
_RETENTION_BATCH = 500
_RETENTION_PAUSE = 0.1
_DAY = timedelta(days=1)
_SECONDS = 2.0
"""Most that is spent on one kind of read."""
_USERS = 1000
_OTHERS = 100
_MIB = 2**20
_STDOUT = "a line of a log, as functions write them\n" * 3
Timed = dict[str, list[float]]


def run(context: Context) -> Sequence[Result]:
    """Measure."""
    many = context.few(EXECUTIONS_MADE, 50_000)
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="appfn-bench-") as folder, postgres_server() as server:
        for engine in ("SQLite", "PostgreSQL"):
            urls = iter(
                [f"sqlite+aiosqlite:///{folder}/few.db", f"sqlite+aiosqlite:///{folder}/many.db"]
                if engine == "SQLite"
                else [server.create_database(), server.create_database()]
            )
            few, _ = asyncio.run(_measure(next(urls), BASE, calls=context.few(200, 20)))
            timed, size = asyncio.run(_measure(next(urls), many, calls=context.few(200, 20)))
            results += _results(engine, few, timed)
            results.append(Result(name=f"history_1m {engine} size", unit="MiB", value=size))
    return results


async def _measure(url: str, count: int, *, calls: int) -> tuple[Timed, float]:
    begun = time.monotonic()
    async with open_database(url) as database:
        await _fill(database, count)
        size = await _size(database, url)
    print(f"  {url.partition(':')[0]}: {count:,} executions in {time.monotonic() - begun:.0f} s", flush=True)
    async with ExecutionStore.open(url, now=lambda: NOW) as store:
        timed: Timed = {}
        for name, call in (await _calls(store, count)).items():
            await call()  # what is read for the first time comes from the disk
            timed[name] = await _repeated(call, calls)
        timed |= await _during_retention(store, count)
    return timed, size


async def _calls(store: ExecutionStore, count: int) -> dict[str, Callable[[], Coroutine[Any, Any, object]]]:
    """Return what is measured: the reads that API and operator ask for."""
    middle = await _id_at(store, NOW - timedelta(seconds=count / 2))
    failures = Filter(Field.PHASE, Comparison.EQUAL, (ExecutionPhase.FAILED.value,))
    shapes = {
        "list": BUSY,
        "list, deep cursor": replace(BUSY, after=middle),
        "list, deep offset": replace(BUSY, offset=4000),
        "list of failed": replace(BUSY, filters=(failures,)),
        "list by status code": replace(BUSY, filters=(Filter(Field.STATUS_CODE, Comparison.EQUAL, (500,)),)),
        "list by rare status code": replace(BUSY, filters=(Filter(Field.STATUS_CODE, Comparison.EQUAL, (418,)),)),
        "list by duration": replace(BUSY, filters=(Filter(Field.DURATION, Comparison.GREATER, (5.0,)),)),
        "list, longest first": replace(BUSY, order=Field.DURATION),
        "list by path": replace(BUSY, filters=(Filter(Field.PATH, Comparison.EQUAL, ("/nowhere",)),)),
        "list since": replace(
            BUSY, filters=(Filter(Field.CREATED_AT, Comparison.GREATER, (NOW - timedelta(seconds=count / 2),)),)
        ),
        "list of a user": replace(BUSY, reader="user-7"),
        "list of a quiet function": replace(BUSY, function_uid="uid-7"),
    }
    calls: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        name: _bind(store.list, query) for name, query in shapes.items()
    }
    return calls | {
        "get": lambda: store.get("shop", middle),
        "counts": lambda: store.counts(BUSY.function_uid),
        "recent": lambda: store.recent("shop", BUSY.function_uid, completed=3, failed=1),
        "usage": lambda: store.usage(
            "shop", since=NOW - timedelta(days=30), until=NOW, step=_DAY, function_uid="uid-7"
        ),
        "usage of a project": lambda: store.usage("shop", since=NOW - timedelta(days=90), until=NOW, step=_DAY),
    }


def _bind(call: Callable[[Any], Coroutine[Any, Any, object]], value: Any) -> Callable[[], Coroutine[Any, Any, object]]:
    return lambda: call(value)


async def _id_at(store: ExecutionStore, moment: datetime) -> str:
    since = Filter(Field.CREATED_AT, Comparison.LESS_EQUAL, (moment,))
    page = await store.list(replace(BUSY, filters=(since,), limit=1))
    return page.executions[0].id


async def _during_retention(store: ExecutionStore, count: int) -> Timed:
    """Delete the older half of what there is, as housekeeping does, while lists are asked for."""
    timed: Timed = {"list during retention": [], "deletion of a batch": []}
    before = NOW - timedelta(seconds=count / 2)
    rounds = min(100, max(1, count // 2 // _RETENTION_BATCH))
    done = asyncio.Event()

    async def delete() -> None:
        for _ in range(rounds):
            call = lambda: store.delete_finished_before(before, batch=_RETENTION_BATCH)  # noqa: E731 - timed as a whole
            timed["deletion of a batch"].append(await _time(call))
            await asyncio.sleep(_RETENTION_PAUSE)
        done.set()

    async def read() -> None:
        while not done.is_set():
            timed["list during retention"].append(await _time(lambda: store.list(BUSY)))
            await asyncio.sleep(0.005)

    await asyncio.gather(delete(), read())
    return timed


async def _repeated(call: Callable[[], Coroutine[Any, Any, object]], times: int) -> list[float]:
    """Return the times of so many calls, or of as many as there is time for."""
    end, found = time.monotonic() + _SECONDS, [await _time(call)]
    while len(found) < times and time.monotonic() < end:
        found.append(await _time(call))
    return found


async def _time(call: Callable[[], Coroutine[Any, Any, object]]) -> float:
    begun = time.perf_counter()
    await call()
    return 1000 * (time.perf_counter() - begun)


async def _fill(database: Database, count: int) -> None:
    """Write the history: one execution a second up to NOW."""
    async with database.writer.begin() as connection:
        for start in range(0, count, _BATCH):
            rows = [_row(number, count) for number in range(start, min(start + _BATCH, count))]
            await connection.execute(insert(EXECUTIONS), rows)
        await connection.execute(insert(COUNTS), list(_counts(count)))
        await connection.execute(insert(USAGE), list(_usage()))
        if connection.dialect.name == "sqlite":
            return
    async with database.reader.connect() as connection:
        await connection.execute(text("VACUUM ANALYZE"))


_TEMPLATES: Final[dict[bool, dict[str, Any]]] = {
    bad: row_of_record(a_finished(outcome=failed() if bad else an_outcome(stdout=_STDOUT), path="/greet"), sequence=0)
    for bad in (False, True)
}


def _row(number: int, count: int) -> dict[str, Any]:
    at = NOW - timedelta(seconds=count - number)
    reader = f"user-{number % _USERS}" if number % 4 == 0 else ""
    return _TEMPLATES[number % 100 == 0] | {
        "id": f"{number * 2_654_435_761 % 2**32:08x}{number:08x}",  # ids are random, so their index is
        "function_uid": "uid-busy" if number % 2 == 0 else f"uid-{number % _OTHERS}",
        "sequence": number,
        "created_at": at,
        "updated_at": at,
        "available_at": at,
        "started_at": at,
        "finished_at": at,
        "reader": reader,
    }


def _counts(count: int) -> Iterator[dict[str, object]]:
    for uid in ("uid-busy", *(f"uid-{number}" for number in range(_OTHERS))):
        yield {"function_uid": uid, "total": count, "completed": count, "failed": 0}


def _usage() -> Iterator[dict[str, object]]:
    for number in range(_OTHERS):
        for hour in range(90 * 24):
            yield {
                "namespace": "shop",
                "function_uid": f"uid-{number}" if number else ALL_FUNCTIONS,
                "hour": NOW - timedelta(hours=hour),
                "completed": 10,
                "failed": 0,
                "compute_ms": 1000,
            }


async def _size(database: Database, url: str) -> float:
    """Return the size of tables and indexes in MiB."""
    if database.writer.dialect.name == "sqlite":
        path = Path(url.partition("///")[2])
        with contextlib.suppress(FileNotFoundError):
            return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*")) / _MIB
    async with database.reader.connect() as connection:
        size = await connection.execute(text("SELECT pg_total_relation_size('executions')"))
        return float(size.scalar_one()) / _MIB


def _results(engine: str, few: Timed, timed: Timed) -> list[Result]:
    return [
        Result(
            name=f"history_1m {engine} {name} p99",
            unit="ms",
            value=percentile(samples, 99),
            baseline=percentile(few[name], 99),
            against=f"{BASE:,} executions",
            n=len(samples),
            spread=quartiles(samples),
            goal=Goal(limit=50 if name != "deletion of a batch" else 250),
        )
        for name, samples in timed.items()
    ] + [
        Result(
            name=f"history_1m {engine} list p50",
            unit="ms",
            value=median(timed["list"]),
            baseline=median(few["list"]),
            against=f"{BASE:,} executions",
            n=len(timed["list"]),
            spread=quartiles(timed["list"]),
        )
    ]
