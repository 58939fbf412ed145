"""An Execution resource: handed to the shim once, then a mirror of what the shim's store says.

Its uid is the execution's id and idempotency key, so submitting it again after a crash starts nothing twice. A result
is final: afterwards the shim is not asked again, and only the time to live acts.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from appfn import names
from appfn.api import kinds
from appfn.api.base import Json
from appfn.api.conditions import Condition, ConditionStatus, ConditionType, condition, merge
from appfn.api.execution import (
    Component,
    Execution,
    ExecutionPhase,
    ExecutionStatus,
    Failure,
    FailureReason,
    PhaseTimes,
)
from appfn.api.function import Function
from appfn.core.manifests.meta import ownership
from appfn.core.observed import ObservedExecution
from appfn.core.problem import BuildReason, Problem, Severity, not_a_project

MAX_RESPONSE = 65_536
"""Bytes of a response kept in the resource; the API has it whole."""
MAX_OUTPUT = 16_384
"""Bytes of stdout and of stderr likewise."""
WAIT_SECONDS = 30.0
"""How often an Execution that waits looks again, should no event tell."""
_MAX_FAILURE = 4096
_MAX_TOKEN = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """An Execution and what it depends on."""

    execution: Execution
    function: Function | None
    project: bool
    record: ObservedExecution | None
    """What the shim has under its id; only looked up where `lookup_id` names one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, in this order: repeat, own, submit, write the status, delete."""

    status: ExecutionStatus
    owner: Json | None = None
    submit: Json | None = None
    """Body of the request to the shim."""
    repeat: Json | None = None
    """The Execution to create that runs this one again."""
    delete: bool = False
    requeue: float | None = None


def finished(execution: Execution) -> bool:
    """Tell whether the result is in."""
    return execution.status.status is not None and execution.status.status.terminal


def replay_asked(execution: Execution) -> bool:
    """Tell whether it is to be run again, and can be: it has ended."""
    return finished(execution) and _replay_token(execution) not in {"", execution.status.replay_token}


def mirrored(execution: Execution) -> bool:
    """Tell whether it shows a call that came another way."""
    return names.LABEL_MIRRORED in execution.metadata.labels


def lookup_id(execution: Execution) -> str:
    """Return the id to ask the shim for; empty while there is nothing to ask."""
    if finished(execution):
        return ""
    if mirrored(execution):
        return execution.spec.id or ""
    return execution.status.execution_id


def decide(observed: Observed, now: datetime) -> Plan:
    """Conclude what the Execution needs."""
    execution = observed.execution
    owner = _owner(observed)
    if finished(execution):
        plan = _expire(execution, owner, now)
        return _repeat(execution, plan) if observed.project and replay_asked(execution) else plan
    if observed.record is not None:
        return _mirror(execution, observed.record, owner, now)
    if lookup_id(execution):
        return _lost(execution, owner, now)
    obstacle = _obstacle(observed)
    if obstacle is not None:
        return Plan(status=_waiting(execution, obstacle, now), owner=owner, requeue=WAIT_SECONDS)
    return Plan(status=execution.status, owner=owner, submit=_request(execution))


def accepted(execution: Execution, record: ObservedExecution, now: datetime) -> ExecutionStatus:
    """Return the status once the shim has taken (or had) the execution."""
    return _status(execution, record, now)


def unaccepted(execution: Execution, problem: Problem, now: datetime) -> ExecutionStatus:
    """Return the status while the shim does not take the execution."""
    if problem.severity is not Severity.FAILED:
        return _waiting(execution, problem, now)
    failure = Failure(
        component=Component.DISPATCHER,
        reason=FailureReason.FUNCTION_UNAVAILABLE,
        message=problem.message[:_MAX_FAILURE],
    )
    return _failed(execution, failure, now)


def _mirror(execution: Execution, record: ObservedExecution, owner: Json | None, now: datetime) -> Plan:
    status = _status(execution, record, now)
    ttl = execution.spec.ttl_seconds_after_finished
    seconds = WAIT_SECONDS if not record.status.terminal else None if ttl is None else float(ttl)
    return Plan(status=status, owner=owner, requeue=seconds)


def _expire(execution: Execution, owner: Json | None, now: datetime) -> Plan:
    ttl = execution.spec.ttl_seconds_after_finished
    ended = execution.status.completion_time
    if ttl is None or ended is None:
        return Plan(status=execution.status, owner=owner)
    left = (ended + timedelta(seconds=ttl) - now) / timedelta(seconds=1)
    if left > 0:
        return Plan(status=execution.status, owner=owner, requeue=left)
    return Plan(status=execution.status, delete=True)


def _repeat(execution: Execution, plan: Plan) -> Plan:
    token = _replay_token(execution)
    status = plan.status.model_copy(update={"replay_token": token})
    return replace(plan, status=status, repeat=_again(execution, token))


def _again(execution: Execution, token: str) -> Json:
    """Return the Execution that runs another again: the shim has all that the function was given, the resource a part.

    One that never came to the shim is copied.
    """
    spec, id_ = execution.spec, execution.status.execution_id or execution.spec.id
    kept = {"path", "method", "ttlSecondsAfterFinished"} | (set() if id_ else {"data", "headers"})
    copied = {name: value for name, value in spec.to_json().items() if name in kept and value is not None}
    metadata: Json = {
        "name": names.replay(execution.metadata.name, token),
        "namespace": execution.metadata.namespace,
    }
    if id_:
        metadata["annotations"] = {names.ANNOTATION_REPLAY_OF: id_}
    return {
        "apiVersion": kinds.EXECUTION.api_version,
        "kind": kinds.EXECUTION.name,
        "metadata": metadata,
        "spec": {"functionRef": {"name": spec.function_ref.name}} | copied,
    }


def _replay_token(execution: Execution) -> str:
    return execution.metadata.annotations.get(names.ANNOTATION_REPLAY, "")[:_MAX_TOKEN]


def _lost(execution: Execution, owner: Json | None, now: datetime) -> Plan:
    """Name an unknown outcome: the store had accepted it and has it no more. To run it again might run it twice."""
    if mirrored(execution):
        return Plan(status=execution.status)
    message = "the shim has no record of this execution any more; whether it ran is unknown"
    failure = Failure(component=Component.EXECUTOR, reason=FailureReason.EXECUTOR_LOST, message=message)
    return Plan(status=_failed(execution, failure, now), owner=owner)


def _obstacle(observed: Observed) -> Problem | None:
    """Return why the execution cannot be handed over yet. It waits: what lacks may be applied later."""
    namespace, name = observed.execution.metadata.namespace, observed.execution.spec.function_ref.name
    if mirrored(observed.execution):
        return Problem.waiting(BuildReason.PENDING, "spec.id: shows the call of that id, which is not known")
    if not observed.project:
        return not_a_project(namespace)
    function = observed.function
    if function is None:
        message = f"spec.functionRef.name: there is no Function {name} in {namespace}; it runs when there is"
        return Problem.waiting(BuildReason.FUNCTION_NOT_FOUND, message)
    if _is_of_another(observed.execution, function):
        message = f"an earlier Function {name} owned this Execution, which is deleted with it"
        return Problem(severity=Severity.WAITING, reason="FunctionDeleted", message=message)
    if not function.spec.enabled:
        message = f"Function {name} has spec.enabled false; it runs when that is true"
        return Problem(severity=Severity.WAITING, reason="FunctionDisabled", message=message)
    if function.status.active_deployment is None:
        message = f"Function {name} has no ready Deployment yet; it runs when it has"
        return Problem(severity=Severity.WAITING, reason="FunctionNotReady", message=message)
    return None


def _is_of_another(execution: Execution, function: Function) -> bool:
    """Tell whether it was made for an earlier Function of that name: the garbage collector is about to take it."""
    owners = [owner.uid for owner in execution.metadata.owner_references if owner.kind == kinds.FUNCTION.name]
    return bool(owners) and function.metadata.uid not in owners


def _request(execution: Execution) -> Json:
    spec = execution.spec
    request: Json = {
        "namespace": execution.metadata.namespace,
        "function": spec.function_ref.name,
        "uid": execution.metadata.uid,
    }
    if original := execution.metadata.annotations.get(names.ANNOTATION_REPLAY_OF):
        return request | {"replayOf": original}
    return request | {"data": spec.data, "headers": spec.headers, "path": spec.path, "method": spec.method}


def _status(execution: Execution, record: ObservedExecution, now: datetime) -> ExecutionStatus:
    response, cut_response = _cut(record.response, MAX_RESPONSE)
    stdout, cut_stdout = _cut(record.stdout, MAX_OUTPUT)
    stderr, cut_stderr = _cut(record.stderr, MAX_OUTPUT)
    terminal = record.status.terminal
    return ExecutionStatus(
        observed_generation=execution.metadata.generation,
        conditions=_stamp(execution, _conditions(record), now),
        execution_id=record.id,
        deployment=record.deployment,
        trigger=record.trigger,
        status=record.status,
        status_code=record.status_code,
        response=response,
        stdout=stdout,
        stderr=stderr,
        truncated=cut_response or cut_stdout or cut_stderr,
        duration=f"{record.duration:.3f}" if terminal else "",
        attempt=record.attempt,
        cold_start=record.cold_start,
        times=record.times if terminal else None,
        failure=record.failure,
        start_time=_seconds(record.start_time),
        completion_time=_seconds(record.completion_time or now) if terminal else None,
    )


def _failed(execution: Execution, failure: Failure, now: datetime) -> ExecutionStatus:
    told = _ended(ConditionStatus.FALSE, failure.reason, failure.message)
    return execution.status.model_copy(
        update={
            "observed_generation": execution.metadata.generation,
            "conditions": _stamp(execution, told, now),
            "status": ExecutionPhase.FAILED,
            "failure": failure,
            "times": PhaseTimes(),
            "completion_time": _seconds(now),
        }
    )


def _waiting(execution: Execution, problem: Problem, now: datetime) -> ExecutionStatus:
    return execution.status.model_copy(
        update={
            "observed_generation": execution.metadata.generation,
            "conditions": _stamp(execution, _going(problem.reason, problem.message), now),
            "status": ExecutionPhase.WAITING,
        }
    )


def _conditions(record: ObservedExecution) -> list[Condition]:
    match record.status:
        case ExecutionPhase.SCHEDULED:
            return _going("Scheduled", "its time has not come")
        case ExecutionPhase.WAITING:
            return _going("Waiting", "in the queue")
        case ExecutionPhase.PROCESSING:
            return _going("Processing", f"attempt {record.attempt}")
        case ExecutionPhase.COMPLETED:
            return _ended(ConditionStatus.TRUE, "Completed", "")
        case ExecutionPhase.FAILED:
            failure = record.failure
            reason = FailureReason.FUNCTION_ERROR if failure is None else failure.reason
            return _ended(ConditionStatus.FALSE, reason, "" if failure is None else failure.message)


def _going(reason: str, message: str) -> list[Condition]:
    return [
        condition(ConditionType.SUCCEEDED, ConditionStatus.UNKNOWN, reason=reason, message=message),
        condition(ConditionType.RECONCILING, ConditionStatus.TRUE, reason=reason, message=message),
    ]


def _ended(status: ConditionStatus, reason: str, message: str) -> list[Condition]:
    succeeded = condition(ConditionType.SUCCEEDED, status, reason=reason, message=message)
    if status is ConditionStatus.TRUE:
        return [succeeded]
    return [succeeded, condition(ConditionType.STALLED, ConditionStatus.TRUE, reason=reason, message=message)]


def _stamp(execution: Execution, found: list[Condition], now: datetime) -> list[Condition]:
    return merge(execution.status.conditions, found, generation=execution.metadata.generation, now=now)


def _owner(observed: Observed) -> Json | None:
    """Return what makes the Function own the Execution; nothing where a Function of that name already does."""
    function, execution = observed.function, observed.execution
    if function is None or function.metadata.deletion_timestamp is not None or not observed.project:
        return None
    if any(owner.kind == kinds.FUNCTION.name for owner in execution.metadata.owner_references):
        return None
    return ownership(kinds.EXECUTION, execution.metadata, kinds.FUNCTION, function.metadata)


def _cut(text: str, limit: int) -> tuple[str, bool]:
    """Return at most `limit` bytes of the text, at a character's end, and whether any were cut."""
    raw = text.encode(errors="replace")
    if len(raw) <= limit:
        return raw.decode(), False
    return raw[:limit].decode(errors="ignore"), True


def _seconds(time: datetime | None) -> datetime | None:
    """Return the time to the second, as Kubernetes writes times."""
    return None if time is None else time.replace(microsecond=0)
