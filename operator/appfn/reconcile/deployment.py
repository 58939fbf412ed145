"""Controller of Deployments: their builds."""

import contextlib
import logging
from dataclasses import replace

from appfn import names
from appfn.api import kinds
from appfn.api.base import Json
from appfn.api.deployment import Build, Deployment
from appfn.api.function import Function
from appfn.api.kinds import Key
from appfn.core import build
from appfn.core.build_progress import JobState, Progress, progress
from appfn.core.manifests.build_job import AGENT, BUILD, BuildSettings
from appfn.core.manifests.meta import controller_uid, selector
from appfn.core.problem import BuildReason, Problem
from appfn.core.source import ResolvedSource, resolve
from appfn.errors import ConflictError, ForbiddenError, RejectedError, TransientError
from appfn.reconcile.dependencies import Dependencies
from appfn.reconcile.gather import architectures, find, find_runtime, is_project
from appfn.reconcile.status import take_ownership, write_status

logger = logging.getLogger(__name__)

_LOG_BYTES = 65_536
_AGAIN_SECONDS = 1.0


async def reconcile(deps: Dependencies, key: Key) -> float | None:
    """Bring the builds of a Deployment one step further."""
    deployment = await find(deps.cluster, Deployment, key)
    if deployment is None or deployment.metadata.deletion_timestamp is not None:
        return None
    observed = await _gather(deps, deployment)
    plan = build.decide(observed, deps.time(), settings=BuildSettings.of(deps.config))
    manager = names.FIELD_MANAGER_DEPLOYMENT
    metadata = await take_ownership(deps, kinds.DEPLOYMENT, deployment.metadata, manifest=plan.owner, manager=manager)
    plan = await _apply(deps, observed, plan)
    old, new = deployment.status, plan.status
    await write_status(deps, kinds.DEPLOYMENT, metadata, old=old, new=new, manager=manager)
    for job in plan.stop:
        await _stop(deps, job)
    return plan.requeue


async def _apply(deps: Dependencies, observed: build.Observed, plan: build.Plan) -> build.Plan:
    """Store the source, make the Jobs, remember the builds. What is refused changes what the status says."""
    namespace = observed.deployment.metadata.namespace
    if plan.tarball is not None:
        problem = await _store(deps, namespace, plan.tarball, observed.source.digest)
        if problem is not None:
            held = [job["metadata"]["name"] for job in plan.jobs]
            return build.refused(observed, plan, held, problem, now=deps.time())
    for job in plan.cancel:
        await _stop(deps, job)
    for job in plan.jobs:
        plan = await _create(deps, observed, plan, job)
    for key, stored in plan.stored.items():
        await deps.shim.put_build(namespace, key, stored)
    return plan


async def _store(deps: Dependencies, namespace: str, tarball: bytes, digest: str) -> Problem | None:
    """Put the source into the artifact store; return why it is not there."""
    try:
        await deps.shim.put_artifact(namespace, tarball, digest=digest)
    except (TransientError, ForbiddenError) as error:
        return Problem.waiting(BuildReason.SHIM_UNAVAILABLE, f"the source cannot be stored now: {error}")
    except RejectedError as error:
        return Problem.failed(BuildReason.INVALID_SOURCE, f"the source cannot be stored: {error}")
    return None


async def _create(deps: Dependencies, observed: build.Observed, plan: build.Plan, job: Json) -> build.Plan:
    name = job["metadata"]["name"]
    try:
        await deps.cluster.create(kinds.JOB, job)
    except ConflictError:
        # Made before a crash, being deleted, or somebody else's: the next look tells.
        return replace(plan, requeue=_AGAIN_SECONDS)
    except ForbiddenError as error:
        problem = Problem.stalled(BuildReason.FORBIDDEN, f"the build's Job is refused: {error}")
    except RejectedError as error:
        problem = Problem.failed(BuildReason.REJECTED, f"the build's Job is refused: {error}")
    else:
        logger.info("job created", extra={"job": name, "object": str(observed.deployment.metadata.key)})
        return plan
    return build.refused(observed, plan, [name], problem, now=deps.time())


async def _stop(deps: Dependencies, job: Json) -> None:
    metadata = job["metadata"]
    await deps.cluster.delete(kinds.JOB, Key(metadata["namespace"], metadata["name"]), uid=metadata["uid"])


async def _gather(deps: Dependencies, deployment: Deployment) -> build.Observed:
    """Read what the builds depend on; of a Deployment whose builds are over, next to nothing."""
    namespace = deployment.metadata.namespace
    function = await find(deps.cluster, Function, Key(namespace, deployment.spec.function_ref.name))
    over = build.over(deployment)
    observed = build.Observed(
        deployment=deployment,
        function=function,
        runtime=None if over else await find_runtime(deps, function),
        project=await is_project(deps, namespace),
        architectures=frozenset() if over else await architectures(deps.cluster, since=deps.seen.version(kinds.NODE)),
        source=ResolvedSource() if over else await _source(deps, deployment),
    )
    looked_at = [target for target in build.targets(observed) if build.unfinished(target)]
    found = {target.architecture: await _look(deps, observed, target) for target in looked_at}
    return replace(observed, builds=found)


async def _source(deps: Dependencies, deployment: Deployment) -> ResolvedSource:
    reference = deployment.spec.source.config_map_ref
    if reference is None or deployment.status.source_digest:
        return resolve(deployment, None)
    try:
        key = Key(deployment.metadata.namespace, reference.name)
        return resolve(deployment, await deps.cluster.get(kinds.CONFIG_MAP, key))
    except ForbiddenError as error:
        return ResolvedSource(problem=Problem.stalled(BuildReason.FORBIDDEN, f"spec.source.configMapRef: {error}"))


async def _look(deps: Dependencies, observed: build.Observed, target: Build) -> build.ObservedBuild:
    """Return what there is of a build: its Job and what it says, or an earlier build of the same thing."""
    deployment = observed.deployment.metadata
    name = names.build_job(deployment.name, target.architecture, target.attempt)
    job = await deps.cluster.get(kinds.JOB, Key(deployment.namespace, name))
    if job is None:
        return await _earlier(deps, observed, target)
    uid = job["metadata"]["uid"]
    labels = selector({names.LABEL_COMPONENT: names.COMPONENT_BUILD, names.LABEL_DEPLOYMENT: deployment.name})
    pods = await deps.cluster.list(kinds.POD, namespace=deployment.namespace, labels=labels)
    pods = [pod for pod in pods if controller_uid(pod) == uid]
    notes = [] if pods else await _refusals(deps, job)
    seen = progress(job, pods, notes=notes, now=deps.time())
    return build.ObservedBuild(job=job, progress=seen, log_tail=await _log_tail(deps, deployment.namespace, seen))


async def _earlier(deps: Dependencies, observed: build.Observed, target: Build) -> build.ObservedBuild:
    key = "" if build.blocked(observed) else build.key_of(observed, target)
    if not key:
        return build.ObservedBuild()
    namespace = observed.deployment.metadata.namespace
    try:
        cached = await deps.shim.get_build(namespace, key)
        if cached is None or cached.log is None:
            return build.ObservedBuild(cached=cached)
        tail = await deps.shim.log_tail(namespace, cached.log.digest, lines=build.LOG_LINES)
        return build.ObservedBuild(cached=cached, log_tail=tail)
    except (TransientError, ForbiddenError) as error:
        return build.ObservedBuild(problem=Problem.waiting(BuildReason.SHIM_UNAVAILABLE, str(error)))


async def _refusals(deps: Dependencies, job: Json) -> list[str]:
    """Return why the pod of a Job is not made, oldest first; nothing where we may not read events."""
    metadata = job["metadata"]
    fields = f"regarding.uid={metadata['uid']},reason=FailedCreate"
    try:
        events = await deps.cluster.list(kinds.EVENT, namespace=metadata["namespace"], fields=fields)
    except ForbiddenError:
        return []
    events.sort(key=lambda event: str(event["metadata"].get("creationTimestamp")))
    return [str(event.get("note", "")) for event in events]


async def _log_tail(deps: Dependencies, namespace: str, seen: Progress) -> str:
    """Return the end of an ended build's log: the stored one, else what the pod still has."""
    if seen.state in {JobState.PENDING, JobState.RUNNING}:
        return ""
    log = seen.report.log if seen.report is not None else None
    if log is not None:
        return await deps.shim.log_tail(namespace, log.digest, lines=build.LOG_LINES)
    for container in (BUILD, AGENT) if seen.pod else ():
        key = Key(namespace, seen.pod)
        with contextlib.suppress(ForbiddenError):
            text = await deps.cluster.pod_log(
                key, container=container, tail_lines=build.LOG_LINES, limit_bytes=_LOG_BYTES
            )
            if text:
                return text
    return ""
