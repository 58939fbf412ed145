"""What a build's Job and pod say, in words for people.

The pod is believed before the Job: its containers end seconds before the Job's conditions follow.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from appfn.api.base import Model
from appfn.api.deployment import Artifact
from appfn.core.manifests.build_job import BUILD, FETCH, STEPS, UPLOAD
from appfn.core.problem import BuildReason

PATIENCE = timedelta(seconds=60)
"""How long the kubelet may fail to start a container before the build is given up."""
POLL_SECONDS = 10.0
"""How often a build that cannot start is looked at: the events that say why do not wake anybody."""

_PULL_ERRORS = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"})
_START_ERRORS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_OOM_KILLED = "OOMKilled"
_RETRY = 'retry with: kubectl annotate --overwrite fdep NAME appfn.dev/retry="$(date)"'


class JobState(StrEnum):
    """Where a Job is."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Report(Model):
    """The termination message of a step that is the agent's: `fetch` or `upload`."""

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
    ended = _ended(pod, name)
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


def _ended(pod: Mapping[str, Any], name: str) -> Progress | None:
    """Return the result of a pod one of whose containers failed, or whose last one succeeded."""
    for step, status in _statuses(pod):
        terminated = (status.get("state") or {}).get("terminated")
        if terminated is None:
            return _pod_failed(pod, name)
        if terminated.get("exitCode") != 0:
            return _step_failed(step, terminated, name)
        if step == UPLOAD:
            return _uploaded(terminated, name, source_digest=_fetched_digest(pod))
    return _pod_failed(pod, name)


def _uploaded(terminated: Mapping[str, Any], name: str, *, source_digest: str) -> Progress:
    report = _report(terminated)
    if report is None or report.artifact is None:
        message = f"the build ended well but its report cannot be read; {_RETRY}"
        return Progress(state=JobState.FAILED, reason=BuildReason.REPORT_MISSING, message=message, pod=name)
    report = report.model_copy(update={"source_digest": source_digest})
    return Progress(state=JobState.SUCCEEDED, report=report, pod=name)


def _fetched_digest(pod: Mapping[str, Any]) -> str:
    """Return the source's digest as `fetch` found it: before the user's commands could have a hand in it."""
    ended = (status.get("state", {}).get("terminated", {}) for step, status in _statuses(pod) if step == FETCH)
    report = _report(next(ended, {}))
    return report.source_digest if report is not None else ""


def _step_failed(step: str, terminated: Mapping[str, Any], name: str) -> Progress:
    report = _report(terminated) if step != BUILD else None  # the user's commands can write its message
    if report is not None and report.reason:
        return Progress(state=JobState.FAILED, reason=report.reason, message=report.message, report=report, pod=name)
    if terminated.get("reason") == _OOM_KILLED:
        message = (
            f"the {step} step used more memory than it may; install less, or raise APPFN_BUILD_MEMORY of the operator"
        )
        return Progress(state=JobState.FAILED, reason=BuildReason.OUT_OF_MEMORY, message=message, pod=name)
    detail = str(terminated.get("message") or terminated.get("reason") or "").strip()
    message = f"the {step} step ended with exit code {terminated.get('exitCode')}: {detail or 'no message'}"
    return Progress(state=JobState.FAILED, reason=BuildReason.AGENT_FAILED, message=message, pod=name)


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
    for _, status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        known = _waiting_reason(waiting.get("reason", ""), status)
        if known is None:
            continue
        left = PATIENCE - (now - _waiting_since(pod, now))
        message = f"{known[1]}: {waiting.get('message') or waiting.get('reason')}"
        if left > timedelta():
            seconds = left.total_seconds() + 1
            return Progress(state=JobState.PENDING, reason=known[0], message=message, pod=name, look_again=seconds)
        return Progress(state=JobState.FAILED, reason=known[0], message=message, pod=name, stop=True)
    return None


def _waiting_reason(reason: str, status: Mapping[str, Any]) -> tuple[BuildReason, str] | None:
    if reason in _PULL_ERRORS:
        return BuildReason.IMAGE_PULL_FAILED, f"image {status.get('image', '')} cannot be pulled"
    if reason in _START_ERRORS:
        hint = "the container cannot be started (does a Secret or ConfigMap of spec.variables of the Function lack?)"
        return BuildReason.CONTAINER_START_FAILED, hint
    return None


def _waiting_since(pod: Mapping[str, Any], now: datetime) -> datetime:
    """Return when the present step could have started: when the pod came to its node or the step before it ended."""
    status = pod.get("status") or {}
    times = [status.get("startTime"), pod["metadata"].get("creationTimestamp")]
    times += [(entry.get("state") or {}).get("terminated", {}).get("finishedAt") for _, entry in _statuses(pod)]
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
    failed = _condition(job, "Failed") or {}
    if failed.get("reason") == "DeadlineExceeded":
        seconds = job["spec"].get("activeDeadlineSeconds")
        message = f"the build took longer than {seconds} s; install less, or raise APPFN_BUILD_SECONDS of the operator"
        return Progress(state=JobState.FAILED, reason=BuildReason.DEADLINE_EXCEEDED, message=message, pod=pod)
    message = f"the build's pod was deleted before its result was seen; {_RETRY}"
    return Progress(state=JobState.FAILED, reason=BuildReason.POD_LOST, message=message, pod=pod)


def _statuses(pod: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the status of each step that has one, in the order they run."""
    status = pod.get("status") or {}
    entries = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    by_name = {entry["name"]: entry for entry in entries}
    yield from ((step, by_name[step]) for step in STEPS if step in by_name)


def _started(pod: Mapping[str, Any]) -> bool:
    return any({"running", "terminated"} & set(status.get("state") or {}) for _, status in _statuses(pod))


def _condition(body: Mapping[str, Any], type_: str) -> Mapping[str, Any] | None:
    conditions = (body.get("status") or {}).get("conditions") or []
    return next((entry for entry in conditions if entry["type"] == type_), None)


def _report(terminated: Mapping[str, Any]) -> Report | None:
    try:
        return Report.model_validate(json.loads(terminated.get("message") or ""))
    except (ValueError, ValidationError):
        return None
