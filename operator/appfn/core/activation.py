"""Which Deployment the calls of a Function go to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta

from appfn import names
from appfn.api import kinds
from appfn.api.conditions import ConditionType, is_true
from appfn.api.deployment import BuildPhase, Deployment
from appfn.api.function import Function
from appfn.core.problem import Problem, Severity

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """The active Deployment and what is to be said of it."""

    active: str | None
    message: str = ""
    problem: Problem | None = None
    """Why it is not the one the spec asks for, or why there is none."""


def choose(function: Function, deployments: Iterable[Deployment]) -> Activation:
    """Return the pinned Deployment, or the newest ready one that asks to be activated.

    While a pinned one is missing or not ready, calls go on to the one they went to, if that still is ready.
    """
    known = {item.metadata.name: item for item in deployments if not leaving(item, function)}
    if function.spec.deployment is not None:
        return _pinned(function, known)
    return _newest(function, list(known.values()))


def leaving(deployment: Deployment, function: Function) -> bool:
    """Tell whether it is being deleted, itself or with an earlier Function of this name."""
    owners = [owner.uid for owner in deployment.metadata.owner_references if owner.kind == kinds.FUNCTION.name]
    return deployment.metadata.deletion_timestamp is not None or (bool(owners) and function.metadata.uid not in owners)


def _pinned(function: Function, known: dict[str, Deployment]) -> Activation:
    pin = str(function.spec.deployment)
    wanted = known.get(pin)
    if wanted is not None and _ready(wanted):
        return Activation(active=pin, message=f"{pin} is active: spec.deployment asks for it")
    before = known.get(function.status.active_deployment or "")
    active = before.metadata.name if before is not None and _ready(before) else None
    kept = f"; calls still go to {active}" if active else ""
    if wanted is None:
        message = f"spec.deployment: there is no Deployment {pin} of this Function{kept}"
        return Activation(active=active, problem=_problem(Severity.WAITING, "DeploymentNotFound", message))
    return Activation(active=active, problem=_unready(wanted, kept))


def _newest(function: Function, known: Sequence[Deployment]) -> Activation:
    asking = (item for item in known if item.spec.activate or _activated(item) is not None)
    candidates = sorted(asking, key=_turn, reverse=True)
    active = next((item for item in candidates if _ready(item)), None)
    if active is not None:
        newer = candidates[: candidates.index(active)]
        tail = f"; {newer[0].metadata.name} is newer and {_phase(newer[0])}" if newer else ""
        return Activation(active=active.metadata.name, message=f"{active.metadata.name} is active{tail}")
    if candidates:
        return Activation(active=None, problem=_unready(candidates[0], ""))
    name = function.metadata.name
    message = f"no Deployment has spec.functionRef.name {name}; create one with the code"
    if known:
        message = "no Deployment has spec.activate; name one in spec.deployment"
    return Activation(active=None, problem=_problem(Severity.WAITING, "NoDeployment", message))


def _unready(deployment: Deployment, kept: str) -> Problem:
    name, phase = deployment.metadata.name, _phase(deployment)
    if phase is BuildPhase.FAILED:
        message = f"the build of {name} failed; see `kubectl describe fdep {name}`{kept}"
        return _problem(Severity.STALLED, "BuildFailed", message)
    if phase is BuildPhase.CANCELED:
        return _problem(Severity.STALLED, "BuildCanceled", f"the build of {name} was canceled{kept}")
    return _problem(Severity.WAITING, "DeploymentNotReady", f"{name} is {phase}{kept}")


def _problem(severity: Severity, reason: str, message: str) -> Problem:
    return Problem(severity=severity, reason=reason, message=message)


def _phase(deployment: Deployment) -> BuildPhase:
    return deployment.status.phase or BuildPhase.PROCESSING


def _ready(deployment: Deployment) -> bool:
    return is_true(deployment.status.conditions, ConditionType.READY)


def next_turn(deployments: Iterable[Deployment], now: datetime) -> str:
    """Return the annotation that puts a Deployment before all others of its Function, whatever our clock says."""
    newest = max((_turn(item)[0] for item in deployments), default=_LONG_AGO)
    return max(now, newest + timedelta(microseconds=1)).isoformat(timespec="microseconds")


def _turn(deployment: Deployment) -> tuple[datetime, str]:
    """Order by activation through the API, else by creation; where that is the same the name decides, always alike."""
    return (
        _activated(deployment) or deployment.metadata.creation_timestamp or _LONG_AGO,
        deployment.metadata.name,
    )


def _activated(deployment: Deployment) -> datetime | None:
    """Return when it was activated through the API; None also where the annotation is no time."""
    try:
        moment = datetime.fromisoformat(deployment.metadata.annotations.get(names.ANNOTATION_ACTIVATED, ""))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None and moment.year < MAXYEAR else None
