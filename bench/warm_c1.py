"""One call at a time: what the shim adds to calling the pod directly, beside what a bare proxy adds."""

from collections.abc import Sequence

from bench.harness import Context, Goal, Result, median, percentile, quartiles
from bench.load import CREATED, OK, Line
from bench.warm import bare_proxy, function_and_pod


def run(context: Context) -> Sequence[Result]:
    """Measure."""
    through, direct, proxied = _measure(context, context.few(6000, 500))
    return [
        Result(
            name="warm_c1 added p50",
            unit="ms",
            value=median(through) - median(direct),
            baseline=median(proxied) - median(direct),
            against="a bare aiohttp proxy",
            n=len(through),
            goal=Goal(limit=0.18),
        ),
        _figure("warm_c1 p50", through, direct, 50),
        _figure("warm_c1 p99", through, direct, 99),
    ]


def _figure(name: str, through: list[float], direct: list[float], percent: float) -> Result:
    return Result(
        name=name,
        unit="ms",
        value=percentile(through, percent),
        baseline=percentile(direct, percent),
        against="the pod directly",
        n=len(through),
        spread=quartiles(through),
    )


def _measure(context: Context, count: int) -> tuple[list[float], list[float], list[float]]:
    """Return the times (milliseconds) of calls through the shim, directly and through the proxy, made in turn."""
    found: tuple[list[float], list[float], list[float]] = ([], [], [])
    with (
        function_and_pod(context, "warm", maxReplicas=1) as (by_shim, straight),
        bare_proxy(straight) as by_proxy,
        Line(by_shim.address) as through,
        Line(straight.address) as direct,
        Line(by_proxy.address) as proxied,
    ):
        lines = (
            (through, by_shim.bytes(), CREATED),
            (direct, straight.bytes(), OK),
            (proxied, by_proxy.bytes(), OK),
        )
        for number in range(count + 200):
            for times, (line, request, status) in zip(found, lines, strict=True):
                reply = line.post(request)
                assert reply.status == status, reply
                if number >= 200:  # noqa: PLR2004 - warm now
                    times.append(1000 * reply.seconds)
    return found
