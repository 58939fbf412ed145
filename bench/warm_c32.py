"""32 callers of one pod that takes 64 calls at once: by one shim process, then by two."""

from collections.abc import Sequence

from bench.harness import Context, Goal, Result, extremes, median
from bench.load import Load
from bench.warm import bare_proxy, first_answer, function_and_pod, rounds, steadily

CALLERS = 32


def run(context: Context) -> Sequence[Result]:
    """Measure."""
    seconds, count = context.few(3, 2), context.few(3, 1)
    with (
        function_and_pod(context, "warm", concurrency=64, maxReplicas=1) as (through, direct),
        bare_proxy(direct) as proxied,
        bare_proxy(direct, loop="uvloop") as faster,
    ):
        results: list[Result] = []
        for processes, name in (("1", "warm_c32"), ("2", "warm_c32 two processes")):
            with context.shim_environment(PROCESSES=processes):
                first_answer(through)
                calls = (direct, proxied, faster, through)
                measures = [steadily(call, connections=CALLERS, seconds=seconds) for call in calls]
                straight, bare, fast, ours = rounds(count, *measures)
                results += _figures(name, ours, bare, straight)
                results.append(_rate(f"{name} of a proxy on uvloop", ours, fast, "a bare aiohttp proxy on uvloop"))
        return results


def _figures(name: str, ours: list[Load], bare: list[Load], straight: list[Load]) -> list[Result]:
    goal = Goal(limit=1.7, at_least=True, of_baseline=True) if "two" not in name else None
    tails = [load.p99 for load in ours]
    return [
        _rate(name, ours, bare, "a bare aiohttp proxy", goal=goal),
        _rate(f"{name} of direct", ours, straight, "the pod directly"),
        Result(
            name=f"{name} p99",
            unit="ms",
            value=median(tails),
            baseline=median([load.p99 for load in bare]),
            against="a bare aiohttp proxy",
            n=sum(load.requests for load in ours),
            spread=extremes(tails),
            goal=Goal(limit=8),
        ),
    ]


def _rate(name: str, ours: list[Load], others: list[Load], against: str, *, goal: Goal | None = None) -> Result:
    rates = [load.rate for load in ours]
    return Result(
        name=name,
        unit="requests/s",
        value=median(rates),
        baseline=median([load.rate for load in others]),
        against=against,
        n=sum(load.requests for load in ours),
        spread=extremes(rates),
        goal=goal,
    )
