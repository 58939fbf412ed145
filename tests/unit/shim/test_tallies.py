"""Numbers for Prometheus that cost little to keep."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from appfn.shim.tallies import Tally

BOUNDS = (0.01, 0.1, 1)
SECONDS = (0.001, 0.01, 0.05, 0.1, 0.5, 7)


def ours() -> str:
    registry = CollectorRegistry()
    tally = Tally(counter=("asked", "Asked."), histogram=("took", "Took."), labels=("a", "b"), shared=1, bounds=BOUNDS)
    registry.register(tally)
    for seconds in SECONDS:
        tally.cell("x", "1").add(seconds)
    tally.cell("x", "2").add(0.02)
    tally.cell("y\n", "1").add(0.02)
    return generate_latest(registry).decode()


def the_librarys() -> str:
    registry = CollectorRegistry()
    counter = Counter("asked", "Asked.", ("a", "b"), registry=registry)
    histogram = Histogram("took", "Took.", ("a",), buckets=BOUNDS, registry=registry)
    for a, b, seconds in (*(("x", "1", seconds) for seconds in SECONDS), ("x", "2", 0.02), ("y\n", "1", 0.02)):
        counter.labels(a, b).inc()
        histogram.labels(a).observe(seconds)
    return generate_latest(registry).decode()


def test_prometheus_reads_what_it_would_read_of_the_librarys_own_counters() -> None:
    assert told(ours()) == told(the_librarys())


def told(text: str) -> list[str]:
    """Return the lines but for the times when counters were made."""
    return sorted(line for line in text.splitlines() if "_created" not in line)
