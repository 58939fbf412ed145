"""Brings a pod up: taken from a pool or created, then loaded. Each way this can fail becomes a failure with its reason.

The API server has no part in a claim until the code is loaded: the agent decides who gets the pod. That it is ours is
written down afterwards, beside the first call.
"""

import asyncio
import base64
import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Protocol

from appfn import names
from appfn.api.base import Json, ObjectMeta
from appfn.api.execution import Component, Failure
from appfn.api.kinds import POD, SECRET, Key
from appfn.api.runtime import Architecture
from appfn.core.manifests.made_pod import PodIdentity, announce_secret, is_one_container, runtime_pod
from appfn.core.manifests.pool import claim_patch
from appfn.core.manifests.runtime_pod import AGENT_PORT, RUNTIME_PORT, RuntimePodTemplate, template_digest
from appfn.core.values import Value
from appfn.dispatch import failures
from appfn.dispatch.failures import NotServedError
from appfn.dispatch.fleet import Fleet, PodCluster
from appfn.dispatch.messages import Reply
from appfn.dispatch.pod import PodState, RuntimePod
from appfn.dispatch.tasks import Tasks, all_of
from appfn.dispatch.tokens import announce_token, load_token, load_token_hash, runtime_key
from appfn.dispatch.upstream import Address, Upstream, UpstreamError
from appfn.dispatch.warm import Pool
from appfn.errors import AppfnError, ConflictError, ForbiddenError, RejectedError, TransientError

_log = logging.getLogger(__name__)

_SUFFIX_BYTES: Final = 5
_PROBE_PAUSE: Final = 0.01
"""Seconds between two tries to connect to an agent that has not announced itself."""
_CLAIM_PAUSE: Final = 0.02
"""Seconds after a load in which the first call goes ahead of the patch that makes the pod ours."""
_CLAIM_TRIES: Final = 5
_CREATE_PAUSE: Final = 0.5
_MAX_LOAD_REPLY: Final = 65_536
_MAX_REASON: Final = 500
_MAX_HEADER: Final = 60_000


class TakenError(Exception):
    """The pod is not to be had, and another is to be claimed or made.

    `by_others`: somebody else has it, or it need not be made at all; else nobody can use it any more.
    """

    def __init__(self, *, by_others: bool) -> None:
        super().__init__("taken by others" if by_others else "broken")
        self.by_others = by_others


class ArtifactSource(Protocol):
    """Where built tarballs come from."""

    async def open(self, namespace: str, digest: str) -> tuple[int, AsyncIterator[bytes]]:
        """Return size in bytes and content; raises `LookupError`, `OSError` or an `AppfnError` where it cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where a runtime pod listens."""

    runtime: int = RUNTIME_PORT
    agent: int = AGENT_PORT


class Code(Value, frozen=True, kw_only=True):
    """What is loaded into a pod."""

    hidden = frozenset({"variables"})

    deployment: ObjectMeta
    entrypoint: str
    artifacts: Mapping[Architecture, str]
    """Digest of the built artifact per architecture that is ready."""
    variables: Mapping[str, str] | None
    """Environment of the runtime's process; None where only the next call knows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSettings:
    """What all pods of this replica have in common."""

    replica: str
    agent_image: str
    announce_url: str
    """Base URL of this replica as pods reach it."""
    master_key: bytes = field(repr=False)
    ports: Ports
    start_seconds: float
    """A pod that is not ready so long after its creation is given up."""


class Launcher:
    """Makes pods and loads code into them."""

    def __init__(
        self,
        *,
        settings: LaunchSettings,
        cluster: PodCluster,
        fleet: Fleet,
        upstream: Upstream,
        artifacts: ArtifactSource,
        tasks: Tasks,
        now: Callable[[], float],
    ) -> None:
        """`now`: monotonic seconds."""
        self._settings = settings
        self._cluster = cluster
        self._fleet = fleet
        self._upstream = upstream
        self._artifacts = artifacts
        self._tasks = tasks
        self._now = now

    def claim(self, template: RuntimePodTemplate, architecture: Architecture) -> RuntimePod | None:
        """Return a pod of a pool that nobody else here gets; None where none is free or fit."""
        warm = self._fleet.warm.take(_pool(template, architecture))
        if warm is None:
            return None
        pod = self._known(warm.key, architecture, body=warm.body)
        pod.announce(warm.address)
        return pod

    def draft(self, template: RuntimePodTemplate, code: Code, architecture: Architecture) -> RuntimePod:
        """Return a pod that is known from now on, but not created yet."""
        name = names.runtime_pod(code.deployment.name, secrets.token_hex(_SUFFIX_BYTES))
        return self._known(Key(template.namespace, name), architecture)

    def load_token(self, key: Key) -> str:
        """Return what a load of that pod has to bring."""
        return load_token(self._settings.master_key, namespace=key.namespace, pod=key.name)

    async def launch(self, pod: RuntimePod, template: RuntimePodTemplate, code: Code) -> None:
        """Bring a drafted or claimed pod up to READY.

        Raises:
            NotServedError: it cannot be, or not within `start_seconds`; with the reason.
            TakenError: another pod is to be claimed or made.
        """
        try:
            async with asyncio.timeout(self._settings.start_seconds):
                await _unless_ended(pod, self._bring_up(pod, template, code))
        except TimeoutError:
            late = f"pod {pod.key.name} was not ready after {self._settings.start_seconds:g} s: {pod.waiting}"
            raise NotServedError(failures.pod_not_started(late)) from None

    def _known(self, key: Key, architecture: Architecture, *, body: Json | None = None) -> RuntimePod:
        secret = runtime_key(self._settings.master_key, namespace=key.namespace, pod=key.name)
        pod = RuntimePod(key=key, architecture=architecture, runtime_key=secret, created=self._now(), body=body)
        self._fleet.add(pod)
        return pod

    async def _bring_up(self, pod: RuntimePod, template: RuntimePodTemplate, code: Code) -> None:
        if not pod.exists:
            await self._create(pod, template, code)
        pod.advance(PodState.SCHEDULING)
        host = await asyncio.shield(pod.address)
        pod.timeline.addressed = self._now()
        pod.waiting = "its agent takes no connections"
        pod.advance(PodState.CONNECTING)
        agent = Address(host, self._settings.ports.agent)
        while not pod.announced and not await self._upstream.reachable(agent):  # noqa: ASYNC110 - what is left to look at where no announcement came
            await asyncio.sleep(_PROBE_PAUSE)
        pod.advance(PodState.LOADING)
        pod.timeline.boot_seconds = await self._load(pod, agent, code)
        pod.timeline.loaded = pod.idle_since = self._now()
        pod.advance(PodState.READY)
        if pod.exists:
            self._tasks.start(self._make_ours(pod, template, code), name=f"claim pod {pod.key}")

    async def _make_ours(self, pod: RuntimePod, template: RuntimePodTemplate, code: Code) -> None:
        """Take a loaded pod out of its pool, which is refilled then, and make it go with its deployment."""
        await asyncio.sleep(_CLAIM_PAUSE)
        for attempt in range(_CLAIM_TRIES):
            patch = claim_patch(
                pod=pod.body, function=template.function, deployment=code.deployment, shim=self._settings.replica
            )
            try:
                await self._cluster.merge_patch(POD, pod.key, patch, manager=names.FIELD_MANAGER_SHIM)
            except (ConflictError, TransientError) as error:
                await asyncio.sleep(_CREATE_PAUSE * attempt)
                pod.body = await self._body(pod) or pod.body
                _log.info("claiming a pod is tried again", extra={"pod": str(pod.key), "error": str(error)})
            except AppfnError as error:
                _log.error("a pod stays in its pool's name", extra={"pod": str(pod.key), "error": str(error)})
                return
            else:
                return
        _log.error("a pod stays in its pool's name", extra={"pod": str(pod.key)})

    async def _body(self, pod: RuntimePod) -> Json | None:
        try:
            return await self._cluster.get(POD, pod.key)
        except AppfnError:
            return None

    async def _create(self, pod: RuntimePod, template: RuntimePodTemplate, code: Code) -> None:
        manifest = self._manifest(pod, template, code)
        pod.waiting = "the pods of its namespace cannot be watched"
        try:
            await self._watched(pod, template)
            await all_of(_until(lambda: self._created(pod, manifest)), self._until_announceable(pod, template, code))
        except (ForbiddenError, RejectedError) as error:
            raise NotServedError(failures.pod_not_started(str(error))) from error
        except AppfnError as error:
            raise NotServedError(failures.pod_not_started(f"no answer of the API server: {error}")) from error

    async def _watched(self, pod: RuntimePod, template: RuntimePodTemplate) -> None:
        """Return when the pod's namespace is watched; where that shows us a pool only now, start over with that."""
        if self._fleet.watches(pod.key.namespace):
            return
        await self._fleet.watch(pod.key.namespace)
        if self._fleet.warm.free(_pool(template, pod.architecture)):
            raise TakenError(by_others=True)

    async def _until_announceable(self, pod: RuntimePod, template: RuntimePodTemplate, code: Code) -> None:
        """Have the Secret that a pod of one container waits for, each time: it may have been deleted."""
        if not is_one_container(template):
            return
        token = announce_token(
            self._settings.master_key,
            namespace=template.namespace,
            deployment=code.deployment.name,
            uid=code.deployment.uid,
        )
        manifest = announce_secret(template, code.deployment, token=token)
        await _until(lambda: self._applied(pod, manifest))

    async def _applied(self, pod: RuntimePod, secret: Json) -> bool:
        try:
            await self._cluster.apply(SECRET, secret, manager=names.FIELD_MANAGER_SHIM)
        except (ConflictError, TransientError) as error:
            _log.warning("applying a runtime pod's Secret failed", extra={"pod": str(pod.key), "error": str(error)})
            pod.waiting = f"the API server did not take its Secret: {error}"
            return False
        return True

    async def _created(self, pod: RuntimePod, manifest: Json) -> bool:
        try:
            await self._cluster.create(POD, manifest)
        except (ConflictError, TransientError) as error:
            _log.warning("creating a runtime pod failed", extra={"pod": str(pod.key), "error": str(error)})
            pod.waiting = f"the API server did not take it: {error}"
            # The name is random: if it is taken, then by an earlier try of ours whose answer was lost. If it is not,
            # the conflict was about something else, as a quota that many pods are counted against at once.
            return isinstance(error, ConflictError) and await self._cluster.get(POD, pod.key) is not None
        return True

    def _manifest(self, pod: RuntimePod, template: RuntimePodTemplate, code: Code) -> Json:
        identity = PodIdentity(
            name=pod.key.name,
            deployment=code.deployment,
            architecture=pod.architecture,
            shim=self._settings.replica,
            agent_image=self._settings.agent_image,
            announce_url=self._settings.announce_url,
            load_token_hash=load_token_hash(self.load_token(pod.key)),
        )
        return runtime_pod(template, identity)

    async def _load(self, pod: RuntimePod, agent: Address, code: Code) -> float:
        """Push the code; return the seconds the runtime server took to start."""
        digest = code.artifacts[pod.architecture]
        env = dict(code.variables or {})
        order = {"digest": digest, "entrypoint": code.entrypoint, "key": pod.runtime_key, "env": env}
        headers = [("authorization", f"Bearer {self.load_token(pod.key)}"), *_load_headers(order)]
        try:
            size, content = await self._artifacts.open(pod.key.namespace, digest)
        except (AppfnError, LookupError, OSError) as error:
            _log.warning("an artifact cannot be read", extra={"digest": digest, "error": str(error)})
            raise NotServedError(failures.load_failed(f"its artifact {digest} cannot be read")) from error
        pod.waiting = "its runtime has not started"
        try:
            reply = await self._upstream.push(
                agent,
                path="/load",
                headers=headers,
                size=size,
                content=content,
                limit=_MAX_LOAD_REPLY,
            )
        except UpstreamError as error:
            if pod.exists:
                raise TakenError(by_others=False) from error
            ending = pod.ending.result() if pod.ending.done() else str(error)
            raise NotServedError(failures.load_failed(f"the connection to the agent broke: {ending}")) from error
        if reply.status == HTTPStatus.CONFLICT and pod.exists:
            raise TakenError(by_others=True)
        return _boot_seconds(reply)


def _pool(template: RuntimePodTemplate, architecture: Architecture) -> Pool:
    return Pool(template.namespace, template.runtime, architecture, template_digest(template, architecture))


async def _until(attempt: Callable[[], Awaitable[bool]]) -> None:
    while not await attempt():  # noqa: ASYNC110 - nothing tells when to try again
        await asyncio.sleep(_CREATE_PAUSE)


async def _unless_ended(pod: RuntimePod, work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, but give up as soon as it is certain that the pod will never serve."""
    task = asyncio.ensure_future(work)
    try:
        either: set[asyncio.Future[Any]] = {task, pod.ending}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise NotServedError(failures.pod_not_started(f"pod {pod.key.name}: {pod.ending.result()}"))
        await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _load_headers(order: Json) -> list[tuple[str, str]]:
    """Return the description of a load as headers that the agent joins again: one line may hold 64 KiB at most."""
    text = base64.urlsafe_b64encode(json.dumps(order, separators=(",", ":")).encode()).decode()
    pieces = (text[start : start + _MAX_HEADER] for start in range(0, len(text), _MAX_HEADER))
    return [("x-appfn-load", piece) for piece in pieces]


def _boot_seconds(reply: Reply) -> float:
    if reply.status != HTTPStatus.OK:
        raise NotServedError(_load_failure(reply))
    boot = _document(reply).get("bootMs")
    return max(0.0, boot / 1000) if isinstance(boot, int | float) else 0.0


def _load_failure(reply: Reply) -> Failure:
    match reply.status:
        case HTTPStatus.UNPROCESSABLE_ENTITY:
            message = _document(reply).get("message")
            return failures.load_failed(str(message)[:_MAX_REASON] if message else "the agent refuses the artifact")
        case HTTPStatus.GATEWAY_TIMEOUT:
            return failures.load_failed("the runtime did not open its port in time", component=Component.RUNTIME)
        case HTTPStatus.UNAUTHORIZED:
            return failures.load_failed("the agent refuses our token")
        case HTTPStatus.CONFLICT:
            return failures.load_failed("the pod is already loaded")
        case _:
            return failures.load_failed(f"the agent answered {reply.status}")


def _document(reply: Reply) -> Mapping[str, Any]:
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
