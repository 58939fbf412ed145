"""What the API answers when it does not do what was asked: Appwrite's error types, statuses and bodies."""

from enum import Enum

from appfn.api.base import Json
from appfn.errors import ForbiddenError, IdempotencyError, QueueFullError, TransientError
from appfn.store.model import CursorError

APPWRITE_VERSION = "1.9.6"
"""The Appwrite release whose API is spoken to clients that name no response format."""
_NO_RIGHTS = "The shim has no rights in the project's namespace: apply manifests/project to it."
_RETRY_SECONDS = 2


class Problem(Enum):
    """Every error type: word for machines, HTTP status, default message.

    Types that Appwrite does not have: `execution_idempotency_conflict`, `general_payload_too_large`,
    `general_field_managed`, and those of the internal API, which begin with `internal_`.
    """

    ARGUMENT_INVALID = "general_argument_invalid", 400, "The request contains one or more invalid arguments."
    BAD_REQUEST = "general_bad_request", 400, "There was an error processing your request. Please check its parameters."
    QUERY_INVALID = "general_query_invalid", 400, "The query's syntax is invalid."
    CURSOR_NOT_FOUND = "general_cursor_not_found", 400, "The cursor is invalid: no such execution."
    ROUTE_NOT_FOUND = "general_route_not_found", 404, "The requested route was not found."
    UNAUTHORIZED_SCOPE = "general_unauthorized_scope", 401, "The caller lacks the scope this route needs."
    RATE_LIMIT_EXCEEDED = (
        "general_rate_limit_exceeded",
        429,
        "Rate limit for the current endpoint has been exceeded. Please try again after some time.",
    )
    ACCESS_FORBIDDEN = "general_access_forbidden", 401, "Access to this API is forbidden."
    UNKNOWN_ORIGIN = "general_unknown_origin", 403, "The request originated from an unknown origin."
    NOT_IMPLEMENTED = "general_not_implemented", 405, "This method is not part of appfn."
    FIELD_MANAGED = "general_field_managed", 409, "Somebody else manages what you want to change."
    PAYLOAD_TOO_LARGE = "general_payload_too_large", 413, "The request's body is too large."
    SERVER_ERROR = "general_server_error", 500, "Server Error"
    SERVICE_DISABLED = "general_service_disabled", 503, "The service cannot answer now. Please try again."

    GRAPHQL_NO_QUERY = "graphql_no_query", 400, "Param `query` is not optional."
    GRAPHQL_TOO_MANY_QUERIES = "graphql_too_many_queries", 400, "Too many queries."

    JWT_INVALID = "user_jwt_invalid", 401, "Failed to verify JWT. The token is not valid here or has expired."
    USER_UNAUTHORIZED = "user_unauthorized", 401, "The caller is not authorized to perform the requested action."

    PROJECT_NOT_FOUND = "project_not_found", 404, "Project with the requested ID could not be found."
    PROJECT_UNKNOWN = "project_unknown", 400, "No project ID was given: set the header X-Appwrite-Project."
    PROJECT_KEY_EXPIRED = "project_key_expired", 401, "The project key has expired. Please create a new one."

    FUNCTION_NOT_FOUND = "function_not_found", 404, "Function with the requested ID could not be found."
    FUNCTION_ALREADY_EXISTS = (
        "function_already_exists",
        409,
        "Function with the requested ID already exists. Try again with a different ID or use ID.unique().",
    )
    ENTRYPOINT_MISSING = "function_entrypoint_missing", 404, "Entrypoint is missing. Please add one and try again."
    VARIABLE_NOT_FOUND = "variable_not_found", 404, "Variable with the requested ID could not be found."
    VARIABLE_ALREADY_EXISTS = (
        "variable_already_exists",
        409,
        "Variable with the same ID already exists in this project.",
    )
    VARIABLE_CANNOT_UNSET_SECRET = (
        "variable_cannot_unset_secret",
        400,
        "Secret variables cannot be marked as non-secret. Please re-create the variable with a new value.",
    )
    TEMPLATE_NOT_FOUND = (
        "function_template_not_found",
        404,
        "Function Template with the requested ID could not be found.",
    )
    FILE_EMPTY = "storage_file_empty", 400, "Empty file passed to the endpoint."
    FILE_TYPE_UNSUPPORTED = "storage_file_type_unsupported", 400, "The given file extension is not supported."
    INVALID_CONTENT_RANGE = "storage_invalid_content_range", 400, "The content range is invalid. Check Content-Range."
    INVALID_FILE_SIZE = "storage_invalid_file_size", 400, "The file size is either not valid or exceeds the maximum."
    INVALID_FILE = "storage_invalid_file", 403, "The uploaded file is invalid. Please check the file and try again."
    INVALID_RANGE = "storage_invalid_range", 416, "The requested range is not satisfiable."
    RUNTIME_UNSUPPORTED = "function_runtime_unsupported", 404, "The requested runtime is not supported."
    SYNCHRONOUS_TIMEOUT = "function_synchronous_timeout", 408, "Synchronous function execution timed out."
    DEPLOYMENT_NOT_FOUND = "deployment_not_found", 404, "Deployment with the requested ID could not be found."
    BUILD_NOT_FOUND = "build_not_found", 404, "Build with the requested ID could not be found."
    BUILD_NOT_READY = (
        "build_not_ready",
        400,
        "Build with the requested ID is building and not ready for execution.",
    )
    BUILD_IN_PROGRESS = "build_in_progress", 400, "Build with the requested ID is already in progress. Please wait."
    BUILD_ALREADY_COMPLETED = "build_already_completed", 400, "Build with the requested ID is already completed."
    BUILD_CANCELED = "build_canceled", 400, "Build with the requested ID has been canceled."
    EXECUTION_IN_PROGRESS = "execution_in_progress", 400, "Can't delete ongoing execution. Please wait for its end."
    EXECUTION_NOT_FOUND = "execution_not_found", 404, "Execution with the requested ID could not be found."
    IDEMPOTENCY_CONFLICT = (
        "execution_idempotency_conflict",
        422,
        "This Idempotency-Key was used before with another request. Use a new key for a new request.",
    )

    INTERNAL_UNAUTHENTICATED = "internal_unauthenticated", 401, "No valid ServiceAccount token was given."
    INTERNAL_FORBIDDEN = "internal_forbidden", 403, "This ServiceAccount may not do this."
    INTERNAL_NOT_FOUND = "internal_not_found", 404, "There is no such object."
    INTERNAL_DIGEST_MISMATCH = "internal_digest_mismatch", 422, "The bytes do not have the digest given."

    def __init__(self, type_: str, status: int, message: str) -> None:
        self.type = type_
        self.status = status
        self.message = message


class AppwriteError(Exception):
    """A request that is answered with an error body.

    Attributes:
        problem: which.
        message: for people; the problem's own where None was given.
        retry_after: whole seconds for the header Retry-After, if the same request may succeed later.
    """

    def __init__(self, problem: Problem, message: str | None = None, *, retry_after: int | None = None) -> None:
        super().__init__(message or problem.message)
        self.problem = problem
        self.message = message or problem.message
        self.retry_after = retry_after

    @property
    def body(self) -> Json:
        """The JSON body, as every Appwrite SDK reads it."""
        return {
            "message": self.message,
            "code": self.problem.status,
            "type": self.problem.type,
            "version": APPWRITE_VERSION,
        }

    @property
    def headers(self) -> dict[str, str]:
        """Headers beside Content-Type: never cached, when to come back."""
        headers = {"Cache-Control": "no-cache, no-store, must-revalidate", "Expires": "0", "Pragma": "no-cache"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return headers


def invalid_argument(name: str, reason: str) -> AppwriteError:
    """Return the error for a parameter that can't be used, worded as Appwrite's own."""
    return AppwriteError(Problem.ARGUMENT_INVALID, f"Invalid `{name}` param: {reason}")


def error_of(error: Exception) -> AppwriteError:
    """Return what a client is told of an error; what is not meant for it is a general_server_error."""
    match error:
        case AppwriteError():
            return error
        case QueueFullError():
            message = f"{Problem.RATE_LIMIT_EXCEEDED.message} {error}"
            return AppwriteError(Problem.RATE_LIMIT_EXCEEDED, message, retry_after=_whole(error.retry_after))
        case IdempotencyError():
            return AppwriteError(Problem.IDEMPOTENCY_CONFLICT)
        case CursorError():
            return AppwriteError(Problem.CURSOR_NOT_FOUND)
        case ForbiddenError():
            return AppwriteError(Problem.SERVICE_DISABLED, _NO_RIGHTS)
        case TransientError():
            return AppwriteError(Problem.SERVICE_DISABLED, retry_after=_whole(error.retry_after or _RETRY_SECONDS))
        case _:
            return AppwriteError(Problem.SERVER_ERROR)


def _whole(seconds: float) -> int:
    return max(1, -int(-seconds // 1))
