"""Every way an invocation can fail, with the words a person reads.

Messages say what went wrong and, where somebody can act, what to do; they never hold a payload, a variable or a token.
"""

from appfn.api.execution import Component, ExecutionPhase, Failure, FailureReason
from appfn.core.records import MAX_OUTPUT, Outcome

TIMEOUT_STDERR = "An internal curl error has occurred within the executor! Error Msg: Operation timed out"
"""What Appwrite's own executor writes, and its tests look for."""
DEFAULT_STDERR = "Internal Runtime error."
"""Appwrite's stand-in where a failed call brought no stderr."""
STATUS_FAILED = 500
"""Status code of an execution that ended without an answer of the function."""


class NotServedError(Exception):
    """Inside dispatch only: this call gets no pod. Carries the failure to report."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failed(failure: Failure, *, stdout: str = "", stderr: str | None = None) -> Outcome:
    """Return the outcome of a failure; its message is the stderr unless another one is given."""
    return Outcome(
        phase=ExecutionPhase.FAILED,
        status_code=STATUS_FAILED,
        stdout=stdout,
        stderr=failure.message if stderr is None else stderr,
        failure=failure,
    )


def timeout(seconds: float) -> Outcome:
    """The function ran longer than its timeout."""
    message = f"the function did not answer within its timeout of {seconds:g} s"
    return failed(_failure(Component.FUNCTION, FailureReason.TIMEOUT, message), stderr=TIMEOUT_STDERR)


def function_error(status: int) -> Failure:
    """The function answered 500 or more."""
    message = f"the function failed with status {status}; see its stderr"
    return _failure(Component.FUNCTION, FailureReason.FUNCTION_ERROR, message)


def response_too_large() -> Failure:
    """The answer is larger than an execution may keep."""
    message = f"the response is larger than the limit of {MAX_OUTPUT:,} bytes"
    return _failure(Component.FUNCTION, FailureReason.RESPONSE_TOO_LARGE, message)


def invalid_response(what: str) -> Failure:
    """The runtime answered something that is not its protocol."""
    message = f"the runtime's answer is not valid: {what}"
    return _failure(Component.RUNTIME, FailureReason.INVALID_RESPONSE, message)


def pod_lost(pod: str, ending: str) -> Failure:
    """The connection broke after the request was sent; whether the function finished is unknown."""
    message = f"pod {pod} was lost during the call ({ending}); whether the function finished is unknown"
    return _failure(Component.RUNTIME, FailureReason.POD_LOST, message)


def pod_unreachable(pod: str) -> Failure:
    """No pod that was tried took the connection; the request was never sent."""
    message = f"the runtime in pod {pod} takes no connections; the function was not started"
    return _failure(Component.RUNTIME, FailureReason.POD_LOST, message)


def pod_not_started(why: str) -> Failure:
    """No pod could be brought up to serve the call."""
    message = f"no runtime pod could be started: {why}"
    return _failure(Component.EXECUTOR, FailureReason.POD_START_FAILED, message)


def load_failed(why: str, *, component: Component = Component.EXECUTOR) -> Failure:
    """A pod is up but the code could not be brought into it."""
    return _failure(component, FailureReason.LOAD_FAILED, f"the deployment could not be loaded: {why}")


def queue_timeout(seconds: float) -> Failure:
    """All pods stayed busy for the whole time a call may wait."""
    message = f"all runtime pods of the function were busy for {seconds:g} s; raise spec.scaling.maxReplicas"
    return _failure(Component.DISPATCHER, FailureReason.QUEUE_TIMEOUT, message)


def no_architecture() -> Failure:
    """Nothing can be run: builds and runtime images have no architecture in common."""
    message = "the deployment has no finished build for an architecture that its runtime has an image for"
    return _failure(Component.DISPATCHER, FailureReason.FUNCTION_UNAVAILABLE, message)


def executor_lost() -> Failure:
    """The shim stopped while the function ran."""
    message = "the executor was shut down during the call; whether the function finished is unknown"
    return _failure(Component.EXECUTOR, FailureReason.EXECUTOR_LOST, message)


def _failure(component: Component, reason: FailureReason, message: str) -> Failure:
    return Failure(component=component, reason=reason, message=message)
