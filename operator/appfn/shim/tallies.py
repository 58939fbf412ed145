"""Counts and times of what happens for each call, kept as plain numbers and told to Prometheus when it asks.

The library's own counters take a lock for each number: six of them were a tenth of what a call cost in the shim.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

_Family: TypeAlias = CounterMetricFamily | HistogramMetricFamily


class Times:
    """A histogram of one combination of labels."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds`: upper ends of the buckets in seconds, ascending."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0


class Cell:
    """A counter of one combination of labels, and the histogram it belongs to."""

    __slots__ = ("count", "times")

    def __init__(self, times: Times) -> None:
        self.count = 0
        self.times = times

    def add(self, seconds: float) -> None:
        """Count one that took so long."""
        times = self.times
        self.count += 1
        times.counts[bisect_left(times.bounds, seconds)] += 1
        times.total += seconds


class Tally(Collector):
    """A counter by several labels, and a histogram by the first of them. For one thread, as all that serves."""

    def __init__(
        self,
        *,
        counter: tuple[str, str],
        histogram: tuple[str, str],
        labels: Sequence[str],
        shared: int,
        bounds: Sequence[float],
    ) -> None:
        """`counter` and `histogram`: name and what it says; `shared`: how many of the labels the histogram has."""
        self._counter = counter
        self._histogram = histogram
        self._labels = labels
        self._shared = shared
        self._bounds = bounds
        self._cells: dict[tuple[str, ...], Cell] = {}
        self._times: dict[tuple[str, ...], Times] = {}

    def cell(self, *labels: str) -> Cell:
        """Return the cell of a combination of labels; keep it, where it is wanted often."""
        if (cell := self._cells.get(labels)) is None:
            times = self._times.setdefault(labels[: self._shared], Times(self._bounds))
            cell = self._cells[labels] = Cell(times)
        return cell

    def describe(self) -> Iterator[_Family]:
        """Return the names, without numbers."""
        yield from self._families()

    def collect(self) -> Iterator[_Family]:
        """Return the numbers."""
        counts, times = self._families()
        for labels, cell in self._cells.items():
            counts.add_metric(labels, cell.count)
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for labels, found in self._times.items():
            times.add_metric(labels, list(zip(names, accumulate(found.counts), strict=True)), found.total)
        yield from (counts, times)

    def _families(self) -> tuple[CounterMetricFamily, HistogramMetricFamily]:
        counts = CounterMetricFamily(*self._counter, labels=self._labels)
        return counts, HistogramMetricFamily(*self._histogram, labels=self._labels[: self._shared])
