"""Controller of Executions: handed to the shim, mirrored, and deleted when their time is over."""

import logging

from appfn import names
from appfn.api import kinds
from appfn.api.base import Json
from appfn.api.execution import Execution, ExecutionStatus
from appfn.api.function import Function
from appfn.api.kinds import Key
from appfn.core import execution as core
from appfn.core.observed import ObservedExecution
from appfn.core.problem import BuildReason, Problem, Severity
from appfn.errors import ConflictError, ForbiddenError, RejectedError, TransientError
from appfn.reconcile.dependencies import Dependencies
from appfn.reconcile.gather import find, is_project
from appfn.reconcile.status import take_ownership, write_status

logger = logging.getLogger(__name__)

_AGAIN_SECONDS = 2.0


async def reconcile(deps: Dependencies, key: Key) -> float | None:
    """Bring an Execution one step further."""
    execution = await find(deps.cluster, Execution, key)
    if execution is None or execution.metadata.deletion_timestamp is not None:
        return None
    plan = core.decide(await _gather(deps, execution), deps.time())
    if plan.repeat is not None:
        await _repeat(deps, plan.repeat)
    if plan.delete:
        await deps.cluster.delete(kinds.EXECUTION, key, uid=execution.metadata.uid)
        return None
    manager = names.FIELD_MANAGER_EXECUTION
    metadata = await take_ownership(deps, kinds.EXECUTION, execution.metadata, manifest=plan.owner, manager=manager)
    status, requeue = plan.status, plan.requeue
    if plan.submit is not None:
        status, requeue = await _submit(deps, execution, plan)
    await write_status(deps, kinds.EXECUTION, metadata, old=execution.status, new=status, manager=manager)
    _remember(deps, execution, status)
    return requeue


async def _repeat(deps: Dependencies, manifest: Json) -> None:
    """Create the Execution that repeats another; where it is there already, this was done and not yet written down."""
    try:
        await deps.cluster.create(kinds.EXECUTION, manifest)
    except ConflictError:
        logger.info("replay exists", extra={"execution": manifest["metadata"]["name"]})


def _remember(deps: Dependencies, execution: Execution, status: ExecutionStatus) -> None:
    """Keep the name for the change feed while the execution is under way."""
    if status.status is not None and status.status.terminal:
        deps.submitted.discard(execution.metadata.uid)
    elif status.execution_id:
        deps.submitted.add(execution.metadata.uid, execution.metadata.key)


async def _gather(deps: Dependencies, execution: Execution) -> core.Observed:
    namespace = execution.metadata.namespace
    function = Key(namespace, execution.spec.function_ref.name)
    id_ = core.lookup_id(execution)
    record: ObservedExecution | None = None
    if id_:
        record = await deps.shim.execution(namespace, id_)
    return core.Observed(
        execution=execution,
        function=await find(deps.cluster, Function, function),
        project=await is_project(deps, namespace),
        record=record,
    )


async def _submit(deps: Dependencies, execution: Execution, plan: core.Plan) -> tuple[ExecutionStatus, float | None]:
    """Hand the execution over; return the status and when to look again."""
    assert plan.submit is not None
    try:
        record = await deps.shim.submit(plan.submit)
    except TransientError as error:
        problem = Problem.waiting(BuildReason.SHIM_UNAVAILABLE, str(error))
        return core.unaccepted(execution, problem, deps.time()), error.retry_after or core.WAIT_SECONDS
    except ForbiddenError as error:
        problem = Problem.waiting(BuildReason.FORBIDDEN, str(error))
        return core.unaccepted(execution, problem, deps.time()), core.WAIT_SECONDS
    except RejectedError as error:
        problem = Problem(severity=Severity.FAILED, reason="Rejected", message=str(error))
        return core.unaccepted(execution, problem, deps.time()), plan.requeue
    if record is None:
        # Its cache follows the API server by moments.
        problem = Problem.waiting(BuildReason.FUNCTION_NOT_FOUND, "the shim does not know the Function yet")
        return core.unaccepted(execution, problem, deps.time()), _AGAIN_SECONDS
    return core.accepted(execution, record, deps.time()), core.WAIT_SECONDS
