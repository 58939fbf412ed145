"""32 callers of eight pods that take one call at a time."""

from collections.abc import Sequence

from bench.harness import Context, Goal, Result, extremes, median
from bench.load import shim_call
from bench.pods import CODE, NODE, Wanted, deploy, direct_pod
from bench.warm import bare_proxy, first_answer, loaded_pods, rounds, steadily

CALLERS = 32
PODS = 8


def run(context: Context) -> Sequence[Result]:
    """Measure."""
    seconds, count = context.few(5, 2), context.few(3, 1)
    scaling = {"concurrency": 1, "minReplicas": PODS, "maxReplicas": PODS}
    with (
        context.project() as (project, key),
        direct_pod(context, project, CODE[NODE]) as direct,
        bare_proxy(direct) as proxied,
    ):
        deploy(project, Wanted(name="exclusive", spec={"scaling": scaling, "resources": _SMALL}))
        loaded_pods(project, "exclusive", PODS)
        through = shim_call(context.shim_address, project.namespace, key, "exclusive")
        first_answer(through)
        bare, ours = rounds(
            count,
            steadily(proxied, connections=CALLERS, seconds=seconds),
            steadily(through, connections=CALLERS, seconds=seconds, pods=PODS),
        )
    rates, requests = [load.rate for load in ours], sum(load.requests for load in ours)
    results = [
        Result(
            name="warm_c32_exclusive",
            unit="requests/s",
            value=median(rates),
            baseline=median([load.rate for load in bare]),
            against="a bare aiohttp proxy, one pod",
            n=requests,
            spread=extremes(rates),
            goal=Goal(limit=2500, at_least=True),
        )
    ]
    for percent, limit in ((50, None), (99, 100)):
        ours_ms, bare_ms = ([getattr(load, f"p{percent}") for load in loads] for loads in (ours, bare))
        results.append(
            Result(
                name=f"warm_c32_exclusive p{percent}",
                unit="ms",
                value=median(ours_ms),
                baseline=median(bare_ms),
                against="a bare aiohttp proxy, one pod",
                n=requests,
                spread=extremes(ours_ms),
                goal=Goal(limit=limit) if limit else None,
            )
        )
    return results


_SMALL = {"requests": {"cpu": "10m", "memory": "48Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
