"""All configuration: one frozen typed tree, read once from the environment.

Each field's metadata names its variable; its docstring gives unit and meaning. `load` reports every error at once.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, get_type_hints

from appfn.errors import ConfigError

SYSTEM_NAMESPACE = "appfn-system"
"""Where operator and shim live, unless said otherwise."""
MAX_PROCESSES = 32
"""Processes of one shim at most."""


def _env(
    name: str,
    default: Any = MISSING,
    *,
    low: float | None = None,
    high: float | None = None,
    secret: bool = False,
) -> Any:
    """Declare a field read from APPFN_<name>; without a default it is required; `low`, `high`: what is allowed."""
    metadata = {"env": f"APPFN_{name}", "low": low, "high": high}
    if default is MISSING:
        return field(metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonConfig:
    """What every process needs."""

    namespace: str = _env("NAMESPACE", SYSTEM_NAMESPACE)
    """The system namespace: where operator, shim and their Secrets live."""
    log_level: str = _env("LOG_LEVEL", "INFO")
    """Name of a level of `logging`."""
    image: str = _env("IMAGE")
    """appfn's own image: what agent and trigger containers run."""
    shim_url: str = _env("SHIM_URL", "http://appfn-shim.appfn-system.svc")
    """Base URL of the shim as pods of projects and the operator reach it, without a trailing slash."""
    kubeconfig: str = _env("KUBECONFIG", "")
    """Path of a kubeconfig; empty: the pod's own ServiceAccount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorConfig:
    """The operator."""

    identity: str = _env("POD_NAME", "operator")
    """Holder identity in the Lease."""
    token_path: str = _env("TOKEN_PATH", "/var/run/secrets/appfn/token")
    """File with the ServiceAccount token (audience `appfn`) that the shim knows the operator by."""
    health_port: int = _env("HEALTH_PORT", 8080, low=0)
    """Port of /healthz, /readyz and /metrics; 0 picks a free one."""
    workers: int = _env("WORKERS", 8, low=1)
    """Reconciles at once."""
    lease_seconds: float = _env("LEASE_SECONDS", 15.0, low=1)
    """A replica that has not renewed its Lease for so long is taken over."""
    resync_seconds: float = _env("RESYNC_SECONDS", 600.0, low=1)
    """Pause between two sweeps that look at every object again, in case an event was missed."""
    build_seconds: int = _env("BUILD_SECONDS", 900, low=1)
    """A build that takes longer fails."""
    build_memory: str = _env("BUILD_MEMORY", "1Gi")
    """Memory limit of a build command (Kubernetes quantity)."""
    build_cpu: str = _env("BUILD_CPU", "1")
    """CPU limit of a build command (Kubernetes quantity)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShimConfig:
    """The shim."""

    replica: str = _env("POD_NAME", "shim")
    """Name of this replica, stable over a restart; runtime pods carry it as a label."""
    pod_ip: str = _env("POD_IP", "")
    """Address at which runtime pods reach this very process; empty: they announce themselves at `shim_url`."""
    operator_user: str = _env("OPERATOR_USER", "system:serviceaccount:appfn-system:appfn-operator")
    """Username of the operator in TokenReviews."""
    host: str = _env("HOST", "0.0.0.0")  # noqa: S104 - a pod is reached by its own address
    """Address to listen on."""
    port: int = _env("PORT", 8080, low=0)
    """Port to listen on; 0 picks a free one."""
    metrics_port: int = _env("METRICS_PORT", 9090, low=0)
    """Port of /metrics, which names every project and function that is called; 0 picks a free one."""
    processes: int = _env("PROCESSES", 1, low=1, high=MAX_PROCESSES)
    """Worker processes that serve the port together, as one shim: more than one uses more than one core."""
    process_index: int = _env("PROCESS_INDEX", -1, low=-1)
    """Which of several processes this is; set by the one that starts them, -1 in that one."""
    sockets_dir: str = _env("SOCKETS_DIR", "")
    """Folder of the sockets by which the processes reach each other; set as `process_index` is."""
    database_url: str = _env("DATABASE_URL", "sqlite+aiosqlite:////data/executions.db", secret=True)
    """SQLAlchemy URL: `sqlite+aiosqlite:///…` or `postgresql+asyncpg://…`."""
    artifacts_url: str = _env("ARTIFACTS_URL", "file:///data/artifacts")
    """obstore URL of the artifact store."""
    cache_dir: str = _env("CACHE_DIR", "/data/cache")
    """Folder for files being uploaded and artifacts being served."""
    retention_days: float = _env("RETENTION_DAYS", 14.0, low=0)
    """Finished executions older than this are deleted."""
    flush_seconds: float = _env("FLUSH_SECONDS", 0.05, low=0)
    """Longest time the record of a sync execution waits for its group commit."""
    lease_seconds: float = _env("EXECUTION_LEASE_SECONDS", 15.0, low=1)
    """A worker that has not renewed its lease for so long is taken for dead."""
    queue_limit: int = _env("QUEUE_LIMIT", 1000, low=1)
    """Async executions of one function that may wait in the store; beyond, 429."""
    sync_queue_limit: int = _env("SYNC_QUEUE_LIMIT", 100, low=1)
    """Calls of one function that may wait for a pod, each with a client behind it; beyond, 429.

    As many as the function can run at once may wait in any case.
    """
    max_requests: int = _env("MAX_REQUESTS", 1024, low=1)
    """Requests under way at once in a process; calls beyond are answered 429, so that memory is bounded."""
    async_concurrency: int = _env("ASYNC_CONCURRENCY", 64, low=1)
    """Async executions one replica runs at once."""
    pod_start_seconds: float = _env("POD_START_SECONDS", 60.0, low=1)
    """A runtime pod that does not serve so long after its creation is given up."""
    drain_seconds: float = _env("DRAIN_SECONDS", 30.0, low=0)
    """On SIGTERM, how long running executions may take to finish."""
    max_payload_bytes: int = _env("MAX_PAYLOAD_BYTES", 10_485_760, low=1)
    """Largest body of an API request, the data for a function in it (Appwrite's 10 MB)."""
    max_bodies_bytes: int = _env("MAX_BODIES_BYTES", 134_217_728, low=1)
    """Bodies of all API requests under way, together; beyond, 429. Each takes about four times its size in memory."""
    max_artifact_bytes: int = _env("MAX_ARTIFACT_BYTES", 268_435_456, low=1)
    """Largest artifact accepted."""
    max_source_bytes: int = _env("MAX_SOURCE_BYTES", 30_000_000, low=1)
    """Largest uploaded source tarball (Appwrite's _APP_FUNCTIONS_SIZE_LIMIT)."""
    rate_limit: int = _env("RATE_LIMIT", 60, low=0)
    """Executions that a guest or user at one address may ask for in a minute, and GraphQL likewise; 0: any number."""
    trusted_proxies: str = _env("TRUSTED_PROXIES", "")
    """Networks, separated by commas, whose X-Forwarded-For is believed, such as that of an ingress: 10.0.0.0/8."""
    oidc_trusted: str = _env("OIDC_TRUSTED", "")
    """Origins of OIDC issuers, separated by commas, that may be plain http or at private addresses: https://dex.auth.svc."""
    max_uploads: int = _env("MAX_UPLOADS", 20, low=1)
    """Uploads in several parts that a project may have begun and not ended; beyond, 429."""
    max_uploads_bytes: int = _env("MAX_UPLOADS_BYTES", 300_000_000, low=1)
    """What these may come to when they are whole; beyond, 429."""
    upload_hours: float = _env("UPLOAD_HOURS", 24.0, low=0)
    """An upload to which nothing was added for so long is forgotten."""
    max_spool_bytes: int = _env("MAX_SPOOL_BYTES", 1_073_741_824, low=1)
    """Forms with files under way, together, on the disk below `cache_dir`; beyond, 429."""
    graphql_batch_size: int = _env("GRAPHQL_MAX_BATCH_SIZE", 10, low=1)
    """GraphQL queries of one request."""
    graphql_depth: int = _env("GRAPHQL_MAX_DEPTH", 3, low=1)
    """Levels of objects below an operation of a GraphQL query."""
    graphql_complexity: int = _env("GRAPHQL_MAX_COMPLEXITY", 250, low=1)
    """Fields of a GraphQL query, those of a list as often as it may have items."""
    graphql_introspection: int = _env("GRAPHQL_INTROSPECTION", 0, low=0, high=1)
    """1: clients may ask for GraphQL's schema, as tools for development do; 0: they may not."""
    auth_cache_seconds: float = _env("AUTH_CACHE_SECONDS", 30.0, low=0)
    """How long a verified key or token is believed without asking again; the bound on revocation."""
    variable_cache_seconds: float = _env("VARIABLE_CACHE_SECONDS", 10.0, low=0)
    """How long the value of a Secret or ConfigMap a variable refers to is used without reading it again.

    Values that come by Appwrite's API hold for the next call whatever this is.
    """

    @property
    def is_child(self) -> bool:
        """Tell whether this process is one of several, started by their supervisor."""
        return self.process_index >= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole tree."""

    common: CommonConfig
    operator: OperatorConfig
    shim: ShimConfig


def load(environ: Mapping[str, str]) -> Config:
    """Read the tree from an environment.

    Raises:
        ConfigError: naming every variable that is missing or cannot be used.
    """
    errors: list[str] = []
    parts = {name: _section(type_, environ, errors) for name, type_ in get_type_hints(Config).items()}
    if errors:
        raise ConfigError("; ".join(dict.fromkeys(errors)))
    return Config(**parts)


def _section(type_: type, environ: Mapping[str, str], errors: list[str]) -> Any:
    hints = get_type_hints(type_)
    values: dict[str, Any] = {}
    for item in fields(type_):
        try:
            values[item.name] = _value(item, hints[item.name], environ)
        except ValueError as error:
            errors.append(f"{item.metadata['env']}: {error}")
    return None if errors else type_(**values)


def _value(item: Field[Any], type_: type, environ: Mapping[str, str]) -> Any:
    raw = environ.get(item.metadata["env"])
    if raw is None or raw == "":
        if item.default is MISSING:
            raise ValueError("is required")
        return item.default
    try:
        value = type_(raw)
    except ValueError:
        kind = "a whole number" if type_ is int else "a number"
        raise ValueError(f"must be {kind}, not {raw!r}") from None
    low = item.metadata["low"]
    if low is not None and value < low:
        raise ValueError(f"must be at least {low:g}, not {raw}")
    high = item.metadata["high"]
    if high is not None and value > high:
        raise ValueError(f"must be at most {high:g}, not {raw}")
    return value
