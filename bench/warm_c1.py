"""One call at a time: what the shim adds to calling the pod directly, beside what a bare proxy adds.

By wrk, without a pause between calls, each of them for a while in turn; and call by call in turn, where each process
has been still, and its core busy with others, when its next call comes.
"""

from collections.abc import Sequence

from bench.harness import Context, Goal, Result, median, percentile, quartiles
from bench.load import CREATED, OK, Call, Line, Load
from bench.warm import bare_proxy, function_and_pod, rounds, steadily


def run(context: Context) -> Sequence[Result]:
    """Measure."""
    with (
        function_and_pod(context, "warm", maxReplicas=1) as (by_shim, straight),
        bare_proxy(straight) as by_proxy,
    ):
        seconds, count = context.few(3, 1), context.few(4, 1)
        measures = [steadily(call, connections=1, seconds=seconds) for call in (straight, by_proxy, by_shim)]
        direct, bare, ours = rounds(count, *measures)
        through, alone, proxied = _in_turn((by_shim, straight, by_proxy), context.few(3000, 500))
    added, by_bare = _p50(ours) - _p50(direct), _p50(bare) - _p50(direct)
    return [
        _added("warm_c1 added p50", added, by_bare, n=sum(load.requests for load in ours), goal=Goal(limit=0.18)),
        _beside("warm_c1 p50", [load.p50 for load in ours], [load.p50 for load in direct]),
        _beside("warm_c1 p99", [load.p99 for load in ours], [load.p99 for load in direct]),
        _added(
            "warm_c1 added p50, in turn",
            median(through) - median(alone),
            median(proxied) - median(alone),
            n=len(through),
        ),
        Result(
            name="warm_c1 p99, in turn",
            unit="ms",
            value=percentile(through, 99),
            baseline=percentile(alone, 99),
            against="the pod directly",
            n=len(through),
            spread=quartiles(through),
        ),
    ]


def _p50(loads: list[Load]) -> float:
    return median([load.p50 for load in loads])


def _added(name: str, value: float, baseline: float, *, n: int, goal: Goal | None = None) -> Result:
    return Result(name=name, unit="ms", value=value, baseline=baseline, against="a bare aiohttp proxy", n=n, goal=goal)


def _beside(name: str, ours: list[float], direct: list[float]) -> Result:
    return Result(
        name=name,
        unit="ms",
        value=median(ours),
        baseline=median(direct),
        against="the pod directly",
        n=len(ours),
        spread=(min(ours), max(ours)),
    )


def _in_turn(calls: tuple[Call, Call, Call], count: int) -> tuple[list[float], list[float], list[float]]:
    """Return the times (milliseconds) of calls through the shim, directly and through the proxy, made in turn."""
    found: tuple[list[float], list[float], list[float]] = ([], [], [])
    shim, straight, proxy = calls
    with Line(shim.address) as through, Line(straight.address) as direct, Line(proxy.address) as proxied:
        lines = (
            (through, shim.bytes(), CREATED),
            (direct, straight.bytes(), OK),
            (proxied, proxy.bytes(), OK),
        )
        for number in range(count + 200):
            for times, (line, request, status) in zip(found, lines, strict=True):
                reply = line.post(request)
                assert reply.status == status, reply
                if number >= 200:  # noqa: PLR2004 - warm now
                    times.append(1000 * reply.seconds)
    return found
