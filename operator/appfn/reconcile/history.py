"""Controller of histories: the newest executions of a Function, shown as Execution resources."""

import logging

from appfn import names
from appfn.api import kinds
from appfn.api.execution import Execution
from appfn.api.function import Function
from appfn.api.kinds import Key
from appfn.core import history as core
from appfn.core.execution import finished, replay_asked
from appfn.errors import ConflictError, RejectedError
from appfn.reconcile.dependencies import Controller, Dependencies
from appfn.reconcile.gather import find, is_project, of_function

logger = logging.getLogger(__name__)


async def reconcile(deps: Dependencies, key: Key) -> float | None:
    """Mirror the newest executions and delete older mirrors."""
    function = await find(deps.cluster, Function, key)
    if function is None or function.metadata.deletion_timestamp is not None:
        return None
    if not await is_project(deps, key.namespace):
        return None
    summary = await deps.shim.summary(
        key.namespace,
        key.name,
        uid=function.metadata.uid,
        completed=function.spec.successful_executions_history_limit,
        failed=function.spec.failed_executions_history_limit,
        ticks_since=None,
    )
    if summary is None:
        return None
    present = await of_function(deps.cluster, Execution, key, labels=names.LABEL_MIRRORED)
    plan = core.decide(function, summary.recent, present)
    await _apply(deps, plan)
    # No watch tells of mirrors: whether one is to be run again is seen here.
    open_ = {mirror.metadata.key for mirror in present if not finished(mirror) or replay_asked(mirror)}
    for mirror in open_ - {deleted.metadata.key for deleted in plan.delete}:
        deps.mark(Controller.EXECUTION, mirror)
    return None


async def _apply(deps: Dependencies, plan: core.Plan) -> None:
    """Create and delete. A new mirror's status is written by its own controller, which no watch tells of mirrors."""
    for manifest in plan.create:
        metadata = manifest["metadata"]
        try:
            await deps.cluster.create(kinds.EXECUTION, manifest)
        except ConflictError:
            logger.info("mirror exists", extra={"execution": metadata["name"]})
        except RejectedError as error:
            # A call may hold what the resource may not, such as a longer path: then it is only in the API's history.
            logger.warning("mirror refused", extra={"execution": metadata["name"], "error": str(error)})
            continue
        deps.mark(Controller.EXECUTION, Key(metadata["namespace"], metadata["name"]))
    for mirror in plan.delete:
        await deps.cluster.delete(kinds.EXECUTION, mirror.metadata.key, uid=mirror.metadata.uid)
