"""Cron schedules: what they mean, when they tick, and which ticks were missed.

A tick is every minute whose reading on the wall clock of the time zone matches the expression. So a reading that a
clock change skips does not tick that day, and one that occurs twice ticks twice: as Kubernetes' CronJob does it.
croniter parses and searches within one UTC offset; the changes of the offset are walked here.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from croniter.croniter import CroniterBadDateError, CroniterError

from appfn.core.observed import Tick
from appfn.errors import InvalidSpecError

START_DEADLINE = timedelta(seconds=200)
"""The CronJob starts a tick it could not start in time for so long, and of several only the newest."""
TRIGGER_DEADLINE = timedelta(seconds=300)
"""How long the pod of a tick may try to have the execution accepted."""
GRACE = START_DEADLINE + TRIGGER_DEADLINE + timedelta(seconds=60)
"""A tick without an execution after so long was missed."""
LATE = timedelta(minutes=1)
"""A tick accepted so long after its time counts as late."""
MAX_WALK = 200
"""Ticks accounted for at once (about 40 ms of work); the rest follow in the next round."""

_FIELDS = 5
_SYNTAX = re.compile(r"[0-9A-Za-z*,/-]+")
_WORDS = re.compile(r"[A-Za-z]+")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMES = frozenset({*_MONTHS, "sun", "mon", "tue", "wed", "thu", "fri", "sat"})
_ANY_DATE = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall-clock reading
_MAX_CHANGES = 200
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A valid schedule. `expression` has the form every cron parser reads the same way: stars and lists of numbers."""

    expression: str
    zone: ZoneInfo

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first tick after an aware time, in UTC; None where none comes within decades."""
        start = instant.astimezone(UTC).replace(microsecond=0) + _SECOND
        for _ in range(_MAX_CHANGES):
            offset = self._offset(start)
            reading = _first_reading(self.expression, (start + offset).replace(tzinfo=None))
            if reading is None:
                return None
            tick = (reading - offset).replace(tzinfo=UTC)
            change = self._first_change(start, tick)
            if change is None:
                return tick
            start = change
        return None

    def _offset(self, instant: datetime) -> timedelta:
        return instant.astimezone(self.zone).utcoffset() or timedelta()

    def _first_change(self, start: datetime, end: datetime) -> datetime | None:
        """Return the first second up to `end` whose offset is not that of `start`."""
        offset = self._offset(start)
        while start < end:
            probe = min(start + _DAY, end)
            if self._offset(probe) != offset:
                return self._bisect(start, probe)
            start = probe
        return None

    def _bisect(self, low: datetime, high: datetime) -> datetime:
        offset = self._offset(low)
        while high - low > _SECOND:
            middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
            if self._offset(middle) == offset:
                low = middle
            else:
                high = middle
        return high


def parse_schedule(expression: str, time_zone: str) -> Schedule:
    """Understand `spec.schedule` and `spec.timeZone` of a Function.

    Raises:
        InvalidSpecError: with the path of the one that is wrong and what to write instead.
    """
    return Schedule(expression=_normalised(expression), zone=_zone(time_zone))


def _normalised(expression: str) -> str:
    path = "spec.schedule"
    fields = expression.split()
    if len(fields) != _FIELDS:
        wanted = "write five fields: minute, hour, day of month, month, day of week; such as `*/15 * * * *`"
        raise InvalidSpecError(path, f"`{expression}` has {len(fields)} field(s); {wanted}")
    for text in fields:
        if not _SYNTAX.fullmatch(text) or not {word.lower() for word in _WORDS.findall(text)} <= _NAMES:
            allowed = "use numbers, `*`, `,`, `-`, `/` and the names JAN to DEC and SUN to SAT"
            raise InvalidSpecError(path, f"`{text}` in `{expression}` is not understood; {allowed}")
    try:
        expanded = croniter.expand(" ".join(fields))[0]
    except CroniterError as error:
        raise InvalidSpecError(path, f"`{expression}` is not a cron expression: {error}") from error
    normalised = " ".join(",".join(str(value) for value in values) for values in expanded)
    if _first_reading(normalised, _ANY_DATE) is None:
        raise InvalidSpecError(path, f"`{expression}` never occurs; does that month have that day?")
    return normalised


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        message = f"`{name}` is not a time zone; write an IANA name such as `Europe/Berlin`"
        raise InvalidSpecError("spec.timeZone", message) from error


@lru_cache(maxsize=256)
def _parsed(expression: str) -> croniter:
    """Return the expression parsed, which costs ten times as much as a search."""
    return croniter(expression, _ANY_DATE)


def _first_reading(expression: str, at: datetime) -> datetime | None:
    """Return the first wall-clock reading (naive) at or after `at` that matches."""
    try:
        found: datetime = _parsed(expression).get_next(datetime, start_time=at - _SECOND, update_current=False)
    except CroniterBadDateError:
        return None
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of the ticks that were due."""

    previous: datetime | None
    """The newest tick accounted for; None where none was."""
    next: datetime | None
    """The first tick not accounted for: in the future, or due and not given up yet."""
    missed: int = 0
    late: int = 0
    complete: bool = True
    """False where more ticks are due than one walk takes: ask again with `next`."""


def account_ticks(schedule: Schedule, *, due: datetime, ticks: Iterable[Tick], now: datetime) -> Account:
    """Account for the ticks from `due` (a tick) up to `now` in order, until one whose fate is still open."""
    started = {tick.scheduled_at: tick.created_at for tick in ticks}
    tick: datetime | None = due
    previous: datetime | None = None
    missed = late = 0
    for _ in range(MAX_WALK):
        if tick is None or tick > now:
            break
        created = started.get(tick)
        if created is None and now - tick <= GRACE:
            break
        missed += created is None
        late += created is not None and created - tick > LATE
        previous, tick = tick, schedule.next_after(tick)
    else:
        return Account(previous=previous, next=tick, missed=missed, late=late, complete=False)
    return Account(previous=previous, next=tick, missed=missed, late=late)
