"""Five times the load that a function can take: what gets through, what is refused and how soon.

The function sleeps, and SLOTS calls at once are all its pods take, so that its capacity does not depend on this
machine. One times the load are 100 callers who pause so long that together they ask for just that; five times, 500.
"""

import threading
import time
from collections.abc import Sequence

from bench.harness import Context, Goal, Result, percentile, quartiles
from bench.load import CREATED, TOO_MANY, Call, Line, Load, finish_wrk, shim_call, start_wrk
from bench.pods import SLEEPING, Wanted, deploy, shim_memory
from bench.warm import first_answer, loaded_pods

PODS, CONCURRENCY, SLEEP_MS = 2, 4, 10
CAPACITY = PODS * CONCURRENCY * 1000 / SLEEP_MS
CALLERS = 100
TIMES = 5


def run(context: Context) -> Sequence[Result]:
    """Measure."""
    seconds = context.few(10, 3)
    scaling = {"concurrency": CONCURRENCY, "minReplicas": PODS, "maxReplicas": PODS}
    code = SLEEPING.format(milliseconds=SLEEP_MS)
    with context.project() as (project, key):
        deploy(project, Wanted(name="busy", code=code, spec={"scaling": scaling}))
        loaded_pods(project, "busy", PODS)
        call = shim_call(context.shim_address, project.namespace, key, "busy")
        first_answer(call)
        before = shim_memory(context.system)
        peak, _ = _under_load(call, callers=CALLERS, seconds=seconds)
        flood, refusals = _under_load(call, callers=TIMES * CALLERS, seconds=seconds)
        after = shim_memory(context.system)
    return _results(peak, flood, refusals, memory=(before.now, after.peak))


def _under_load(call: Call, *, callers: int, seconds: float) -> tuple[Load, list[float]]:
    """Return what wrk saw, and how long (milliseconds) one more caller waited for each refusal."""
    pause = CALLERS / CAPACITY
    process = start_wrk(call, connections=callers, seconds=seconds, pause=pause, count=True)
    refusals: list[float] = []
    stop = threading.Event()
    prober = threading.Thread(target=_probe, args=(call, refusals, stop))
    prober.start()
    load = finish_wrk(process, seconds=seconds)
    stop.set()
    prober.join()
    return load, refusals


def _probe(call: Call, refusals: list[float], stop: threading.Event) -> None:
    with Line(call.address) as line:
        while not stop.is_set():
            reply = line.post(call.bytes())
            if reply.status == TOO_MANY:
                assert b"retry-after" in reply.head.lower(), reply
                refusals.append(1000 * reply.seconds)
            time.sleep(0.01)


def _results(peak: Load, flood: Load, refusals: list[float], *, memory: tuple[float, float]) -> list[Result]:
    def good(load: Load) -> float:
        return load.statuses.get(str(CREATED), 0) / load.seconds

    ours = sum(count for status, count in flood.statuses.items() if status.startswith("5"))
    results = [
        Result(
            name="overload_c500 goodput",
            unit="requests/s",
            value=good(flood),
            baseline=good(peak),
            against=f"{CALLERS} callers, a fifth of the load",
            n=flood.requests,
            goal=Goal(limit=0.95, at_least=True, of_baseline=True),
        ),
        Result(
            name="overload_c500 refused",
            unit="%",
            value=100 * flood.statuses.get(str(TOO_MANY), 0) / flood.requests,
            baseline=100 * peak.statuses.get(str(TOO_MANY), 0) / peak.requests,
            against=f"{CALLERS} callers, a fifth of the load",
            n=flood.requests,
        ),
        Result(
            name="overload_c500 5xx and broken",
            unit="",
            value=ours + flood.broken,
            n=flood.requests,
            goal=Goal(limit=0),
        ),
        Result(
            name="overload_c500 shim memory, peak",
            unit="MiB",
            value=memory[1],
            baseline=memory[0],
            against="before the load",
            goal=Goal(limit=2, of_baseline=True),
        ),
    ]
    if refusals:
        for percent, limit in ((50, None), (95, 10)):
            results.append(
                Result(
                    name=f"overload_c500 refusal p{percent}",
                    unit="ms",
                    value=percentile(refusals, percent),
                    n=len(refusals),
                    spread=quartiles(refusals),
                    goal=Goal(limit=limit) if limit else None,
                )
            )
    return results
