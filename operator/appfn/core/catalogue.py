"""The catalogue of runtimes: which entries can be used, and what their status says."""

from datetime import datetime

from appfn.api.conditions import Condition, ConditionStatus, ConditionType, condition, merge
from appfn.api.runtime import Protocol, Runtime, RuntimeStatus
from appfn.core.problem import BuildReason, Problem

SUPPORTED = frozenset({Protocol.V2})
"""Generations of the runtime protocol this version speaks."""


def unusable(name: str, runtime: Runtime | None) -> Problem | None:
    """Return why functions cannot use the runtime of that name; None where they can."""
    if runtime is None:
        message = f"spec.runtime: the catalogue has no Runtime {name}; `kubectl get runtimes` lists what there is"
        return Problem.stalled(BuildReason.RUNTIME_NOT_FOUND, message)
    if not runtime.spec.enabled:
        command = f'kubectl patch runtime {name} --type=merge -p \'{{"spec":{{"enabled":true}}}}\''
        return Problem.stalled(BuildReason.RUNTIME_DISABLED, f"Runtime {name} is disabled; enable it with: {command}")
    return _unsupported(runtime)


def decide(runtime: Runtime, now: datetime) -> RuntimeStatus:
    """Return the status. A runtime that is disabled by its spec is as it should be, so it is Ready."""
    return RuntimeStatus(
        observed_generation=runtime.metadata.generation,
        conditions=merge(
            runtime.status.conditions, _conditions(runtime), generation=runtime.metadata.generation, now=now
        ),
    )


def _conditions(runtime: Runtime) -> list[Condition]:
    problem = _unsupported(runtime)
    if problem is not None:
        return [
            condition(type_, status, reason=problem.reason, message=problem.message)
            for type_, status in (
                (ConditionType.READY, ConditionStatus.FALSE),
                (ConditionType.STALLED, ConditionStatus.TRUE),
            )
        ]
    reason, message = (
        ("Enabled", "functions may use it") if runtime.spec.enabled else ("Disabled", "spec.enabled is false")
    )
    return [condition(ConditionType.READY, ConditionStatus.TRUE, reason=reason, message=message)]


def _unsupported(runtime: Runtime) -> Problem | None:
    if runtime.spec.protocol in SUPPORTED:
        return None
    known = ", ".join(sorted(SUPPORTED))
    message = f"spec.protocol: {runtime.spec.protocol} is not spoken by this version, which knows {known}"
    return Problem.stalled(BuildReason.RUNTIME_UNSUPPORTED, message)
