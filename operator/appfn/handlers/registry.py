"""What kopf watches for the operator, and how. With `watching`, the only importer of kopf.

kopf is used for its watch streams alone: `on.event` handlers, which keep no state on the objects. Nothing here makes
kopf write: no finalizers, no annotations, no events.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import kopf

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import CRON_JOB, DEPLOYMENT, EXECUTION, FUNCTION, JOB, NAMESPACE, NODE, POD, POOL, RUNTIME, Kind
from appfn.core.manifests import pool
from appfn.core.manifests.meta import selector
from appfn.kube.client import Connection

_OURS = f"{names.MANAGED_BY}={names.MANAGER}"
_BUILDS = f"{_OURS},{names.LABEL_COMPONENT}={names.COMPONENT_BUILD}"
_POOLS = selector(pool.LABELS)
_REQUEST_SECONDS = 30.0
_SERVER_SECONDS = 300  # whole: kopf writes it into the query as it is, and the API server refuses "300.0"
_CLIENT_SECONDS = 310.0
"""A little longer than the server's, so that it is the server that ends a watch."""
_RETRY_SECONDS = 10.0
_BACKOFFS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Between kopf's tries of one request; then it ends. An API server that is away for longer has cost us the Lease."""
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A kind to watch in all namespaces; `labels` is a selector that the server applies."""

    kind: Kind
    labels: str = ""


WATCHED = (
    Watched(kind=FUNCTION),
    Watched(kind=DEPLOYMENT),
    Watched(kind=EXECUTION, labels=f"!{names.LABEL_MIRRORED}"),
    Watched(kind=RUNTIME),
    Watched(kind=JOB, labels=_BUILDS),
    Watched(kind=POD, labels=_BUILDS),
    Watched(kind=CRON_JOB, labels=_OURS),
    Watched(kind=POOL, labels=_POOLS),
    Watched(kind=NODE),
    Watched(kind=NAMESPACE),
)


class Listener(Protocol):
    """Is told what kopf sees."""

    def __call__(self, kind: Kind, body: Json, *, listed: bool, gone: bool) -> None:
        """Take note of an object: found in a list, changed, or gone (then as last seen). Must not block."""


def registry(listener: Listener, connection: Callable[[], Awaitable[Connection]]) -> kopf.OperatorRegistry:
    """Return handlers that tell the listener about every event of WATCHED, logged in as `connection` says."""
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers, id="login")(_login(connection))
    for watched in WATCHED:
        kind = watched.kind
        id_ = f"watch-{kind.plural}.{kind.group}"  # deployments are of two groups
        decorate = kopf.on.event(kind.group, kind.version, kind.plural, registry=handlers, id=id_)
        decorate(_handler(kind, listener))
    return handlers


def settings() -> kopf.OperatorSettings:
    """Return settings under which kopf watches and does nothing else."""
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True  # the Lease decides who works
    chosen.scanning.disabled = True  # our kinds exist before kopf starts; no list of all CRDs and namespaces
    chosen.posting.enabled = False
    chosen.posting.level = logging.WARNING
    chosen.networking.request_timeout = _REQUEST_SECONDS
    chosen.networking.error_backoffs = _BACKOFFS
    chosen.execution.default_backoff = _RETRY_SECONDS
    chosen.watching.chunk_size = _PAGE
    chosen.watching.server_timeout = _SERVER_SECONDS
    chosen.watching.client_timeout = _CLIENT_SECONDS
    chosen.queueing.exit_timeout = 1.0
    chosen.process.ultimate_exiting_timeout = None  # the kubelet's grace period does that
    for watched in WATCHED:
        if watched.labels:
            kind = watched.kind
            chosen.watching.label_selectors[kind.group, kind.version, kind.plural] = watched.labels
    return chosen


def _handler(kind: Kind, listener: Listener) -> Callable[..., Awaitable[None]]:
    async def handle(event: Any, **_kwargs: Any) -> None:  # kopf's signature
        listener(kind, event["object"], listed=event["type"] is None, gone=event["type"] == "DELETED")

    return handle


def _login(connection: Callable[[], Awaitable[Connection]]) -> Callable[..., Awaitable[kopf.ConnectionInfo]]:
    """Kopf asks again when its token is refused, so a token that was renewed meanwhile is picked up."""

    async def login(**_kwargs: Any) -> kopf.ConnectionInfo:
        found = await connection()
        scheme, _space, token = found.authorization.partition(" ")
        return kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path or None,
            certificate_path=found.certificate_path or None,
            private_key_path=found.key_path or None,
            scheme=scheme if token else None,
            token=token or None,
        )

    return login
