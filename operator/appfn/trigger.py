"""What a CronJob's pod runs: ask the shim for one execution of one function, then end.

The scheduled time keys the execution, so a pod that Kubernetes starts twice for one tick runs the function once. The
CronJob controller puts it into the Job's name: `<cronjob>-<minutes since 1970>`. A Job made by hand (`kubectl create
job --from=cronjob/...`) has no such name; its scheduled time is then the minute in which this program starts.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from appfn.agent.retry import Patience
from appfn.agent.shim import ShimClient, ShimError

RETRY_SECONDS = 50.0
OLDEST_TICK = timedelta(days=365)
NEWEST_TICK = timedelta(days=1)
"""How far from now a number may be that is taken for a tick's minutes: clocks differ, ticks are caught up late."""
_MINUTES = re.compile(r"-(\d{7,9})$")
_NOTHING_TO_DO = frozenset({404, 409})


def main(arguments: list[str]) -> int:
    """Run with the process's environment; return the exit code."""
    if arguments:
        print("usage: python -m appfn trigger (it reads its environment)", file=sys.stderr)  # noqa: T201 - a CLI speaks
        return 2
    try:
        shim = ShimClient(url=os.environ["APPFN_SHIM_URL"].rstrip("/"), patience=Patience(seconds=RETRY_SECONDS))
        ok, line = trigger(os.environ, shim, now=lambda: datetime.now(UTC))
    except KeyError as error:
        ok, line = False, f"the environment variable {error.args[0]} is missing"
    print(line, file=sys.stdout if ok else sys.stderr)
    return 0 if ok else 1


def trigger(environ: Mapping[str, str], shim: ShimClient, *, now: Callable[[], datetime]) -> tuple[bool, str]:
    """Ask for the execution; return whether all is well and a line that says what happened.

    All is well too where the function is gone, disabled or has no schedule: the CronJob is about to follow it.

    Raises:
        KeyError: a variable of the environment is missing.
    """
    function = environ["APPFN_FUNCTION"]
    scheduled = scheduled_time(environ.get("APPFN_JOB_NAME", ""), now())
    at = scheduled.isoformat().replace("+00:00", "Z")
    try:
        answer = shim.post(f"/internal/v1/functions/{function}/ticks", {"scheduledTime": at})
    except ShimError as error:
        if error.status in _NOTHING_TO_DO:
            return True, f"nothing to do for function {function} at {at}: {error}"
        return False, f"function {function} could not be triggered for {at}: {error}"
    return True, f"function {function} triggered for {at}: execution {answer.get('id', '')}"


def scheduled_time(job_name: str, now: datetime) -> datetime:
    """Return the time a Job was due, from its name; the present minute where the name does not say."""
    match = _MINUTES.search(job_name)
    if match:
        due = datetime.fromtimestamp(int(match[1]) * 60, UTC)
        if now - OLDEST_TICK <= due <= now + NEWEST_TICK:
            return due
    return now.replace(second=0, microsecond=0)
