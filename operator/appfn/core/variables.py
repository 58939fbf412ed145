"""The variables a function sees: the user's own and the twelve that Appwrite promises, pure."""

from collections.abc import Mapping

from appfn.api.deployment import Deployment
from appfn.api.execution import Trigger
from appfn.api.function import Function
from appfn.api.runtime import Runtime
from appfn.core.records import ExecutionRequest


def payload(request: ExecutionRequest) -> str:
    """Return what `req.payload` is: the data given by a caller, empty for events (and for the ticks of schedules)."""
    return "" if request.trigger is Trigger.EVENT else request.data


def injected(
    request: ExecutionRequest,
    *,
    project: str,
    function: Function,
    deployment: Deployment,
    runtime: Runtime,
) -> dict[str, str]:
    """Return the twelve variables of Appwrite's documentation, each always there, empty where it does not apply.

    Args:
        request: the execution.
        project: Appwrite id of the project.
        function: what runs.
        deployment: the version of it that runs.
        runtime: what it runs on.
    """
    return constant(project, function, deployment, runtime) | of_request(request)


def constant(project: str, function: Function, deployment: Deployment, runtime: Runtime) -> dict[str, str]:
    """Return those of the twelve that are the same for each execution of a deployment."""
    return {
        "APPWRITE_FUNCTION_ID": function.appwrite_id,
        "APPWRITE_FUNCTION_NAME": function.display_name,
        "APPWRITE_FUNCTION_DEPLOYMENT": deployment.appwrite_id,
        "APPWRITE_FUNCTION_PROJECT_ID": project,
        "APPWRITE_FUNCTION_RUNTIME_NAME": runtime.spec.display_name,
        "APPWRITE_FUNCTION_RUNTIME_VERSION": runtime.spec.version,
    }


def of_request(request: ExecutionRequest) -> dict[str, str]:
    """Return those of the twelve that an execution brings."""
    event = request.trigger is Trigger.EVENT
    return {
        "APPWRITE_FUNCTION_TRIGGER": str(request.trigger),
        "APPWRITE_FUNCTION_EVENT": request.event if event else "",
        "APPWRITE_FUNCTION_EVENT_DATA": request.event_data if event else "",
        "APPWRITE_FUNCTION_DATA": payload(request),
        "APPWRITE_FUNCTION_USER_ID": request.user_id,
        "APPWRITE_FUNCTION_JWT": request.jwt,
    }


def merged(user: Mapping[str, str], appwrite: Mapping[str, str]) -> dict[str, str]:
    """Return all variables of an execution; Appwrite's win over the user's of the same name."""
    return {**user, **appwrite}
