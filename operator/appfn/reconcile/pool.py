"""Controller of pools: the warm pods of a project, by Runtime and architecture. Its keys are namespaces."""

import json
import logging
from collections.abc import Awaitable, Iterable

from appfn import names
from appfn.api import kinds
from appfn.api.base import Json
from appfn.api.function import Function
from appfn.api.kinds import Key
from appfn.api.runtime import Runtime
from appfn.core import pool as core
from appfn.errors import ForbiddenError, RejectedError
from appfn.reconcile.dependencies import Dependencies
from appfn.reconcile.gather import architectures, find, labelled_project

logger = logging.getLogger(__name__)

_FIELDS = ("runtime", "enabled", "architectures", "resources", "nodeSelector", "tolerations", "runtimeClassName")


async def reconcile(deps: Dependencies, key: Key) -> float | None:
    """Bring the pools of a namespace up to date."""
    namespace = await deps.cluster.get(kinds.NAMESPACE, key)
    if namespace is None or namespace["metadata"].get("deletionTimestamp"):
        return None
    plan = core.decide(await _gather(deps, namespace))
    for problem in plan.problems:
        logger.warning("a pool is not as it is asked for", extra={"problem": problem})
    done = [await _accepted(manifest, _apply(deps, manifest)) for manifest in plan.apply]
    done += [await _accepted(body, _delete(deps, body)) for body in plan.delete]
    return plan.requeue if all(done) else core.LOOK_AGAIN_SECONDS


async def _gather(deps: Dependencies, namespace: Json) -> core.Observed:
    name = namespace["metadata"]["name"]
    functions = _distinct(await deps.cluster.list(kinds.FUNCTION, namespace=name))
    used = sorted({function.spec.runtime for function in functions})
    runtimes = [await find(deps.cluster, Runtime, Key("", runtime)) for runtime in used]
    return core.Observed(
        namespace=name,
        project=labelled_project(namespace),
        annotations=namespace["metadata"].get("annotations") or {},
        functions=functions,
        runtimes=[runtime for runtime in runtimes if runtime is not None],
        architectures=await architectures(deps.cluster, since=deps.seen.version(kinds.NODE)),
        deployments=await deps.cluster.list(kinds.POOL, namespace=name),
        image=deps.config.common.image,
        shim_url=deps.config.common.shim_url,
    )


def _distinct(bodies: Iterable[Json]) -> list[Function]:
    """Parse one Function of those that are alike to a pool: to parse thousands takes the process a second."""
    alike = {json.dumps(_concerns(body), sort_keys=True): body for body in bodies}
    return [Function.parse(body) for body in alike.values()]


def _concerns(body: Json) -> list[object]:
    """Return what `decide` looks at."""
    return [body["metadata"].get("deletionTimestamp") is None, *(body["spec"].get(field) for field in _FIELDS)]


async def _apply(deps: Dependencies, manifest: Json) -> None:
    await deps.cluster.apply(kinds.POOL, manifest, manager=names.FIELD_MANAGER_POOL)


async def _delete(deps: Dependencies, body: Json) -> None:
    metadata = body["metadata"]
    await deps.cluster.delete(kinds.POOL, Key(metadata["namespace"], metadata["name"]), uid=metadata["uid"])


async def _accepted(pool: Json, write: Awaitable[None]) -> bool:
    """Tell whether a write was taken; a refusal of one pool keeps no other from what it should be."""
    metadata = pool["metadata"]
    where = {"pool": str(Key(metadata["namespace"], metadata["name"]))}
    try:
        await write
    except (ForbiddenError, RejectedError) as error:
        logger.warning("a pool was refused; is manifests/project applied?", extra={**where, "error": str(error)})
        return False
    logger.info("pool written", extra=where)
    return True
