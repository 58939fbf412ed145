"""The first call of a function, taken over by a pod of its Runtime's pool."""

from collections.abc import Sequence

from bench.cold import LANGUAGES, measure, results
from bench.harness import Context, Goal, Result


def run(context: Context) -> Sequence[Result]:
    """Measure."""
    found: list[Result] = []
    for runtime, language in LANGUAGES.items():
        cold = measure(context, runtime, count=context.few(20, 3))
        found += results(f"cold_pool_hit {language}", cold, p50=Goal(limit=15), p95=Goal(limit=25))
    return found
