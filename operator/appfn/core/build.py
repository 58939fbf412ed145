"""Builds of a Deployment: which there are to be, what each one needs next, and what the status says.

`targets` says which builds and attempts there are; the caller looks at the Job of each, and `decide` concludes.
A build that is ready, failed or canceled is over: whatever happens to its Job afterwards changes nothing.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from appfn import names
from appfn.api import kinds
from appfn.api.base import Json
from appfn.api.deployment import Artifact, Build, BuildPhase, Deployment, DeploymentStatus
from appfn.api.function import Function
from appfn.api.runtime import Architecture, Runtime
from appfn.core import build_key
from appfn.core.build_progress import JobState, Progress, Report
from appfn.core.build_status import canceled, conditions, phase_of
from appfn.core.catalogue import unusable
from appfn.core.manifests.build_job import BuildRequest, BuildSettings, build_job, salt_of
from appfn.core.manifests.meta import controller_uid, ownership
from appfn.core.observed import StoredBuild
from appfn.core.problem import BuildReason, Problem, Severity, not_a_project
from appfn.core.source import ResolvedSource

LOG_LINES = 50
"""Lines of the build log kept in the status."""
MAX_LOG_TAIL = 16_384  # characters of them
MAX_MESSAGE = 4096
WAIT_SECONDS = 30.0
"""How often a Deployment that waits for something looks again, should no event tell."""
_UNFINISHED = (BuildPhase.PROCESSING, BuildPhase.BUILDING)
_IN_VAIN = (BuildPhase.FAILED, BuildPhase.CANCELED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedBuild:
    """What the caller found for one target."""

    job: Json | None = None
    progress: Progress | None = None
    """What `job` says; None without a Job."""
    cached: StoredBuild | None = None
    """An earlier build of the same thing."""
    problem: Problem | None = None
    """Why it cannot be known whether there was one."""
    log_tail: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A Deployment and all that its builds depend on."""

    deployment: Deployment
    function: Function | None
    runtime: Runtime | None
    project: bool
    """The namespace is one."""
    architectures: frozenset[str]
    """Those of the cluster's nodes."""
    source: ResolvedSource
    builds: Mapping[Architecture, ObservedBuild] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, in this order: own, store, cancel and make Jobs, remember builds, write the status, stop Jobs."""

    status: DeploymentStatus
    owner: Json | None = None
    """Manifest that makes the Function the owner; None where it is."""
    tarball: bytes | None = field(default=None, repr=False)
    """To be in the artifact store before the Jobs."""
    cancel: tuple[Json, ...] = ()
    """Jobs whose builds are canceled; gone before the status says so, as nobody looks for them after that."""
    jobs: tuple[Json, ...] = ()
    stored: Mapping[str, StoredBuild] = field(default_factory=dict)
    """Builds to be found again, by build key."""
    stop: tuple[Json, ...] = ()
    """Jobs that failed for good but go on trying."""
    requeue: float | None = None


def targets(observed: Observed) -> list[Build]:
    """Return the builds there are to be, with the attempt each one is at.

    Once one has started, the architectures are fixed; only those that wait for a node may still go.
    """
    status = observed.deployment.status
    wanted = _architectures(observed)
    started = {build.architecture for build in status.builds if build.start_time is not None}
    if started:
        kept = [build for build in status.builds if build.architecture in started or build.architecture in wanted]
    else:
        kept = [status.build(architecture) or _fresh(architecture) for architecture in wanted]
    retry = _retry(observed.deployment)
    return [
        _fresh(build.architecture, attempt=build.attempt + 1) if retry and build.phase in _IN_VAIN else build
        for build in kept
    ]


def unfinished(build: Build) -> bool:
    """Tell whether a target still needs to be looked at."""
    return build.phase in _UNFINISHED


def over(deployment: Deployment) -> bool:
    """Tell whether every build has ended and none is asked for again."""
    builds = deployment.status.builds
    if not builds or any(map(unfinished, builds)):
        return False
    return not (_retry(deployment) and any(build.phase in _IN_VAIN for build in builds))


def request(observed: Observed, build: Build) -> BuildRequest | None:
    """Return what the Job of a target is made from; None where something lacks."""
    function, runtime = observed.function, observed.runtime
    image = runtime.spec.image(build.architecture) if runtime is not None else None
    if function is None or runtime is None or image is None:
        return None
    return BuildRequest(
        deployment=observed.deployment,
        function=function,
        runtime=runtime,
        architecture=build.architecture,
        image=image,
        attempt=build.attempt,
        source=observed.source.spec,
    )


def key_of(observed: Observed, build: Build) -> str:
    """Return the build key of a target; empty where the source's digest or anything else is not known yet."""
    asked = request(observed, build)
    if asked is None or not observed.source.digest:
        return ""
    salt = build_key.salt(asked.deployment, asked.function, asked.runtime, build.architecture)
    return build_key.build_key(salt, observed.source.digest)


def blocked(observed: Observed) -> Problem | None:
    """Return why no build of this Deployment can start."""
    deployment = observed.deployment
    namespace, wanted = deployment.metadata.namespace, deployment.spec.function_ref.name
    if not observed.project:
        return not_a_project(namespace)
    if observed.function is None:
        message = f"spec.functionRef.name: there is no Function {wanted} in {namespace}; the build starts when there is"
        return Problem.waiting(BuildReason.FUNCTION_NOT_FOUND, message)
    return unusable(observed.function.spec.runtime, observed.runtime) or observed.source.problem


def decide(observed: Observed, now: datetime, *, settings: BuildSettings) -> Plan:
    """Conclude what every build needs next."""
    deployment = observed.deployment
    problem = blocked(observed)
    steps = [_step(observed, build, problem, now, settings) for build in targets(observed)]
    builds = [step.build for step in steps]
    if problem is None and not builds:
        problem = _no_common_architecture(observed)
    status = _status(observed, builds, problem, now)
    waits = [WAIT_SECONDS] if status.phase in _UNFINISHED and (problem or any(step.waits for step in steps)) else []
    jobs = tuple(step.job for step in steps if step.job is not None)
    return Plan(
        status=status,
        owner=_owner(deployment, observed.function),
        tarball=observed.source.tarball if jobs else None,
        cancel=tuple(step.cancel for step in steps if step.cancel is not None),
        jobs=jobs,
        stored={key: stored for step in steps for key, stored in step.stored.items()},
        stop=tuple(step.stop for step in steps if step.stop is not None),
        requeue=min([*waits, *(step.look_again for step in steps if step.look_again is not None)], default=None),
    )


def refused(observed: Observed, plan: Plan, jobs: Collection[str], problem: Problem, *, now: datetime) -> Plan:
    """Return the plan as it stands when these Jobs could not be made."""
    builds = [
        _blocked_step(build.model_copy(update={"job": "", "start_time": None}), problem, now).build
        if build.job in jobs
        else build
        for build in plan.status.builds
    ]
    return replace(plan, status=_status(observed, builds, problem, now), requeue=WAIT_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """What one build needs next."""

    build: Build
    job: Json | None = None
    cancel: Json | None = None
    stored: Mapping[str, StoredBuild] = field(default_factory=dict)
    stop: Json | None = None
    look_again: float | None = None
    waits: bool = False


def _step(observed: Observed, build: Build, problem: Problem | None, now: datetime, settings: BuildSettings) -> _Step:
    if not unfinished(build):
        return _Step(build=build)
    found = observed.builds.get(build.architecture, ObservedBuild())
    if canceled(observed.deployment):
        return _canceled_step(observed, build, found, now)
    if found.job is not None:
        return _follow(observed, build, found, now)
    if found.cached is not None:
        return _Step(build=_ready(build, found.cached.artifact, found.cached.log, found.log_tail, now, job=""))
    obstacle = problem or _no_image(observed, build) or _no_node(observed, build) or found.problem
    asked = request(observed, build)
    if obstacle is not None or asked is None:
        return _blocked_step(build, obstacle, now)
    job = build_job(asked, settings)
    started = build.model_copy(
        update={
            "phase": BuildPhase.PROCESSING,
            "job": job["metadata"]["name"],
            "image": asked.image,
            "start_time": build.start_time or now,
            "reason": BuildReason.PENDING,
            "message": "",
        }
    )
    return _Step(build=started, job=job)


def _canceled_step(observed: Observed, build: Build, found: ObservedBuild, now: datetime) -> _Step:
    update = {"phase": BuildPhase.CANCELED, "reason": BuildReason.CANCELED, "message": "canceled", "end_time": now}
    ours = controller_uid(found.job or {}) == observed.deployment.metadata.uid
    return _Step(build=build.model_copy(update=update), cancel=found.job if ours else None)


def _blocked_step(build: Build, obstacle: Problem | None, now: datetime) -> _Step:
    if obstacle is None:
        return _Step(build=build, waits=True)
    if obstacle.severity is Severity.FAILED:
        return _Step(build=_failed(build, obstacle.reason, obstacle.message, now))
    update = {"phase": BuildPhase.PROCESSING, "reason": obstacle.reason, "message": obstacle.message}
    return _Step(build=build.model_copy(update=update), waits=True)


def _follow(observed: Observed, build: Build, found: ObservedBuild, now: datetime) -> _Step:
    """Take over what the Job of a build says."""
    assert found.job is not None
    assert found.progress is not None
    name = str(found.job["metadata"]["name"])
    if controller_uid(found.job) != observed.deployment.metadata.uid:
        message = f"Job {name} exists and belongs to something else; delete it and the build starts"
        return _blocked_step(build, Problem.waiting(BuildReason.NOT_OWNED, message), now)
    created = datetime.fromisoformat(found.job["metadata"]["creationTimestamp"])
    build = build.model_copy(update={"job": name, "start_time": build.start_time or created})
    seen = found.progress
    match seen.state:
        case JobState.PENDING | JobState.RUNNING:
            phase = BuildPhase.BUILDING if seen.state is JobState.RUNNING else BuildPhase.PROCESSING
            update = {"phase": phase, "reason": seen.reason, "message": _short(seen.message)}
            return _Step(build=build.model_copy(update=update), look_again=seen.look_again)
        case JobState.SUCCEEDED:
            assert seen.report is not None
            assert seen.report.artifact is not None
            ready = _ready(build, seen.report.artifact, seen.report.log, found.log_tail, now, job=name)
            return _Step(build=ready, stored=_remember(observed, found.job, seen.report))
        case JobState.FAILED:
            reason, message = _never_started(build, seen) or (seen.reason, seen.message)
            log = seen.report.log if seen.report is not None else None
            failed = _failed(build, reason, message, now).model_copy(
                update={"log": log, "log_tail": found.log_tail[-MAX_LOG_TAIL:]}
            )
            return _Step(build=failed, stop=found.job if seen.stop else None)


def _never_started(build: Build, seen: Progress) -> tuple[str, str] | None:
    """Return what kept a pod from starting until the deadline: that is the reason, not the deadline."""
    held = build.phase is BuildPhase.PROCESSING and build.reason in {BuildReason.FORBIDDEN, BuildReason.UNSCHEDULABLE}
    return (build.reason, build.message) if held and seen.reason == BuildReason.DEADLINE_EXCEEDED else None


def _remember(observed: Observed, job: Json, report: Report) -> Mapping[str, StoredBuild]:
    """Return the build to store, under the key it was built for; none where it came from there.

    The digest the agent reports only counts where nobody knew it before.
    """
    digest = observed.source.digest or report.source_digest
    if report.cached or report.artifact is None or not digest:
        return {}
    return {build_key.build_key(salt_of(job), digest): StoredBuild(artifact=report.artifact, log=report.log)}


def _ready(build: Build, artifact: Artifact, log: Artifact | None, log_tail: str, now: datetime, *, job: str) -> Build:
    update = {
        "phase": BuildPhase.READY,
        "job": job,
        "artifact": artifact,
        "log": log,
        "log_tail": log_tail[-MAX_LOG_TAIL:],
        "reason": BuildReason.READY,
        "message": "" if job else "taken from an earlier build of the same source, commands and image",
        "start_time": build.start_time or now,
        "end_time": now,
    }
    return build.model_copy(update=update)


def _failed(build: Build, reason: str, message: str, now: datetime) -> Build:
    update = {
        "phase": BuildPhase.FAILED,
        "reason": reason,
        "message": _short(message),
        "start_time": build.start_time or now,
        "end_time": now,
    }
    return build.model_copy(update=update)


def _fresh(architecture: Architecture, *, attempt: int = 1) -> Build:
    return Build(architecture=architecture, phase=BuildPhase.PROCESSING, attempt=attempt)


def _architectures(observed: Observed) -> list[Architecture]:
    """Return the architectures the Function asks for, else those that runtime and nodes have in common."""
    if observed.function is not None and observed.function.spec.architectures:
        return sorted(set(observed.function.spec.architectures))
    if observed.runtime is None:
        return []
    images = {image.architecture for image in observed.runtime.spec.images}
    return sorted(architecture for architecture in images if str(architecture) in observed.architectures)


def _no_image(observed: Observed, build: Build) -> Problem | None:
    if observed.runtime is None or observed.runtime.spec.image(build.architecture) is not None:
        return None
    message = (
        f"Runtime {observed.runtime.metadata.name} has no image for {build.architecture}; "
        "change spec.architectures of the Function and make a new Deployment"
    )
    return Problem.failed(BuildReason.NO_IMAGE_FOR_ARCHITECTURE, message)


def _no_node(observed: Observed, build: Build) -> Problem | None:
    if str(build.architecture) in observed.architectures:
        return None
    message = f"no node has kubernetes.io/arch={build.architecture}; the build waits for one"
    return Problem.waiting(BuildReason.NO_NODE_FOR_ARCHITECTURE, message)


def _no_common_architecture(observed: Observed) -> Problem:
    assert observed.runtime is not None
    images = ", ".join(sorted(image.architecture for image in observed.runtime.spec.images))
    nodes = ", ".join(sorted(observed.architectures)) or "no architecture"
    message = f"Runtime {observed.runtime.metadata.name} has images for {images}; the cluster's nodes have {nodes}"
    return Problem.waiting(BuildReason.NO_NODE_FOR_ARCHITECTURE, message)


def _status(observed: Observed, builds: list[Build], problem: Problem | None, now: datetime) -> DeploymentStatus:
    deployment = observed.deployment
    before = deployment.status
    phase = phase_of(deployment, builds)
    digest = before.source_digest or observed.source.digest or _reported_digest(observed)
    return DeploymentStatus(
        observed_generation=deployment.metadata.generation,
        conditions=conditions(deployment, builds, problem, now),
        phase=phase,
        source_digest=digest,
        retry_token=_retry_token(deployment),
        builds=builds,
    )


def _reported_digest(observed: Observed) -> str:
    """Return the digest the agent found; of git only the build learns it."""
    reports = (found.progress.report for found in observed.builds.values() if found.progress is not None)
    return next((report.source_digest for report in reports if report is not None), "")


def _retry(deployment: Deployment) -> bool:
    """Tell whether what was in vain is to be built again."""
    return _retry_token(deployment) != deployment.status.retry_token and not canceled(deployment)


def _retry_token(deployment: Deployment) -> str:
    return deployment.metadata.annotations.get(names.ANNOTATION_RETRY, "")[:1024]


def _owner(deployment: Deployment, function: Function | None) -> Json | None:
    """Return what makes the Function own the Deployment, so that deleting it deletes this.

    Not where an earlier Function of that name still owns it: then the garbage collector is about to take it.
    """
    if function is None or function.metadata.deletion_timestamp is not None:
        return None
    if any(owner.kind == kinds.FUNCTION.name for owner in deployment.metadata.owner_references):
        return None
    return ownership(kinds.DEPLOYMENT, deployment.metadata, kinds.FUNCTION, function.metadata)


def _short(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 1]}…"
