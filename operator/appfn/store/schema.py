"""Tables and indexes, and how a database comes to have them."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    insert,
    inspect,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.types import TypeDecorator

from appfn.errors import ConfigError

Migration = Callable[[Connection], None]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LOCK = 0x6170_7066_6E
"""Of PostgreSQL's advisory locks: replicas that start together make the schema one after the other."""


def microseconds(moment: datetime) -> int:
    """Return a moment as the databases hold it."""
    return (moment - _EPOCH) // _MICROSECOND


class Instant(TypeDecorator[datetime]):
    """A moment as microseconds since 1970: one meaning, order and precision in both databases."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002, D102 - inherited
        return None if value is None else microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002, D102 - inherited
        return None if value is None else _EPOCH + value * _MICROSECOND


METADATA = MetaData()

EXECUTIONS = Table(
    "executions",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("function", Text, nullable=False),
    Column("function_uid", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("status_code", Integer, nullable=False, default=0),
    Column("attempt", Integer, nullable=False, default=0),
    Column("max_attempts", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("available_at", Instant, nullable=False),
    Column("scheduled_at", Instant),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    Column("worker", Text),
    Column("lease_until", Instant),
    Column("deployment", Text, nullable=False, default=""),
    Column("user_id", Text, nullable=False),
    Column("reader", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("idempotency_key", Text),
    Column("body_hash", Text, nullable=False),
    Column("duration", Float, nullable=False, default=0.0),
    Column("cold_start", Boolean, nullable=False, default=False),
    Column("times", JSON(none_as_null=True)),
    Column("failure", JSON(none_as_null=True)),
    Column("permissions", JSON, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("replay_of", Text, nullable=False, default="", server_default=""),
    Column("memory_mb", Integer, nullable=False, default=0, server_default="0"),
    # The long ones last: SQLite reads a row from its start and stops at the last column asked for.
    Column("jwt", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("event_data", Text, nullable=False),
    Column("stdout", Text, nullable=False, default=""),
    Column("stderr", Text, nullable=False, default=""),
    Column("response", Text, nullable=False, default=""),
)
"""Each execution is one row. `worker` and `lease_until` are set from claim on, `worker` stays when it has ended."""

_c = EXECUTIONS.c
# Literals, as neither database uses a partial index for a condition with a parameter in it.
IS_WAITING = _c.phase == literal_column("'waiting'")
IS_SCHEDULED = _c.phase == literal_column("'scheduled'")
IS_CLAIMABLE = and_(IS_WAITING, _c.worker.is_(None))
IS_LEASED = _c.lease_until.is_not(None)
HAS_READER = _c.reader != literal_column("''")
IS_UNUSUAL = _c.status_code != literal_column("200")


def _partial(name: str, *columns: Column[object], where: object) -> Index:
    return Index(name, *columns, sqlite_where=where, postgresql_where=where)


# The columns behind id let filters be judged without reading the rows.
Index(
    "executions_listing",
    *(_c.function_uid, _c.created_at, _c.id, _c.phase, _c.trigger, _c.status_code),
    *(_c.duration, _c.deployment, _c.method),
)
Index("executions_by_phase", _c.function_uid, _c.phase, _c.created_at, _c.id)
Index("executions_feed", _c.sequence)
Index("executions_finished", _c.finished_at)
_partial("executions_by_reader", _c.function_uid, _c.reader, _c.created_at, _c.id, where=HAS_READER)
_partial("executions_by_status", _c.function_uid, _c.status_code, _c.created_at, _c.id, where=IS_UNUSUAL)
_partial("executions_waiting", _c.function_uid, where=IS_WAITING)
_partial("executions_claimable", _c.function_uid, _c.available_at, _c.id, where=IS_CLAIMABLE)
_partial("executions_scheduled", _c.available_at, where=IS_SCHEDULED)
_partial("executions_delayed", _c.function_uid, where=IS_SCHEDULED)
_partial("executions_leased", _c.lease_until, where=IS_LEASED)
_partial("executions_ticks", _c.function_uid, _c.scheduled_at, where=_c.scheduled_at.is_not(None))

IDEMPOTENCY = Table(
    "idempotency",
    METADATA,
    Column("namespace", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("function_uid", Text, nullable=False, index=True),
    Column("execution_id", Text, nullable=False),
    Column("body_hash", Text, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
)

COUNTS = Table(
    "counts",
    METADATA,
    Column("function_uid", Text, primary_key=True),
    Column("total", BigInteger, nullable=False),
    Column("completed", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
)
"""Executions since a function was made."""

ALL_FUNCTIONS = ""
"""In place of a function's uid in USAGE: what all functions of the namespace used, those that are gone left out."""
USAGE = Table(
    "usage",
    METADATA,
    Column("namespace", Text, primary_key=True),
    Column("function_uid", Text, primary_key=True),
    Column("hour", Instant, primary_key=True),
    Column("completed", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("compute_ms", BigInteger, nullable=False),
    *(
        Column(name, BigInteger, nullable=False, default=0, server_default="0")
        for name in ("compute_mb_ms", "builds_ready", "builds_failed", "build_ms", "build_mb_ms")
    ),
    Index("usage_by_function", "function_uid"),
    Index("usage_by_hour", "hour"),
)

BUILDS = Table(
    "builds",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("hour", Instant, nullable=False, index=True),
)
"""The builds that USAGE counts, each once however often it is told of; kept as long as the hour they are counted in."""

DELETED = Table(
    "deleted",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("expires_at", Instant, nullable=False, index=True),
)
"""Executions that were deleted: what is still on its way to be stored about them, or repeats them, comes too late."""

FEED = Table("feed", METADATA, Column("sequence", BigInteger, nullable=False))
"""One row: the number of the last commit that changed an execution's phase.

Whoever commits such a change takes the row's lock first and holds it to the end of the transaction, in both databases.
So numbers become visible in their order: no reader can see a number and later find a smaller one behind its back.
"""

SCHEMA_VERSION = Table("schema_version", METADATA, Column("version", Integer, nullable=False))


def _index_for_filters(connection: Connection) -> None:
    connection.execute(text("DROP INDEX executions_listing"))
    connection.execute(
        text(
            "CREATE INDEX executions_listing ON executions"
            ' (function_uid, created_at, id, phase, "trigger", status_code, duration, deployment, method)'
        )
    )
    connection.execute(
        text(
            "CREATE INDEX executions_by_status ON executions"
            " (function_uid, status_code, created_at, id) WHERE status_code != 200"
        )
    )


_DELAYS_DELETIONS_USAGE = """
ALTER TABLE executions ADD COLUMN replay_of TEXT DEFAULT '' NOT NULL;
ALTER TABLE executions ADD COLUMN memory_mb INTEGER DEFAULT 0 NOT NULL;
ALTER TABLE usage ADD COLUMN compute_mb_ms BIGINT DEFAULT 0 NOT NULL;
ALTER TABLE usage ADD COLUMN builds_ready BIGINT DEFAULT 0 NOT NULL;
ALTER TABLE usage ADD COLUMN builds_failed BIGINT DEFAULT 0 NOT NULL;
ALTER TABLE usage ADD COLUMN build_ms BIGINT DEFAULT 0 NOT NULL;
ALTER TABLE usage ADD COLUMN build_mb_ms BIGINT DEFAULT 0 NOT NULL;
INSERT INTO usage (namespace, function_uid, hour, completed, failed, compute_ms)
SELECT namespace, '', hour, SUM(completed), SUM(failed), SUM(compute_ms) FROM usage GROUP BY namespace, hour;
CREATE INDEX executions_scheduled ON executions (available_at) WHERE phase = 'scheduled';
CREATE INDEX executions_delayed ON executions (function_uid) WHERE phase = 'scheduled';
CREATE TABLE builds (key TEXT NOT NULL PRIMARY KEY, hour BIGINT NOT NULL);
CREATE INDEX ix_builds_hour ON builds (hour);
CREATE TABLE deleted (id TEXT NOT NULL PRIMARY KEY, expires_at BIGINT NOT NULL);
CREATE INDEX ix_deleted_expires_at ON deleted (expires_at)
"""


def _delay_delete_and_bill(connection: Connection) -> None:
    for statement in _DELAYS_DELETIONS_USAGE.split(";"):
        connection.execute(text(statement))


MIGRATIONS: tuple[Migration, ...] = (_index_for_filters, _delay_delete_and_bill)
"""What takes a database of version n (counted from 1) to n + 1; a new database gets METADATA as it stands."""


def prepare(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Make the schema, or bring it up to date, in the transaction under way.

    Raises:
        ConfigError: when the database is of a newer appfn.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    newest = 1 + len(migrations)
    if not inspect(connection).has_table(SCHEMA_VERSION.name):
        METADATA.create_all(connection)
        connection.execute(insert(FEED).values(sequence=0))
        connection.execute(insert(SCHEMA_VERSION).values(version=newest))
        return
    version = connection.execute(select(SCHEMA_VERSION.c.version)).scalar_one()
    if version > newest:
        raise ConfigError(
            f"APPFN_DATABASE_URL: the database has schema version {version}, this appfn knows {newest}: "
            "run the newer appfn again, or give it another database",
        )
    for migrate in migrations[version - 1 :]:
        migrate(connection)
    if version < newest:
        connection.execute(update(SCHEMA_VERSION).values(version=newest))
