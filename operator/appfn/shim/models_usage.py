"""Response models of usage in each format, pure: sums by hour or day in, JSON out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from appfn.api.base import Json
from appfn.shim.formats import Format
from appfn.shim.models import timestamp
from appfn.store.model import Usage

DEFAULT_RANGE = "30d"
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_THOUSAND = 1000
_ALL: Mapping[str, Callable[[Usage], int]] = {
    "executions": lambda used: used.completed + used.failed,
    "executionsTime": lambda used: used.compute_ms,
    "executionsMbSeconds": lambda used: used.compute_mb_ms // _THOUSAND,
    "builds": lambda used: used.builds_ready + used.builds_failed,
    "buildsSuccess": lambda used: used.builds_ready,
    "buildsFailed": lambda used: used.builds_failed,
    "buildsTime": lambda used: used.build_ms,
    "buildsMbSeconds": lambda used: used.build_mb_ms // _THOUSAND,
}
"""Metrics of 1.4 and later that are summed up by the store; each has a total."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of usage as asked for: so many steps, the last of which is under way."""

    name: str
    since: datetime
    until: datetime
    step: timedelta

    def starts(self) -> list[datetime]:
        """Return the starts of all steps, in order."""
        return [self.since + self.step * number for number in range((self.until - self.since) // self.step)]

    def counted(self, moments: Iterable[tuple[datetime, int]]) -> list[int]:
        """Return per step the sum of amounts, each with its moment; what is out of the range is left out."""
        sums = [0] * ((self.until - self.since) // self.step)
        for moment, amount in moments:
            if self.since <= moment < self.until:
                sums[(moment - self.since) // self.step] += amount
        return sums


RANGES: Mapping[str, tuple[timedelta, int]] = {
    "24h": (_HOUR, 24),
    "7d": (_DAY, 7),
    "30d": (_DAY, 30),
    "90d": (_DAY, 90),
}


def span(name: str, now: datetime) -> Span:
    """Return a range of RANGES that ends with the hour or day (UTC) of `now`."""
    step, count = RANGES[name]
    current = now.replace(minute=0, second=0, microsecond=0)
    until = (current if step is _HOUR else current.replace(hour=0)) + step
    return Span(name, until - step * count, until, step)


@dataclass(frozen=True, slots=True)
class Present:
    """Something that is there now: when it was made, and its size in bytes."""

    made_at: datetime
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What there is now, besides what was used.

    Attributes:
        functions: None for the usage of one function.
        deployments: with the size of their source; 0 where it did not come by upload.
        outputs: built artifacts.
    """

    functions: Sequence[Present] | None = None
    deployments: Sequence[Present] = ()
    outputs: Sequence[Present] = ()


def usage(used: Sequence[Usage], span_: Span, inventory: Inventory, format_: Format) -> Json:
    """Return the UsageFunctions or UsageFunction model."""
    by_start = {item.start: item for item in used}
    filled = [
        by_start.get(start) or Usage(start=start, completed=0, failed=0, compute_ms=0) for start in span_.starts()
    ]
    match format_:
        case Format.V0:
            return {"range": span_.name} | _series_v0(filled)
        case Format.V1_0:
            return {"range": span_.name} | _series_v1_0(filled)
        case Format.V1_4 | Format.V1_6 | Format.V1_7:
            return {"range": span_.name} | _sums(filled) | _presence(span_, inventory)
        case _:
            assert_never(format_)


def _series_v0(filled: Sequence[Usage]) -> Json:
    return {
        "functionsExecutions": _metrics(filled, _ALL["executions"]),
        "functionsFailures": _metrics(filled, lambda used: used.failed),
        "functionsCompute": _metrics(filled, _ALL["executionsTime"]),
    }


def _series_v1_0(filled: Sequence[Usage]) -> Json:
    return {
        "executionsTotal": _metrics(filled, _ALL["executions"]),
        "executionsFailure": _metrics(filled, lambda used: used.failed),
        "executionsSuccess": _metrics(filled, lambda used: used.completed),
        "executionsTime": _metrics(filled, _ALL["executionsTime"]),
        "buildsTotal": _metrics(filled, _ALL["builds"]),
        "buildsFailure": _metrics(filled, _ALL["buildsFailed"]),
        "buildsSuccess": _metrics(filled, _ALL["buildsSuccess"]),
        "buildsTime": _metrics(filled, _ALL["buildsTime"]),
    }


def _sums(filled: Sequence[Usage]) -> Json:
    model: Json = {}
    for name, value in _ALL.items():
        model[name] = _metrics(filled, value)
        model[f"{name}Total"] = sum(value(used) for used in filled)
    # Divided last: a total of many short runs is not the sum of seconds that were each rounded down to none.
    model["executionsMbSecondsTotal"] = sum(used.compute_mb_ms for used in filled) // _THOUSAND
    model["buildsMbSecondsTotal"] = sum(used.build_mb_ms for used in filled) // _THOUSAND
    model["buildsTimeAverage"] = model["buildsTimeTotal"] // max(1, model["buildsTotal"])
    # Ours: Appwrite tells failures of builds alone.
    model["executionsFailed"] = _metrics(filled, lambda used: used.failed)
    model["executionsFailedTotal"] = sum(used.failed for used in filled)
    return model


def _presence(span_: Span, inventory: Inventory) -> Json:
    counts = {"deployments": inventory.deployments}
    if inventory.functions is not None:
        counts["functions"] = inventory.functions
    sizes = {"deploymentsStorage": inventory.deployments, "buildsStorage": inventory.outputs}
    model: Json = {}
    for name, present in counts.items():
        model[name] = _points(span_, [(item.made_at, 1) for item in present])
        model[f"{name}Total"] = len(present)
    for name, present in sizes.items():
        model[name] = _points(span_, [(item.made_at, item.size) for item in present])
        model[f"{name}Total"] = sum(item.size for item in present)
    return model


def _metrics(filled: Sequence[Usage], value: Callable[[Usage], int]) -> list[Json]:
    return [{"value": value(used), "date": timestamp(used.start)} for used in filled]


def _points(span_: Span, moments: Iterable[tuple[datetime, int]]) -> list[Json]:
    values = zip(span_.starts(), span_.counted(moments), strict=True)
    return [{"value": value, "date": timestamp(start)} for start, value in values]
