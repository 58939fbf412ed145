"""One function's calls while another one is flooded: is the dispatcher fair?

The flooded function sleeps, so that what is measured is the shim and not the lack of a third core for its pods.
"""

from collections.abc import Sequence

from bench.harness import Context, Goal, Result, percentile, quartiles
from bench.load import finish_wrk, shim_call, start_wrk
from bench.pods import SLEEPING, Wanted, deploy
from bench.warm import first_answer, paced

BURST = 64
_INTERVAL = 0.01


def run(context: Context) -> Sequence[Result]:
    """Measure."""
    seconds, count = context.few(6, 2), context.few(3, 1)
    alone: list[float] = []
    beside: list[float] = []
    with context.project() as (project, key):
        # What is kept warm is what is asked for; idle pods of neither are removed between the rounds.
        quiet = {"minReplicas": 1, "maxReplicas": 1, "idleSeconds": 600}
        noisy = {"minReplicas": 2, "maxReplicas": 2, "concurrency": 4, "idleSeconds": 600}
        deploy(
            project,
            Wanted(name="quiet", spec={"scaling": quiet}),
            Wanted(name="noisy", code=SLEEPING.format(milliseconds=20), spec={"scaling": noisy}),
        )
        ours, theirs = (shim_call(context.shim_address, project.namespace, key, name) for name in ("quiet", "noisy"))
        for call in (ours, theirs):
            first_answer(call)
        for _ in range(count):
            alone += paced(ours, seconds=seconds, interval=_INTERVAL)
            burst = start_wrk(theirs, connections=BURST, seconds=seconds + 1)
            beside += paced(ours, seconds=seconds, interval=_INTERVAL)
            finish_wrk(burst, seconds=seconds + 1).faultless()
    return [
        Result(
            name=f"neighbour_burst p{percent}",
            unit="ms",
            value=percentile(beside, percent),
            baseline=percentile(alone, percent),
            against="without the neighbour",
            n=len(beside),
            spread=quartiles(beside),
            goal=Goal(limit=1.5, of_baseline=True) if percent == 95 else None,  # noqa: PLR2004 - as the goal says
        )
        for percent in (50, 95)
    ]
