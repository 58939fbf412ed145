"""Values the store takes and gives besides those of `core.records`."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto

from appfn.api.execution import ExecutionPhase
from appfn.core.records import ExecutionRecord, Origin
from appfn.errors import AppfnError

KEY_LIFETIME = timedelta(hours=24)
"""How long an idempotency key, and that an execution was deleted, is remembered."""
MAX_TOTAL = 5000
"""Where the count of a list stops: Appwrite's documented bound, and ours on the work of counting."""

_INT32 = 2**31


class CursorError(AppfnError):
    """The execution a page was to start at is not there (any more)."""


class Field(StrEnum):
    """What a list of executions can be filtered by."""

    PHASE = "phase"
    TRIGGER = "trigger"
    STATUS_CODE = "status_code"
    DURATION = "duration"
    """Seconds."""
    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    ID = "id"
    DEPLOYMENT = "deployment"
    METHOD = "method"
    PATH = "path"

    @property
    def type(self) -> type[str | float | datetime]:
        """The type its values must have; a float takes an int too."""
        match self:
            case Field.STATUS_CODE:
                return int
            case Field.DURATION:
                return float
            case Field.CREATED_AT | Field.UPDATED_AT:
                return datetime
            case Field.PHASE | Field.TRIGGER | Field.ID | Field.DEPLOYMENT | Field.METHOD | Field.PATH:
                return str


class Comparison(StrEnum):
    """How a field is compared; with several values EQUAL means one of them and NOT_EQUAL none of them."""

    EQUAL = "equal"
    NOT_EQUAL = "notEqual"
    LESS = "lessThan"
    LESS_EQUAL = "lessThanEqual"
    GREATER = "greaterThan"
    GREATER_EQUAL = "greaterThanEqual"


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on a list; all of a query's filters must hold.

    Raises:
        ValueError: when a value cannot be compared with the field; the message is fit for the caller.
    """

    field: Field
    comparison: Comparison
    values: tuple[str | float | datetime, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"{self.field}: needs at least one value")
        several = self.comparison in {Comparison.EQUAL, Comparison.NOT_EQUAL}
        if len(self.values) > 1 and not several:
            raise ValueError(f"{self.field}: {self.comparison} takes one value")
        for value in self.values:
            self._check(value)

    def _check(self, value: str | float | datetime) -> None:
        wanted = self.field.type
        fits = isinstance(value, (int, float) if wanted is float else wanted) and not isinstance(value, bool)
        if not fits:
            raise ValueError(f"{self.field}: {value!r} is not of type {wanted.__name__}")
        if isinstance(value, int) and not -_INT32 <= value < _INT32:
            raise ValueError(f"{self.field}: {value} is out of range")
        if isinstance(value, datetime) and value.tzinfo is None:
            raise ValueError(f"{self.field}: {value} has no time zone")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionQuery:
    """Which executions of one function to list, and which page of them.

    What is alike in `order`, such as all of one status, is in the order of acceptance (`created_at`, then id).
    """

    namespace: str
    function_uid: str
    filters: tuple[Filter, ...] = ()
    search: str = ""
    """Text that must be in the execution's id."""
    reader: str | None = None
    """Id of the user asking: only executions with `read("user:<id>")` are seen. None: all (keys, in-cluster)."""
    limit: int = 25
    offset: int = 0
    after: str | None = None
    """Id of the execution before the first one wanted, in the order asked for."""
    before: str | None = None
    """Id of the execution behind the last one wanted; not together with `after`."""
    order: Field = Field.CREATED_AT
    """Of others than CREATED_AT all that match are looked at: about a second for a million executions."""
    descending: bool = True
    """Newest, or greatest, first."""
    count: bool = True
    """False: the total is 0."""
    text_limit: int | None = None
    """Characters after which what a function was given, response, stdout and stderr are cut; None: whole.

    A page of whole ones may be more than a gigabyte.
    """


@dataclass(frozen=True, slots=True)
class ExecutionPage:
    """A page of a list."""

    executions: tuple[ExecutionRecord, ...]
    total: int
    """How many match in all pages, counted up to MAX_TOTAL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Executions of a function reached a phase. Only the newest change of each execution is in the feed."""

    sequence: int
    namespace: str
    function: str
    function_uid: str
    execution: str
    """Its id, where an Execution resource asked for it; else empty, and the change stands for all like it."""
    origin: Origin
    phase: ExecutionPhase


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes in order, and where to go on."""

    next: int
    """The `after` of the next read."""
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick of a schedule that was accepted."""

    scheduled_at: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was done in a span of time (UTC), by the time executions and builds ended."""

    start: datetime
    completed: int
    failed: int
    compute_ms: int
    """Sum of the functions' own run times."""
    compute_mb_ms: int = 0
    """Sum of each run time multiplied with the memory of the function's pods (MiB) at the time."""
    builds_ready: int = 0
    builds_failed: int = 0
    build_ms: int = 0
    """Sum of the builds' times, one after the other however many ran at once."""
    build_mb_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedBuild:
    """A build for one architecture that came to an end."""

    key: str
    """Tells it from every other build: what is told twice counts once."""
    namespace: str
    function_uid: str
    ended_at: datetime
    seconds: float
    memory_mb: int
    """Memory it was allowed, in MiB."""
    ready: bool


class Deletion(Enum):
    """What became of an execution that was to be deleted."""

    DONE = auto()
    MISSING = auto()
    """There is none."""
    IN_PROGRESS = auto()
    """It waits for its turn or runs, and was left as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped:
    """What became of executions whose lease ran out."""

    requeued: int = 0
    """Not begun: wait again."""
    retried: int = 0
    """Begun, attempts left: wait again."""
    lost: int = 0
    """Begun, no attempt left: failed with reason ExecutorLost."""
