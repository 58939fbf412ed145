"""The first call of a function that no pool can serve: it asks for resources of its own, so its pod is made."""

from collections.abc import Sequence

from bench.cold import LANGUAGES, measure, results
from bench.harness import Context, Goal, Result

_OWN = {"requests": {"cpu": "60m", "memory": "72Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}


def run(context: Context) -> Sequence[Result]:
    """Measure."""
    found: list[Result] = []
    for runtime, language in LANGUAGES.items():
        cold = measure(context, runtime, count=context.few(20, 3), spec={"resources": _OWN}, pooled=False)
        found += results(f"cold_pool_empty {language}", cold, p50=Goal(limit=1.3, of_baseline=True), p95=None)
    return found
