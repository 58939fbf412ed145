"""How the state of a Deployment's builds is told: one phase, and the conditions that tools and people read."""

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from appfn import names
from appfn.api.conditions import Condition, ConditionStatus, ConditionType, condition, merge
from appfn.api.deployment import Build, BuildPhase, Deployment
from appfn.core.problem import BuildReason, Problem, Severity

_WORST_FIRST = (BuildPhase.FAILED, BuildPhase.CANCELED, BuildPhase.PROCESSING, BuildPhase.BUILDING, BuildPhase.READY)


_CANCELED = "canceled; it never becomes active"


def worst_phase(builds: Sequence[Build]) -> BuildPhase:
    """Return the phase for the printer column; `processing` before there are builds."""
    present = {build.phase for build in builds} or {BuildPhase.PROCESSING}
    return next(phase for phase in _WORST_FIRST if phase in present)


def phase_of(deployment: Deployment, builds: Sequence[Build]) -> BuildPhase:
    """As `worst_phase`, for a Deployment that may have been canceled before it had builds."""
    return BuildPhase.CANCELED if not builds and canceled(deployment) else worst_phase(builds)


def canceled(deployment: Deployment) -> bool:
    """Tell whether what has not ended of it is not wanted any more."""
    return names.ANNOTATION_CANCEL in deployment.metadata.annotations


def conditions(
    deployment: Deployment, builds: Sequence[Build], problem: Problem | None, now: datetime
) -> list[Condition]:
    """Return the Deployment's conditions. `problem` keeps builds from starting; it says nothing of those that ended."""
    phase = phase_of(deployment, builds)
    speaker = next((build for build in builds if build.phase is phase), None)
    found: list[Condition]
    match phase:
        case BuildPhase.READY:
            architectures = ", ".join(str(build.architecture) for build in builds)
            found = [_ready(ConditionStatus.TRUE, BuildReason.READY, f"built for {architectures}")]
        case BuildPhase.FAILED:
            assert speaker is not None
            message = f"{speaker.architecture}: {speaker.message}"
            found = [_ready(ConditionStatus.FALSE, speaker.reason, message), _stalled(speaker.reason, message)]
        case BuildPhase.CANCELED:
            found = [
                _ready(ConditionStatus.FALSE, BuildReason.CANCELED, _CANCELED),
                _stalled(BuildReason.CANCELED, _CANCELED),
            ]
        case BuildPhase.PROCESSING | BuildPhase.BUILDING:
            found = _under_way(speaker, problem)
        case _:
            assert_never(phase)
    return merge(deployment.status.conditions, found, generation=deployment.metadata.generation, now=now)


def _under_way(speaker: Build | None, problem: Problem | None) -> list[Condition]:
    if problem is not None and problem.severity is not Severity.WAITING:
        return [
            _ready(ConditionStatus.FALSE, problem.reason, problem.message),
            _stalled(problem.reason, problem.message),
        ]
    if speaker is not None and speaker.reason:
        reason, message = speaker.reason, f"{speaker.architecture}: {speaker.message}" if speaker.message else ""
    elif problem is not None:
        reason, message = problem.reason, problem.message
    else:
        reason, message = BuildReason.PENDING, ""
    return [
        _ready(ConditionStatus.FALSE, reason, message),
        condition(ConditionType.RECONCILING, ConditionStatus.TRUE, reason=reason, message=message),
    ]


def _ready(status: ConditionStatus, reason: str, message: str) -> Condition:
    return condition(ConditionType.READY, status, reason=reason, message=message)


def _stalled(reason: str, message: str) -> Condition:
    return condition(ConditionType.STALLED, ConditionStatus.TRUE, reason=reason, message=message)
