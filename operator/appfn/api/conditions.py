"""Conditions by the Kubernetes API conventions, pure.

`Ready` summarises a Function, Deployment or Runtime, `Succeeded` an Execution. `Reconciling` and `Stalled` follow
kstatus: present and True only while they hold, so that `kubectl wait`, Flux, Argo CD and Helm judge health rightly.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from appfn.api.base import Model

MAX_MESSAGE = 1024
"""Characters of a condition's message kept; a longer one is cut with an ellipsis."""


class ConditionStatus(StrEnum):
    """Tri-state of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class ConditionType(StrEnum):
    """Every condition type appfn writes."""

    READY = "Ready"
    SUCCEEDED = "Succeeded"
    DEPLOYMENT_READY = "DeploymentReady"
    SCHEDULED = "Scheduled"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Condition(Model):
    """One entry of `status.conditions` (a list map keyed by `type`)."""

    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_time: datetime | None = None


def condition(type_: ConditionType, status: ConditionStatus, *, reason: str, message: str = "") -> Condition:
    """Build a condition; `merge` stamps generation and time."""
    short = message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
    return Condition(type=type_, status=status, reason=reason, message=short)


def merge(old: Iterable[Condition], new: Iterable[Condition], *, generation: int, now: datetime) -> list[Condition]:
    """Return `new` stamped with the generation, each keeping its old transition time unless its status flipped.

    Conditions of `old` that are absent from `new` are dropped.
    """
    before = {item.type: item for item in old}
    stamped = []
    for item in new:
        was = before.get(item.type)
        kept = was.last_transition_time if was is not None and was.status == item.status else None
        stamped.append(
            item.model_copy(update={"observed_generation": generation, "last_transition_time": kept or now}),
        )
    return stamped


def find(conditions: Iterable[Condition], type_: ConditionType) -> Condition | None:
    """Return the condition of that type, if present."""
    return next((item for item in conditions if item.type == type_), None)


def is_true(conditions: Iterable[Condition], type_: ConditionType) -> bool:
    """Tell whether the condition is present and True."""
    found = find(conditions, type_)
    return found is not None and found.status is ConditionStatus.TRUE
