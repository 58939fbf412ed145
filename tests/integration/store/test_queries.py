"""Lists and other reads."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import ClauseElement, Executable, Select, insert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from appfn.api.execution import ExecutionPhase, Trigger
from appfn.core.records import ExecutionRecord, Origin
from appfn.store.executions import ExecutionStore
from appfn.store.model import MAX_TOTAL, Comparison, CursorError, ExecutionQuery, Field, Filter
from appfn.store.queries import counting, listing
from appfn.store.rows import row_of_record
from appfn.store.schema import EXECUTIONS
from support.executions import START, Clock, a_finished, a_request, an_outcome, failed

QUERY = ExecutionQuery(namespace="shop", function_uid="uid-greet")


async def recorded(store: ExecutionStore, *records: ExecutionRecord) -> list[str]:
    for record in records:
        await store.record(record)
    return [record.id for record in records]


async def ids(store: ExecutionStore, query: ExecutionQuery) -> list[str]:
    return [record.id for record in (await store.list(query)).executions]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


async def test_a_list_is_of_one_function_and_sees_what_was_just_recorded(store: ExecutionStore) -> None:
    mine = await recorded(store, *(a_finished(at=at(n)) for n in range(3)))
    await recorded(store, a_finished(function_uid="uid-other"), a_finished(namespace="other"))
    page = await store.list(QUERY)
    assert [record.id for record in page.executions] == mine[::-1]
    assert page.total == 3
    assert await ids(store, replace(QUERY, descending=False)) == mine


async def test_pages_by_cursor_meet_without_a_gap_in_both_directions(store: ExecutionStore) -> None:
    # Twos of the same time: the id decides.
    everything = sorted(await recorded(store, *(a_finished(at=at(n // 2)) for n in range(10))))
    oldest_first = replace(QUERY, descending=False, limit=4)
    assert await ids(store, oldest_first) == everything[:4]
    assert await ids(store, replace(oldest_first, after=everything[3])) == everything[4:8]
    assert await ids(store, replace(oldest_first, after=everything[9])) == []
    assert await ids(store, replace(oldest_first, before=everything[8])) == everything[4:8]
    assert await ids(store, replace(oldest_first, before=everything[2])) == everything[:2]
    newest_first = replace(QUERY, limit=4)
    assert await ids(store, replace(newest_first, after=everything[7])) == everything[6:2:-1]
    assert await ids(store, replace(newest_first, before=everything[3])) == everything[7:3:-1]
    assert await ids(store, replace(oldest_first, offset=3)) == everything[3:7]
    assert (await store.list(replace(oldest_first, after=everything[5]))).total == 10


@pytest.mark.parametrize("cursor", ["unknown", "", "nul\0"])
async def test_a_cursor_that_is_not_there_is_an_error(store: ExecutionStore, cursor: str) -> None:
    with pytest.raises(CursorError):
        await store.list(replace(QUERY, after=cursor))


async def test_the_execution_of_another_function_is_no_cursor(store: ExecutionStore) -> None:
    (foreign,) = await recorded(store, a_finished(function_uid="uid-other"))
    with pytest.raises(CursorError):
        await store.list(replace(QUERY, before=foreign))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Filter(Field.PHASE, Comparison.EQUAL, ("failed",)), "b"),
        (Filter(Field.PHASE, Comparison.EQUAL, ("failed", "waiting")), "bd"),
        (Filter(Field.PHASE, Comparison.NOT_EQUAL, ("failed", "waiting")), "ac"),
        (Filter(Field.TRIGGER, Comparison.EQUAL, ("schedule",)), "c"),
        (Filter(Field.STATUS_CODE, Comparison.GREATER_EQUAL, (500,)), "b"),
        (Filter(Field.STATUS_CODE, Comparison.EQUAL, (500,)), "b"),
        (Filter(Field.STATUS_CODE, Comparison.EQUAL, (200, 500)), "abc"),
        (Filter(Field.STATUS_CODE, Comparison.LESS, (500,)), "acd"),
        (Filter(Field.DURATION, Comparison.GREATER, (1.5,)), "a"),
        (Filter(Field.DURATION, Comparison.LESS_EQUAL, (2,)), "abcd"),
        (Filter(Field.CREATED_AT, Comparison.GREATER, (at(0),)), "bcd"),
        (Filter(Field.METHOD, Comparison.EQUAL, ("PUT",)), "b"),
        (Filter(Field.PATH, Comparison.EQUAL, ("/x\0",)), "d"),
        (Filter(Field.DEPLOYMENT, Comparison.EQUAL, ("greet-1",)), "abc"),
    ],
)
async def test_filters_choose_what_they_say(
    store: ExecutionStore,
    clock: Clock,
    condition: Filter,
    expected: str,
) -> None:
    await recorded(
        store,
        a_finished(id="a", at=at(0), outcome=an_outcome(duration=2.0)),
        a_finished(id="b", at=at(1), outcome=failed(), method="PUT"),
        a_finished(id="c", at=at(2), trigger=Trigger.SCHEDULE),
    )
    clock.advance(3)
    await store.accept(a_request(id="d", path="/x\0"), queue_limit=10)
    page = await store.list(replace(QUERY, filters=(condition,), descending=False))
    assert "".join(record.id for record in page.executions) == expected
    assert page.total == len(expected)


async def test_a_user_sees_only_what_names_the_user(store: ExecutionStore) -> None:
    await recorded(
        store,
        a_finished(id="key"),
        a_finished(id="ada", permissions=('read("user:ada")',)),
        a_finished(id="bob", permissions=('read("user:bob")',)),
    )
    assert await ids(store, replace(QUERY, reader="ada")) == ["ada"]
    assert await ids(store, replace(QUERY, reader="")) == []
    assert len(await ids(store, QUERY)) == 3


async def test_a_page_can_have_its_texts_cut(store: ExecutionStore) -> None:
    outcome = an_outcome(response="ä" * 9, stdout="s" * 9, stderr="")
    await recorded(store, a_finished(outcome=outcome, data="d" * 9, event_data="e" * 9))
    (record,) = (await store.list(replace(QUERY, text_limit=4))).executions
    assert (record.request.data, record.request.event_data) == ("dddd", "eeee")
    assert record.outcome is not None
    assert (record.outcome.response, record.outcome.stdout, record.outcome.stderr) == ("ääää", "ssss", "")


async def test_recent_are_the_newest_of_each_end_without_those_that_have_a_resource(store: ExecutionStore) -> None:
    await recorded(store, *(a_finished(id=f"ok{n}", at=at(n)) for n in range(5)))
    await recorded(store, *(a_finished(id=f"bad{n}", at=at(n + 0.5), outcome=failed()) for n in range(3)))
    await recorded(store, a_finished(id="resource", at=at(99), origin=Origin.RESOURCE))
    found = await store.recent("shop", "uid-greet", completed=3, failed=1)
    assert [record.id for record in found] == ["ok4", "ok3", "bad2", "ok2"]
    everything = await store.recent("shop", "uid-greet", completed=1, failed=0, origins=tuple(Origin))
    assert [record.id for record in everything] == ["resource"]
    assert await store.recent("other", "uid-greet", completed=3, failed=1) == []


async def test_ticks_are_those_of_the_schedule_since_a_time(store: ExecutionStore, clock: Clock) -> None:
    for n in (2, 0, 1):
        await store.accept(a_request(scheduled_at=at(60 * n), origin=Origin.SCHEDULE), queue_limit=10)
    await store.accept(a_request(), queue_limit=10)
    await store.accept(a_request(scheduled_at=at(90)), queue_limit=10)  # delayed, and no tick
    ticks = await store.ticks("uid-greet", since=at(60))
    assert [(tick.scheduled_at, tick.created_at) for tick in ticks] == [(at(60), clock.at), (at(120), clock.at)]
    assert len(await store.ticks("uid-greet", since=at(0), limit=1)) == 1


async def test_a_total_is_right_on_every_page(store: ExecutionStore) -> None:
    newest_first = (await recorded(store, *(a_finished(at=at(n)) for n in range(3))))[::-1]
    pages = {
        "all of it": QUERY,
        "just all of it": replace(QUERY, limit=3),
        "a part": replace(QUERY, limit=2),
        "the rest": replace(QUERY, after=newest_first[0]),
        "what comes before": replace(QUERY, before=newest_first[1]),
        "behind an offset": replace(QUERY, offset=2),
        "behind the end": replace(QUERY, offset=9),
    }
    assert {name: (await store.list(query)).total for name, query in pages.items()} == dict.fromkeys(pages, 3)


async def fill(store: ExecutionStore, count: int) -> None:
    rows = [
        row_of_record(
            a_finished(at=at(n), outcome=failed() if n % 100 == 0 else None, permissions=(f'read("user:u{n % 50}")',)),
            sequence=n,
        )
        for n in range(count)
    ]
    async with store._database.writer.begin() as connection:
        await connection.execute(insert(EXECUTIONS), rows)


async def test_a_total_stops_at_its_bound(store: ExecutionStore) -> None:
    await fill(store, MAX_TOTAL + 200)
    assert (await store.list(QUERY)).total == MAX_TOTAL


def shapes() -> dict[str, Select[Any]]:
    one_failed = Filter(Field.PHASE, Comparison.EQUAL, (ExecutionPhase.FAILED.value,))
    by_status = Filter(Field.STATUS_CODE, Comparison.EQUAL, (404,))
    by_speed = Filter(Field.DURATION, Comparison.GREATER, (9.0,))
    by_time = Filter(Field.CREATED_AT, Comparison.GREATER, (START,))
    queries = {
        "all": QUERY,
        "oldest first": replace(QUERY, descending=False),
        "failed": replace(QUERY, filters=(one_failed,)),
        "by status": replace(QUERY, filters=(by_status,)),
        "by duration": replace(QUERY, filters=(by_speed,)),
        "since": replace(QUERY, filters=(by_time,)),
        "of a user": replace(QUERY, reader="u1"),
    }
    lists = {name: listing(query, descending=query.descending) for name, query in queries.items()}
    return lists | {f"count of {name}": counting(query) for name, query in queries.items()}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_lists_of_a_long_history_come_out_of_an_index_in_order(store: ExecutionStore) -> None:
    await fill(store, 20_000)
    async with store._database.reader.connect() as connection:
        for name, statement in shapes().items():
            explained = await connection.execute(_Explain(statement))
            plan = "; ".join(row[3] for row in explained)
            assert "SEARCH executions USING" in plan, (name, plan)
            assert "SCAN executions" not in plan, (name, plan)
            assert "TEMP B-TREE" not in plan, (name, plan)
            assert "executions_by_status" in plan or "by status" not in name, (name, plan)
            assert "USING COVERING INDEX" in plan or "count" not in name, (name, plan)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_what_has_to_be_sorted_is_read_from_an_index_alone(store: ExecutionStore) -> None:
    await fill(store, 2000)
    query = replace(QUERY, order=Field.DURATION)
    async with store._database.reader.connect() as connection:
        explained = await connection.execute(_Explain(listing(query, descending=True)))
        plan = "; ".join(row[3] for row in explained)
    assert "SEARCH executions USING COVERING INDEX executions_listing" in plan, plan
    assert "SCAN executions" not in plan, plan


class _Explain(Executable, ClauseElement):
    """EXPLAIN QUERY PLAN of a statement, with its own parameters."""

    inherit_cache = False

    def __init__(self, statement: Select[Any]) -> None:
        self.statement = statement


@compiles(_Explain)
def _compile_explain(element: _Explain, compiler: SQLCompiler, **options: Any) -> str:
    return f"EXPLAIN QUERY PLAN {compiler.process(element.statement, **options)}"
