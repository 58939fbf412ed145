"""What a route asks of its caller, pure: the scope an API key needs, and what RBAC must allow a workload."""

from dataclasses import dataclass

from appfn.api.kinds import DEPLOYMENT, EXECUTION, FUNCTION, RUNTIME, Kind
from appfn.shim.auth.identity import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The rights that an operation needs.

    Attributes:
        scope: what an API key must hold.
        kind: the resource that a ServiceAccount must be allowed `verb` on, in the project's namespace.
        verb: RBAC's word for what is done.
        guests: whether a caller who is nobody in particular may try; `execute` may still say no.
        users: whether a user of the project may try.
    """

    scope: Scope
    kind: Kind
    verb: str
    guests: bool = False
    users: bool = False


EXECUTE = Access(scope=Scope.EXECUTIONS_WRITE, kind=EXECUTION, verb="create", guests=True, users=True)
EXECUTION_GET = Access(scope=Scope.EXECUTIONS_READ, kind=EXECUTION, verb="get", users=True)
EXECUTION_LIST = Access(scope=Scope.EXECUTIONS_READ, kind=EXECUTION, verb="list", users=True)
EXECUTION_DELETE = Access(scope=Scope.EXECUTIONS_WRITE, kind=EXECUTION, verb="delete")

EVENTS_WRITE = Access(scope=Scope.EVENTS_WRITE, kind=EXECUTION, verb="create")

FUNCTION_GET = Access(scope=Scope.FUNCTIONS_READ, kind=FUNCTION, verb="get")
FUNCTION_LIST = Access(scope=Scope.FUNCTIONS_READ, kind=FUNCTION, verb="list")
FUNCTION_CREATE = Access(scope=Scope.FUNCTIONS_WRITE, kind=FUNCTION, verb="create")
FUNCTION_UPDATE = Access(scope=Scope.FUNCTIONS_WRITE, kind=FUNCTION, verb="patch")
FUNCTION_DELETE = Access(scope=Scope.FUNCTIONS_WRITE, kind=FUNCTION, verb="delete")

DEPLOYMENT_GET = Access(scope=Scope.FUNCTIONS_READ, kind=DEPLOYMENT, verb="get")
DEPLOYMENT_LIST = Access(scope=Scope.FUNCTIONS_READ, kind=DEPLOYMENT, verb="list")
DEPLOYMENT_CREATE = Access(scope=Scope.FUNCTIONS_WRITE, kind=DEPLOYMENT, verb="create")
DEPLOYMENT_UPDATE = Access(scope=Scope.FUNCTIONS_WRITE, kind=DEPLOYMENT, verb="patch")
DEPLOYMENT_DELETE = Access(scope=Scope.FUNCTIONS_WRITE, kind=DEPLOYMENT, verb="delete")

RUNTIME_LIST = Access(scope=Scope.FUNCTIONS_READ, kind=RUNTIME, verb="list")
