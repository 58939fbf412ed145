"""32 callers of one pod that takes 64 calls at once: by one shim process, then by two."""

from collections.abc import Sequence

from bench.harness import Context, Goal, Result, extremes, median
from bench.load import Load
from bench.warm import bare_proxy, first_answer, function_and_pod, rounds, steadily

CALLERS = 32


def run(context: Context) -> Sequence[Result]:
    """Measure."""
    seconds, count = context.few(4, 2), context.few(3, 1)
    with (
        function_and_pod(context, "warm", concurrency=64, maxReplicas=1) as (through, direct),
        bare_proxy(direct) as proxied,
    ):
        results: list[Result] = []
        for processes, name in (("1", "warm_c32"), ("2", "warm_c32 two processes")):
            with context.shim_environment(PROCESSES=processes):
                first_answer(through)
                measures = [steadily(call, connections=CALLERS, seconds=seconds) for call in (direct, proxied, through)]
                straight, bare, ours = rounds(count, *measures)
                results += _figures(name, ours, bare, straight)
        return results


def _figures(name: str, ours: list[Load], bare: list[Load], straight: list[Load]) -> list[Result]:
    rates, tails = [load.rate for load in ours], [load.p99 for load in ours]
    requests = sum(load.requests for load in ours)
    return [
        Result(
            name=name,
            unit="requests/s",
            value=median(rates),
            baseline=median([load.rate for load in bare]),
            against="a bare aiohttp proxy",
            n=requests,
            spread=extremes(rates),
            goal=Goal(limit=1.7, at_least=True, of_baseline=True) if "two" not in name else None,
        ),
        Result(
            name=f"{name} of direct",
            unit="requests/s",
            value=median(rates),
            baseline=median([load.rate for load in straight]),
            against="the pod directly",
            n=requests,
            spread=extremes(rates),
        ),
        Result(
            name=f"{name} p99",
            unit="ms",
            value=median(tails),
            baseline=median([load.p99 for load in bare]),
            against="a bare aiohttp proxy",
            n=requests,
            spread=extremes(tails),
            goal=Goal(limit=8),
        ),
    ]
