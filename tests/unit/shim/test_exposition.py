"""Texts of several processes become one that Prometheus reads."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from appfn.shim import exposition


def text(*, calls: int, function: str = "hello", seconds: float = 0.3) -> bytes:
    registry = CollectorRegistry()
    counter = Counter("calls", "Calls: all {of} them.", ("function",), registry=registry)
    counter.labels(function).inc(calls)
    Gauge("plain", "Without labels.", registry=registry).set(calls)
    Histogram("seconds", "Time.", buckets=(0.1, 1.0), registry=registry).observe(seconds)
    return generate_latest(registry)


def samples(merged: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = list(text_string_to_metric_families(merged.decode()))
    assert len({family.name for family in families}) == len(families)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_every_sample_says_whose_it_is() -> None:
    found = samples(exposition.merged({0: text(calls=2), 1: text(calls=3)}))

    for index, calls in (("0", 2), ("1", 3)):
        process = ("process", index)
        assert found["calls_total", frozenset({process, ("function", "hello")})] == calls
        assert found["plain", frozenset({process})] == calls
        assert found["seconds_bucket", frozenset({process, ("le", "0.1")})] == 0
        assert found["seconds_count", frozenset({process})] == 1


def test_labels_may_hold_whatever_they_like() -> None:
    odd = 'br{ace}, "quote" # HELP = 1\n back\\slash'

    found = samples(exposition.merged({0: text(calls=2, function=odd)}))

    assert found["calls_total", frozenset({("process", "0"), ("function", odd)})] == 2


def test_a_family_that_only_one_process_has_is_there() -> None:
    found = samples(
        exposition.merged({0: b"# HELP a x\n# TYPE a gauge\na 1.0\n", 2: b"# HELP b x\n# TYPE b gauge\nb 2.0\n"})
    )

    assert found == {("a", frozenset({("process", "0")})): 1.0, ("b", frozenset({("process", "2")})): 2.0}


def test_each_family_is_introduced_once() -> None:
    lines = exposition.merged({0: text(calls=1), 1: text(calls=1)}).decode().splitlines()

    assert [line for line in lines if line.startswith("# TYPE calls")].count("# TYPE calls_total counter") == 1
    assert lines.index("# HELP calls_total Calls: all {of} them.") + 1 == lines.index("# TYPE calls_total counter")
