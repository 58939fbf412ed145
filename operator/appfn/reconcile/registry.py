"""The controllers by name, and the feed that wakes them: all that handlers/ needs to know of this package."""

import asyncio
from collections.abc import Mapping
from functools import partial

from appfn.reconcile import change_feed, deployment, execution, function, history, pool, runtime
from appfn.reconcile.dependencies import SETTLED, Controller, Dependencies, Handler, Mark, Seen, Written

__all__ = ["SETTLED", "Controller", "Dependencies", "Handler", "Mark", "Seen", "Written", "controllers", "feeds"]


def controllers(deps: Dependencies) -> Mapping[Controller, Handler]:
    """Return the reconciler of every controller."""
    return {
        Controller.FUNCTION: partial(function.reconcile, deps),
        Controller.DEPLOYMENT: partial(deployment.reconcile, deps),
        Controller.EXECUTION: partial(execution.reconcile, deps),
        Controller.RUNTIME: partial(runtime.reconcile, deps),
        Controller.HISTORY: partial(history.reconcile, deps),
        Controller.POOL: partial(pool.reconcile, deps),
    }


async def feeds(deps: Dependencies) -> None:
    """Mark what the shim reports as changed, until cancelled; survives the shim's absence."""
    await change_feed.follow(deps, clock=asyncio.get_running_loop().time)
