"""The parts of a running shim: made in order when the application starts, closed in reverse when it stops.

Each is an entry of the application under a typed key; routes take what they need from there.
"""

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from aiohttp import web

from appfn.config import Config, ShimConfig
from appfn.core.quantity import mebibytes
from appfn.core.shares import Part
from appfn.dispatch.dispatcher import ArtifactSource, Dispatcher, Place
from appfn.shim import master_key
from appfn.shim.artifact_cache import ArtifactCache
from appfn.shim.auth.authenticator import Authenticator
from appfn.shim.auth.issuers import Issuers
from appfn.shim.auth.users import Users
from appfn.shim.auth.web_documents import WebDocuments
from appfn.shim.bodies import BodyRoom
from appfn.shim.catalog import Catalog
from appfn.shim.drain import Drain
from appfn.shim.events.delivery import Delivery
from appfn.shim.events.own import OwnEvents
from appfn.shim.events.webhook import Webhooks
from appfn.shim.executor import Endings, Executor
from appfn.shim.housekeeping import Housekeeping
from appfn.shim.ledger import Ledger
from appfn.shim.leftovers import Leftovers
from appfn.shim.metrics import Metrics
from appfn.shim.ports import Invoker, ShimCluster
from appfn.shim.rate_limit import RateLimit
from appfn.shim.rollouts import Rollouts
from appfn.shim.siblings import Siblings
from appfn.shim.targets import Targets
from appfn.shim.variables import VariableResolver
from appfn.shim.worker import Worker
from appfn.store.artifacts import ArtifactStore
from appfn.store.executions import ExecutionStore
from appfn.store.uploads import UploadStore

_BOOT_BYTES = 4
_utc_now = partial(datetime.now, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an application is put into: everything a test may want to replace."""

    config: Config
    cluster: ShimCluster
    make_invoker: "Callable[[Surroundings, ArtifactSource, bytes], AbstractAsyncContextManager[Invoker]]"
    now: Callable[[], datetime] = _utc_now
    monotonic: Callable[[], float] = time.monotonic
    random_bytes: Callable[[int], bytes] = secrets.token_bytes


SURROUNDINGS = web.AppKey("surroundings", Surroundings)
CONFIG = web.AppKey("config", ShimConfig)
DRAIN = web.AppKey("drain", Drain)
BODIES = web.AppKey("bodies", BodyRoom)
SPOOL_ROOM = web.AppKey("spool_room", BodyRoom)
"""Bytes of forms with files that are under way, on the disk."""
METRICS = web.AppKey("metrics", Metrics)
RATE_LIMIT = web.AppKey("rate_limit", RateLimit)
SIBLINGS = web.AppKey("siblings", Siblings)
STORE = web.AppKey("store", ExecutionStore)
ARTIFACTS = web.AppKey("artifacts", ArtifactStore)
UPLOADS = web.AppKey("uploads", UploadStore)
ARTIFACT_CACHE = web.AppKey("artifact_cache", ArtifactCache)
CATALOG = web.AppKey("catalog", Catalog)
MASTER_KEY = web.AppKey("master_key", bytes)
USERS = web.AppKey("users", Users)
AUTH = web.AppKey("auth", Authenticator)
RESOLVER = web.AppKey("resolver", VariableResolver)
INVOKER: web.AppKey[Invoker] = web.AppKey("invoker")
EXECUTOR = web.AppKey("executor", Executor)
WORKER = web.AppKey("worker", Worker)
WEBHOOKS = web.AppKey("webhooks", Webhooks)
DELIVERY = web.AppKey("delivery", Delivery)


def make_dispatcher(
    surroundings: Surroundings, artifacts: ArtifactSource, key: bytes
) -> AbstractAsyncContextManager[Invoker]:
    """Return the dispatcher of runtime pods."""
    return Dispatcher(
        cluster=surroundings.cluster,
        watcher=surroundings.cluster,
        artifacts=artifacts,
        master_key=key,
        config=surroundings.config.shim,
        place=Place(
            namespace=surroundings.config.common.namespace,
            image=surroundings.config.common.image,
            announce_url=_own_url(surroundings.config),
        ),
    )


def _own_url(config: Config) -> str:
    """Return where this very process is reached; where it does not know its address, any replica may be asked."""
    host, port = config.shim.pod_ip, config.shim.port
    if not host:
        return config.common.shim_url
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def siblings(app: web.Application) -> AsyncIterator[None]:
    """Reach the other processes of this shim."""
    config = app[CONFIG]
    async with Siblings.open(Part.of(config), Path(config.sockets_dir)) as opened:
        app[SIBLINGS] = opened
        yield


async def store(app: web.Application) -> AsyncIterator[None]:
    """Open the execution store; flush and close it last of all."""
    config = app[CONFIG]
    now = app[SURROUNDINGS].now
    async with ExecutionStore.open(config.database_url, now=now, flush_seconds=config.flush_seconds) as opened:
        app[STORE] = opened
        yield


async def artifacts(app: web.Application) -> AsyncIterator[None]:
    """Open the artifact store."""
    config = app[CONFIG]
    async with ArtifactStore.open(config.artifacts_url, spool=Path(config.cache_dir)) as opened:
        app[ARTIFACTS], app[ARTIFACT_CACHE], app[UPLOADS] = opened, ArtifactCache(opened), UploadStore(opened)
        yield


async def catalog(app: web.Application) -> AsyncIterator[None]:
    """Watch the cluster."""
    surroundings = app[SURROUNDINGS]
    namespace = surroundings.config.common.namespace
    part = Part.of(app[CONFIG])
    async with Catalog.open(surroundings.cluster, system_namespace=namespace, part=part) as opened:
        app[CATALOG] = opened
        yield


async def keys(app: web.Application) -> AsyncIterator[None]:
    """Have the key that tokens are made with."""
    around = app[SURROUNDINGS]
    app[MASTER_KEY] = await master_key.ensure(
        around.cluster, around.config.common.namespace, random_bytes=around.random_bytes
    )
    yield


async def users(app: web.Application) -> AsyncIterator[None]:
    """Know users by their tokens."""
    around, config = app[SURROUNDINGS], app[CONFIG]
    async with WebDocuments.open(config.oidc_trusted) as documents:
        issuers = Issuers(
            around.cluster, documents, cache_seconds=config.auth_cache_seconds, monotonic=around.monotonic
        )
        app[USERS] = Users(
            issuers,
            master_key=app[MASTER_KEY],
            cache_seconds=config.auth_cache_seconds,
            now=around.now,
            monotonic=around.monotonic,
        )
        yield
        await issuers.aclose()


async def auth(app: web.Application) -> AsyncIterator[None]:
    """Know callers and variables."""
    surroundings, config = app[SURROUNDINGS], app[CONFIG]
    authenticator = Authenticator(
        surroundings.cluster,
        users=app[USERS],
        cache_seconds=config.auth_cache_seconds,
        now=surroundings.now,
        monotonic=surroundings.monotonic,
    )
    resolver = VariableResolver(
        surroundings.cluster,
        cache_seconds=config.variable_cache_seconds,
        monotonic=surroundings.monotonic,
    )
    app[AUTH], app[RESOLVER] = authenticator, resolver
    yield
    await authenticator.aclose()
    await resolver.aclose()


async def invoker(app: web.Application) -> AsyncIterator[None]:
    """Run functions in pods, the pods that the catalog wants; at the end wait for calls under way."""
    surroundings, reader = app[SURROUNDINGS], app[ARTIFACT_CACHE]
    async with surroundings.make_invoker(surroundings, reader, app[MASTER_KEY]) as opened:
        app[INVOKER] = opened
        app[METRICS].watch_invoker(opened)
        targets = Targets(catalog=app[CATALOG], invoker=opened, resolver=app[RESOLVER])
        async with targets.following():
            yield
        await opened.drain(app[DRAIN].remaining)


async def worker(app: web.Application) -> AsyncIterator[None]:
    """Run what the queue holds."""
    surroundings, config = app[SURROUNDINGS], app[CONFIG]
    part = Part.of(config)
    rollouts = Rollouts(
        invoker=app[INVOKER],
        catalog=app[CATALOG],
        patience=config.pod_start_seconds,
        monotonic=surroundings.monotonic,
    )
    app[CATALOG].on_function_gone(rollouts.forget)
    own = OwnEvents(catalog=app[CATALOG], metrics=app[METRICS])
    app[EXECUTOR] = executor = Executor(
        store=app[STORE],
        invoker=app[INVOKER],
        resolver=app[RESOLVER],
        metrics=app[METRICS],
        endings=Endings(),
        rollouts=rollouts,
        users=app[USERS],
        listener=own,
        queue_limit=config.queue_limit,
        pod_start_seconds=config.pod_start_seconds,
        now=surroundings.now,
    )
    app[WORKER] = made = Worker(
        executor=executor,
        catalog=app[CATALOG],
        name=f"{part.replica(config.replica)}/{surroundings.random_bytes(_BOOT_BYTES).hex()}",
        concurrency=max(1, part.share(config.async_concurrency)),
        lease_seconds=config.lease_seconds,
        now=surroundings.now,
        monotonic=surroundings.monotonic,
    )
    app[DELIVERY] = delivery = Delivery(executor=executor, subscriptions=app[CATALOG].subscriptions)
    async with own.running(delivery), made.running(remaining=lambda: app[DRAIN].remaining):
        yield


async def webhooks(app: web.Application) -> AsyncIterator[None]:
    """Know Appwrite's webhooks."""
    surroundings, seconds = app[SURROUNDINGS], app[CONFIG].auth_cache_seconds
    app[WEBHOOKS] = known = Webhooks(surroundings.cluster, cache_seconds=seconds, monotonic=surroundings.monotonic)
    yield
    await known.aclose()


async def housekeeping(app: web.Application) -> AsyncIterator[None]:
    """Delete what has to go; one process does it for all."""
    if not Part.of(app[CONFIG]).leads:
        yield
        return
    surroundings, now = app[SURROUNDINGS], app[SURROUNDINGS].now
    keeper = Housekeeping(
        store=app[STORE],
        catalog=app[CATALOG],
        leftovers=Leftovers(cluster=surroundings.cluster, store=app[STORE], artifacts=app[ARTIFACTS], now=now),
        uploads=app[UPLOADS],
        retention=timedelta(days=app[CONFIG].retention_days),
        upload_age=timedelta(hours=app[CONFIG].upload_hours),
        now=now,
    )
    memory_mb = mebibytes(surroundings.config.operator.build_memory)
    ledger = Ledger(store=app[STORE], catalog=app[CATALOG], memory_mb=memory_mb)
    async with keeper.running(), ledger.running():
        yield


ALL = (siblings, store, artifacts, catalog, keys, users, auth, invoker, worker, webhooks, housekeeping)
