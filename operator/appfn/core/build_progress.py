"""What a build's Job and pod say, in words for people.

The pod is believed before the Job: its containers end seconds before the Job's conditions follow.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from appfn import names
from appfn.api.base import Model
from appfn.api.deployment import Artifact
from appfn.core.manifests.build_job import AGENT, BUILD, CONTAINERS
from appfn.core.problem import BuildReason

PATIENCE = timedelta(seconds=60)
"""How long the kubelet may fail to start a container, or the agent may take to tell of the other container's failure,
before the build is given up."""
POLL_SECONDS = 10.0
"""How often a build that cannot start is looked at: the events that say why do not wake anybody."""

_PULL_ERRORS = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"})
_START_ERRORS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_NEVER_RAN = frozenset({"StartError", "ContainerCannotRun"})
_OOM_KILLED = "OOMKilled"
_BUILD_FAILED = "BuildFailed"
"""The agent's word for a command that failed; it cannot know what the kernel knows."""
_OUT_OF_MEMORY = "the build used more memory than it may; install less, or raise APPFN_BUILD_MEMORY of the operator"
_RETRY = 'retry with: kubectl annotate --overwrite fdep NAME appfn.dev/retry="$(date)"'


class JobState(StrEnum):
    """Where a Job is."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Report(Model):
    """The termination message of the agent, which user code cannot write."""

    artifact: Artifact | None = None
    log: Artifact | None = None
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    source_digest: str = ""
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What is known of a running or ended Job."""

    state: JobState
    reason: str = ""
    message: str = ""
    report: Report | None = None
    pod: str = ""
    """Name of the pod that speaks for the Job."""
    stop: bool = False
    """The Job still tries; it has to be deleted."""
    look_again: float | None = None
    """Seconds after which the same objects may mean something else."""


def progress(
    job: Mapping[str, Any], pods: Iterable[Mapping[str, Any]], *, notes: Sequence[str], now: datetime
) -> Progress:
    """Judge a Job by its pods; `notes` are the messages of its FailedCreate events, newest last."""
    if job["metadata"].get("deletionTimestamp"):
        message = "the Job is being deleted; it is made again when it is gone"
        return Progress(state=JobState.PENDING, reason=BuildReason.PENDING, message=message, look_again=POLL_SECONDS)
    pod = _speaker(pods)
    if pod is None:
        return _job_alone(job, notes)
    name = str(pod["metadata"]["name"])
    ended = _reported(pod, name)
    if ended is None and _deadline_exceeded(job):
        ended = _job_failed(job, pod=name)
    ended = ended or _unreported(pod, now, name)
    if ended is not None:
        return ended
    if _condition(job, "Failed") is not None:
        return _job_failed(job, pod=name)
    return _stuck(pod, now, name) or _under_way(pod, name)


def _speaker(pods: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the newest pod that was not taken away from the build (the Job replaces those)."""
    standing = [pod for pod in pods if not _disrupted(pod)]
    return max(standing, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)


def _disrupted(pod: Mapping[str, Any]) -> bool:
    found = _condition(pod, "DisruptionTarget")
    return found is not None and found.get("status") == "True"


def _reported(pod: Mapping[str, Any], name: str) -> Progress | None:
    """Return the result the agent reported, if it has.

    Its termination message is the truth; until the kubelet shows it, the shim's copy of a good report on the pod is.
    """
    agent, build = _terminated(pod, AGENT), _terminated(pod, BUILD)
    annotations = pod["metadata"].get("annotations") or {}
    told = {"message": annotations.get(names.ANNOTATION_BUILD_REPORT), "exitCode": 0} if agent is None else agent
    report = _report(told)
    if report is None:
        return None
    if told.get("exitCode") == 0 and report.artifact is not None and not report.reason:
        return Progress(state=JobState.SUCCEEDED, report=report, pod=name)
    if agent is None or not report.reason:
        return None
    reason, message = report.reason, report.message
    if reason == _BUILD_FAILED and build is not None and build.get("reason") == _OOM_KILLED:
        reason, message = BuildReason.OUT_OF_MEMORY, _OUT_OF_MEMORY
    # A container that cannot be started waits for ever; one that can ends by itself, as the agent has told it to.
    stop = _start_problem(pod, BUILD) is not None
    return Progress(state=JobState.FAILED, reason=reason, message=message, report=report, pod=name, stop=stop)


def _unreported(pod: Mapping[str, Any], now: datetime, name: str) -> Progress | None:
    """Return why there is no report and will be none."""
    agent, build = _terminated(pod, AGENT), _terminated(pod, BUILD)
    if (pod.get("status") or {}).get("reason"):
        return _pod_failed(pod, name)
    if agent is not None:
        # Nobody is left to tell the other container.
        return _agent_failed(agent, build, name, stop=build is None)
    if build is None or build.get("exitCode") == 0:
        return _pod_failed(pod, name)
    ended = datetime.fromisoformat(str(build.get("finishedAt") or pod["metadata"]["creationTimestamp"]))
    left = timedelta() if build.get("reason") in _NEVER_RAN else PATIENCE - (now - ended)
    if left > timedelta():
        seconds = left.total_seconds() + 1
        return Progress(state=JobState.RUNNING, reason=BuildReason.BUILDING, pod=name, look_again=seconds)
    return _container_failed(BUILD, build, name, stop=True)


def _agent_failed(agent: Mapping[str, Any], build: Mapping[str, Any] | None, name: str, *, stop: bool) -> Progress:
    if agent.get("exitCode") == 0:
        message = f"the build ended well but its report cannot be read; {_RETRY}"
        return Progress(state=JobState.FAILED, reason=BuildReason.REPORT_MISSING, message=message, pod=name, stop=stop)
    if build is not None and build.get("reason") == _OOM_KILLED:
        return _container_failed(BUILD, build, name, stop=stop)
    return _container_failed(AGENT, agent, name, stop=stop)


def _container_failed(container: str, terminated: Mapping[str, Any], name: str, *, stop: bool) -> Progress:
    """Judge a container by what the kubelet says of it: what is in the message of `build`, user code may have written.

    It is shown, as part of a sentence of ours.
    """
    if terminated.get("reason") == _OOM_KILLED:
        reason = BuildReason.OUT_OF_MEMORY
        message = _OUT_OF_MEMORY if container == BUILD else f"the build's {container} used more memory than it may"
    else:
        reason = BuildReason.AGENT_FAILED
        detail = str(terminated.get("message") or terminated.get("reason") or "").strip()
        code = terminated.get("exitCode")
        message = f"the container {container} ended with exit code {code}: {detail or 'no message'}"
    return Progress(state=JobState.FAILED, reason=reason, message=message, pod=name, stop=stop)


def _pod_failed(pod: Mapping[str, Any], name: str) -> Progress | None:
    """Return why a pod failed as a whole, such as by eviction."""
    status = pod.get("status") or {}
    if status.get("phase") != "Failed":
        return None
    reason = str(status.get("reason") or BuildReason.POD_LOST)
    message = f"{status.get('message') or 'the node gave up the pod'}; {_RETRY}"
    return Progress(state=JobState.FAILED, reason=reason, message=message, pod=name)


def _stuck(pod: Mapping[str, Any], now: datetime, name: str) -> Progress | None:
    """Return a failure when the kubelet has been failing to start a container for longer than PATIENCE."""
    for container in CONTAINERS:
        problem = _start_problem(pod, container)
        if problem is None:
            continue
        reason, message = problem
        left = PATIENCE - (now - _waiting_since(pod, now))
        if left > timedelta():
            seconds = left.total_seconds() + 1
            return Progress(state=JobState.PENDING, reason=reason, message=message, pod=name, look_again=seconds)
        return Progress(state=JobState.FAILED, reason=reason, message=message, pod=name, stop=True)
    return None


def _start_problem(pod: Mapping[str, Any], container: str) -> tuple[BuildReason, str] | None:
    """Return why the kubelet cannot start a container, and says so."""
    status = _status(pod, container)
    waiting = (status.get("state") or {}).get("waiting") or {}
    known = _waiting_reason(waiting.get("reason", ""), status)
    return None if known is None else (known[0], f"{known[1]}: {waiting.get('message') or waiting.get('reason')}")


def _waiting_reason(reason: str, status: Mapping[str, Any]) -> tuple[BuildReason, str] | None:
    if reason in _PULL_ERRORS:
        return BuildReason.IMAGE_PULL_FAILED, f"image {status.get('image', '')} cannot be pulled"
    if reason in _START_ERRORS:
        hint = "the container cannot be started (does a Secret or ConfigMap of spec.variables of the Function lack?)"
        return BuildReason.CONTAINER_START_FAILED, hint
    return None


def _waiting_since(pod: Mapping[str, Any], now: datetime) -> datetime:
    """Return when a container could have started: when the pod came to its node or the one before it started."""
    states = [_status(pod, container).get("state") or {} for container in CONTAINERS]
    times = [(pod.get("status") or {}).get("startTime"), pod["metadata"].get("creationTimestamp")]
    times += [(state.get("running") or state.get("terminated") or {}).get("startedAt") for state in states]
    known = [datetime.fromisoformat(time) for time in times if time]
    return max(known, default=now)


def _under_way(pod: Mapping[str, Any], name: str) -> Progress:
    if _started(pod):
        return Progress(state=JobState.RUNNING, reason=BuildReason.BUILDING, pod=name)
    scheduled = _condition(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False":
        message = f"no node takes the build's pod: {scheduled.get('message', '')}"
        return Progress(state=JobState.PENDING, reason=BuildReason.UNSCHEDULABLE, message=message, pod=name)
    return Progress(state=JobState.PENDING, reason=BuildReason.PENDING, pod=name)


def _job_alone(job: Mapping[str, Any], notes: Sequence[str]) -> Progress:
    """Judge a Job without a pod: not made yet, not allowed, or lost."""
    if _condition(job, "Failed") is not None or _condition(job, "Complete") is not None:
        return _job_failed(job, pod="")
    if not notes:
        return Progress(state=JobState.PENDING, reason=BuildReason.PENDING, look_again=POLL_SECONDS)
    message = (
        f"the build's pod is refused: {notes[-1]} (has the namespace the objects of manifests/project, "
        "and room in its ResourceQuota?)"
    )
    return Progress(state=JobState.PENDING, reason=BuildReason.FORBIDDEN, message=message, look_again=POLL_SECONDS)


def _job_failed(job: Mapping[str, Any], *, pod: str) -> Progress:
    if _deadline_exceeded(job):
        seconds = job["spec"].get("activeDeadlineSeconds")
        message = f"the build took longer than {seconds} s; install less, or raise APPFN_BUILD_SECONDS of the operator"
        return Progress(state=JobState.FAILED, reason=BuildReason.DEADLINE_EXCEEDED, message=message, pod=pod)
    message = f"the build's pod was deleted before its result was seen; {_RETRY}"
    return Progress(state=JobState.FAILED, reason=BuildReason.POD_LOST, message=message, pod=pod)


def _deadline_exceeded(job: Mapping[str, Any]) -> bool:
    """Tell whether the Job controller ends the Job for that; it says so before it deletes the pod."""
    conditions = [_condition(job, type_) for type_ in ("FailureTarget", "Failed")]
    return any(found is not None and found.get("reason") == "DeadlineExceeded" for found in conditions)


def _status(pod: Mapping[str, Any], container: str) -> Mapping[str, Any]:
    """Return the status of a container; empty where it has none yet."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return next((entry for entry in statuses if entry["name"] == container), {})


def _terminated(pod: Mapping[str, Any], container: str) -> Mapping[str, Any] | None:
    """Return how a container ended, None if it has not."""
    found: Mapping[str, Any] | None = (_status(pod, container).get("state") or {}).get("terminated")
    return found


def _started(pod: Mapping[str, Any]) -> bool:
    states = [_status(pod, container).get("state") or {} for container in CONTAINERS]
    return any({"running", "terminated"} & set(state) for state in states)


def _condition(body: Mapping[str, Any], type_: str) -> Mapping[str, Any] | None:
    conditions = (body.get("status") or {}).get("conditions") or []
    return next((entry for entry in conditions if entry["type"] == type_), None)


def _report(terminated: Mapping[str, Any] | None) -> Report | None:
    try:
        return Report.model_validate(json.loads((terminated or {}).get("message") or ""))
    except (ValueError, ValidationError):
        return None
