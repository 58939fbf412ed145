"""Cron: what is accepted, when it ticks over changes of the clock, and how ticks are accounted for."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appfn.core.observed import Tick
from appfn.core.schedule import GRACE, LATE, MAX_WALK, account_ticks, parse_schedule
from appfn.errors import InvalidSpecError
from support.objects import NOW

MINUTE = timedelta(minutes=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "normalised"),
    [
        ("* * * * *", "* * * * *"),
        ("  */15  *  * * *", "0,15,30,45 * * * *"),
        ("0 9-17/4 * jan,MAR mon-fri", "0 9,13,17 * 1,3 1,2,3,4,5"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * sat-mon", "0 0 * * 0,1,6"),
    ],
)
def test_a_schedule_is_normalised_to_what_every_cron_parser_reads_alike(expression: str, normalised: str) -> None:
    assert parse_schedule(expression, "UTC").expression == normalised


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "0 field(s)"),
        ("@daily", "1 field(s)"),
        ("* * * *", "4 field(s)"),
        ("0 * * * * *", "6 field(s)"),
        ("60 * * * *", "60"),
        ("*/0 * * * *", "step"),
        ("-1 * * * *", "negative"),
        ("0 0 L * *", "`L`"),
        ("0 0 ? * *", "`?`"),
        ("0 0 * * mon#2", "`mon#2`"),
        ("H * * * *", "`H`"),
        ("R * * * *", "`R`"),
        ("0 0 30 2 *", "never occurs"),
        ("0 0 * foo *", "`foo`"),
        ("1\n2 3 4 5 6 7", "field(s)"),
    ],
)
def test_a_wrong_schedule_is_refused_with_its_path_and_the_reason(expression: str, said: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        parse_schedule(expression, "UTC")

    assert caught.value.path == "spec.schedule"
    assert said in caught.value.message


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Local"])
def test_a_wrong_time_zone_is_refused_with_its_path(zone: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        parse_schedule("* * * * *", zone)

    assert caught.value.path == "spec.timeZone"
    assert "Europe/Berlin" in caught.value.message


@pytest.mark.parametrize(
    ("expression", "zone", "after", "ticks"),
    [
        pytest.param(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T00:00",
            ["2026-03-28T01:30", "2026-03-30T00:30"],
            id="a reading that the clock skips does not tick that day",
        ),
        pytest.param(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00",
            ["2026-10-25T00:30", "2026-10-25T01:30", "2026-10-26T01:30"],
            id="a reading that occurs twice ticks twice",
        ),
        pytest.param(
            "0 * * * *",
            "America/New_York",
            "2026-11-01T04:30",
            ["2026-11-01T05:00", "2026-11-01T06:00", "2026-11-01T07:00"],
            id="hourly goes on over the repeated hour",
        ),
        pytest.param(
            "0 * * * *",
            "America/New_York",
            "2026-03-08T05:30",
            ["2026-03-08T06:00", "2026-03-08T07:00", "2026-03-08T08:00"],
            id="hourly goes on over the skipped hour",
        ),
        pytest.param(
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T00:00",
            ["2026-10-04T15:15", "2026-10-05T15:15"],
            id="a change of half an hour",
        ),
        pytest.param(
            "30 1 1 11 *",
            "America/New_York",
            "2026-11-01T05:45",
            ["2026-11-01T06:30", "2027-11-01T05:30"],
            id="a yearly one in the repeated hour",
        ),
        pytest.param(
            "0 0 29 2 *", "Etc/UTC", "2026-01-01T00:00", ["2028-02-29T00:00", "2032-02-29T00:00"], id="leap days"
        ),
        pytest.param("0 0 * * 1", "Asia/Kolkata", "2026-03-01T00:00", ["2026-03-01T18:30"], id="half-hour zones"),
    ],
)
def test_ticks_follow_the_wall_clock(expression: str, zone: str, after: str, ticks: list[str]) -> None:
    schedule = parse_schedule(expression, zone)
    instant = utc(after)
    found = []

    for _ in ticks:
        tick = schedule.next_after(instant)
        assert tick is not None
        found.append(tick)
        instant = tick

    assert found == [utc(text) for text in ticks]


ZONES = ["Etc/UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"]
MINUTES = st.sampled_from(["*", "0", "30", "*/20", "7,45", "15-20"])
HOURS = st.sampled_from(["*", "0", "1-3", "2", "*/6", "23"])


@settings(max_examples=40, deadline=None)
@given(
    minutes=MINUTES,
    hours=HOURS,
    zone=st.sampled_from(ZONES),
    start=st.datetimes(min_value=datetime(2024, 1, 1), max_value=datetime(2027, 12, 31)),  # noqa: DTZ001 - UTC below
)
def test_the_next_tick_is_the_first_minute_whose_reading_matches(
    minutes: str, hours: str, zone: str, start: datetime
) -> None:
    schedule = parse_schedule(f"{minutes} {hours} * * *", zone)
    wanted_minutes, wanted_hours = (
        None if field == "*" else {int(value) for value in field.split(",")}
        for field in schedule.expression.split()[:2]
    )
    after = start.replace(tzinfo=UTC)

    tick = schedule.next_after(after)

    assert tick is not None
    probe = after.replace(second=0, microsecond=0) + MINUTE
    while not _matches(probe.astimezone(ZoneInfo(zone)), wanted_minutes, wanted_hours):
        probe += MINUTE
    assert tick == probe


def _matches(reading: datetime, minutes: set[int] | None, hours: set[int] | None) -> bool:
    return (minutes is None or reading.minute in minutes) and (hours is None or reading.hour in hours)


def ran(tick: datetime, *, after: float = 2) -> Tick:
    return Tick(scheduled_at=tick, created_at=tick + timedelta(seconds=after))


EVERY_MINUTE = parse_schedule("* * * * *", "UTC")


def test_a_tick_that_ran_is_accounted_for_at_once() -> None:
    account = account_ticks(EVERY_MINUTE, due=NOW, ticks=[ran(NOW)], now=NOW + timedelta(seconds=5))

    assert (account.previous, account.next, account.missed, account.late) == (NOW, NOW + MINUTE, 0, 0)


def test_a_tick_without_an_execution_is_waited_for_and_then_missed() -> None:
    waiting = account_ticks(EVERY_MINUTE, due=NOW, ticks=[], now=NOW + GRACE)
    over = account_ticks(EVERY_MINUTE, due=NOW, ticks=[], now=NOW + GRACE + timedelta(seconds=1))

    assert (waiting.previous, waiting.next, waiting.missed) == (None, NOW, 0)
    assert (over.previous, over.next, over.missed) == (NOW, NOW + MINUTE, 1)


def test_a_tick_that_started_late_counts_as_late() -> None:
    ticks = [ran(NOW, after=LATE.total_seconds() + 1), ran(NOW + MINUTE, after=LATE.total_seconds())]

    account = account_ticks(EVERY_MINUTE, due=NOW, ticks=ticks, now=NOW + 2 * MINUTE)

    assert (account.late, account.missed, account.next) == (1, 0, NOW + 2 * MINUTE)


def test_nothing_is_due_before_the_tick() -> None:
    account = account_ticks(EVERY_MINUTE, due=NOW, ticks=[], now=NOW - timedelta(seconds=1))

    assert (account.previous, account.next, account.complete) == (None, NOW, True)


def test_a_long_outage_is_accounted_for_in_bounded_walks() -> None:
    now = NOW + timedelta(minutes=2 * MAX_WALK + 100)
    due, missed, rounds = NOW, 0, 0

    while True:
        account = account_ticks(EVERY_MINUTE, due=due, ticks=[], now=now)
        rounds += 1
        missed += account.missed
        assert account.next is not None
        due = account.next
        if account.complete:
            break

    assert rounds == 3
    assert due - MINUTE < now - GRACE <= due
    assert missed == (due - NOW) // MINUTE


@settings(max_examples=15, deadline=None)
@given(gone=st.sets(st.integers(0, 99)), pause=st.integers(1, 50))
def test_every_tick_is_counted_once_however_often_it_is_looked_at(gone: set[int], pause: int) -> None:
    every = [NOW + number * MINUTE for number in range(100)]
    ticks = [ran(tick) for number, tick in enumerate(every) if number not in gone]
    now, due, missed = NOW, NOW, 0

    while now < every[-1] + GRACE + 2 * MINUTE:
        now += pause * MINUTE
        known = [tick for tick in ticks if tick.created_at <= now]
        account = account_ticks(EVERY_MINUTE, due=due, ticks=known, now=min(now, every[-1] + GRACE + MINUTE))
        missed += account.missed
        assert account.next is not None
        due = account.next

    assert due == every[-1] + MINUTE
    assert missed == len(gone)
