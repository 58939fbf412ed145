"""The errors that cross a boundary, and what each asks of whoever catches it."""


class AppfnError(Exception):
    """Base of every error of appfn's own."""


class InvalidSpecError(AppfnError):
    """The user's spec is wrong and stays so until it is edited: terminal, never retried.

    Attributes:
        path: where, as `spec.source.http.sha256`.
        message: what is wrong there and what to do.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


class TransientError(AppfnError):
    """The other side cannot answer now; the same call may succeed later.

    Attributes:
        retry_after: seconds the other side asked to wait, if it did.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ConflictError(AppfnError):
    """Somebody else changed or holds the object: gather again, then decide again."""


class ForbiddenError(AppfnError):
    """RBAC or admission refuses us: a person has to act, the message says how."""


class RejectedError(AppfnError):
    """The API server refuses what we sent as invalid (422): our bug or the user's spec, never a matter of time."""


class ConfigError(AppfnError):
    """The environment holds values that cannot be used; carries all of them at once."""


class IdempotencyError(AppfnError):
    """An idempotency key came again with another body."""


class QueueFullError(AppfnError):
    """No room to accept one more execution.

    Attributes:
        retry_after: seconds after which to try again.
    """

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after
