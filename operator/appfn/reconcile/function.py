"""Controller of Functions: what is active, the CronJob, the counts."""

from appfn import names
from appfn.api import kinds
from appfn.api.base import Json
from appfn.api.deployment import Deployment
from appfn.api.execution import Execution
from appfn.api.function import Function, FunctionStatus
from appfn.api.kinds import Key
from appfn.core import function as core
from appfn.core.execution import finished, mirrored
from appfn.core.observed import Summary
from appfn.errors import ForbiddenError, RejectedError, TransientError
from appfn.reconcile.dependencies import Controller, Dependencies
from appfn.reconcile.gather import find, find_runtime, is_project, of_function
from appfn.reconcile.status import write_status


async def reconcile(deps: Dependencies, key: Key) -> float | None:
    """Bring a Function up to date."""
    function = await find(deps.cluster, Function, key)
    if function is None or function.metadata.deletion_timestamp is not None:
        return None
    plan = core.decide(await _gather(deps, function), deps.time())
    status = await _schedule(deps, plan)
    await write_status(
        deps,
        kinds.FUNCTION,
        function.metadata,
        old=function.status,
        new=status,
        manager=names.FIELD_MANAGER_FUNCTION,
    )
    await _wake(deps, key, plan)
    return plan.requeue


async def _gather(deps: Dependencies, function: Function) -> core.Observed:
    key = function.metadata.key
    return core.Observed(
        function=function,
        runtime=await find_runtime(deps, function),
        project=await is_project(deps, key.namespace),
        deployments=await of_function(deps.cluster, Deployment, key, since=deps.seen.version(kinds.DEPLOYMENT)),
        cron_job=await deps.cluster.get(kinds.CRON_JOB, Key(key.namespace, names.cron_job(key.name))),
        summary=await _summary(deps, function),
        image=deps.config.common.image,
        shim_url=deps.config.common.shim_url,
    )


async def _summary(deps: Dependencies, function: Function) -> Summary | None:
    """Return counts and due ticks; a shim that is away keeps the rest of the Function from nothing."""
    metadata = function.metadata
    try:
        return await deps.shim.summary(
            metadata.namespace,
            metadata.name,
            uid=metadata.uid,
            completed=0,
            failed=0,
            ticks_since=function.status.schedule_next,
        )
    except (TransientError, ForbiddenError, RejectedError):
        return None


async def _schedule(deps: Dependencies, plan: core.Plan) -> FunctionStatus:
    """Apply or delete the CronJob; return the status that is true then."""
    if plan.schedule.obsolete is not None:
        await _delete(deps, plan.schedule.obsolete)
    if plan.schedule.apply is None:
        return plan.status
    try:
        await deps.cluster.apply(kinds.CRON_JOB, plan.schedule.apply, manager=names.FIELD_MANAGER_FUNCTION)
    except (ForbiddenError, RejectedError) as error:
        reason = "Forbidden" if isinstance(error, ForbiddenError) else "Rejected"
        return core.schedule_refused(plan, reason, str(error), deps.time())
    return plan.status


async def _delete(deps: Dependencies, cron_job: Json) -> None:
    metadata = cron_job["metadata"]
    await deps.cluster.delete(kinds.CRON_JOB, Key(metadata["namespace"], metadata["name"]), uid=metadata["uid"])


async def _wake(deps: Dependencies, key: Key, plan: core.Plan) -> None:
    """Mark what may have waited for this Function or goes by its spec; each would look again by itself, only later."""
    for deployment in plan.waiting:
        deps.mark(Controller.DEPLOYMENT, deployment)
    if plan.history:
        deps.mark(Controller.HISTORY, key)
    seen = deps.seen.version(kinds.EXECUTION)
    if not plan.activated or not seen:  # one that no watch has told of yet is looked at when it does
        return
    for execution in await of_function(deps.cluster, Execution, key, since=seen):
        if not finished(execution) and not mirrored(execution):
            deps.mark(Controller.EXECUTION, execution.metadata.key)
