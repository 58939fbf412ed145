"""Pods that nobody uses any more, after the end of the process that did: taken over, or deleted.

What such a pod is doing is asked of the pod itself: its agent knows what was loaded, its runtime whether a call still
runs. A pod whose call goes on, though its caller is gone, is left alone until the call has ended or its time is over.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Final, Protocol

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import POD, Key
from appfn.api.runtime import Architecture
from appfn.dispatch.fleet import Fleet, PodCluster
from appfn.dispatch.launcher import LaunchSettings
from appfn.dispatch.messages import Request
from appfn.dispatch.pod import PodState, RuntimePod
from appfn.dispatch.podstatus import read_status
from appfn.dispatch.protocols import v2
from appfn.dispatch.tasks import Tasks
from appfn.dispatch.tokens import load_token, runtime_key
from appfn.dispatch.upstream import Address, Upstream, UpstreamError
from appfn.errors import AppfnError, ConflictError

_log = logging.getLogger(__name__)

_ASK_SECONDS: Final = 2.0
_LOOK_AGAIN_SECONDS: Final = 1.0
_MAX_ANSWER: Final = 65_536


class Home(Protocol):
    """Where an orphan may go on: the pods of the deployment that it was loaded with."""

    @property
    def timeout(self) -> float:
        """Seconds a call of the function may take."""

    def fits(self, pod: Json, digest: str) -> bool:
        """Tell whether the pod is one like those made now, with this artifact in it."""

    def take_in(self, pod: RuntimePod) -> None:
        """Use a pod that is loaded."""


class _Verdict(Enum):
    IDLE = auto()
    BUSY = auto()
    UNKNOWN = auto()
    """It cannot say whether a call runs."""
    UNFIT = auto()


class Adoption:
    """Decides about orphans, one task each."""

    def __init__(
        self,
        *,
        settings: LaunchSettings,
        cluster: PodCluster,
        fleet: Fleet,
        upstream: Upstream,
        tasks: Tasks,
        find_home: Callable[[Json], Home | None],
        now: Callable[[], float],
    ) -> None:
        """`find_home` returns None for a pod of which nothing should run any more; `now`: monotonic seconds."""
        self._settings = settings
        self._cluster = cluster
        self._fleet = fleet
        self._upstream = upstream
        self._tasks = tasks
        self._find_home = find_home
        self._now = now
        self._considered: set[Key] = set()

    def consider(self, key: Key, body: Json) -> None:
        """Find out what a pod is good for, and act on it, in the background."""
        if key not in self._considered:
            self._considered.add(key)
            self._tasks.start(self._settle(key, body), name=f"adopt pod {key}")

    async def _settle(self, key: Key, body: Json) -> None:
        try:
            if names.LABEL_POOL in (body["metadata"].get("labels") or {}):
                await self._clear_pool(key, body)
            elif not await self._taken_over(key, body):
                self._fleet.delete(key, uid=body["metadata"]["uid"])
        finally:
            self._considered.discard(key)

    async def _clear_pool(self, key: Key, body: Json) -> None:
        """Delete a pod that was loaded and is still in its pool: whoever claimed it died right then."""
        address = read_status(body).address
        if await self._loaded(key, address):
            _log.warning("a claimed pod that nobody uses is deleted", extra={"pod": str(key)})
            self._fleet.delete(key, uid=body["metadata"]["uid"])

    async def _taken_over(self, key: Key, body: Json) -> bool:
        """Return True once the pod needs no more care; False where it is to be deleted."""
        seen_at = self._now()
        while (home := self._find_home(body)) is not None:
            match await self._judge(home, key, body):
                case _Verdict.IDLE:
                    return await self._adopt(home, key, body)
                case _Verdict.UNFIT:
                    return False
                case _Verdict.BUSY | _Verdict.UNKNOWN if self._now() < seen_at + home.timeout:
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS)
                case _:
                    return False
        return False

    async def _judge(self, home: Home, key: Key, body: Json) -> _Verdict:
        status = read_status(body)
        if status.ended or status.restarts or not status.address:
            return _Verdict.UNFIT
        digest = await self._loaded(key, status.address)
        if not digest or not home.fits(body, digest):
            return _Verdict.UNFIT
        return await self._busy(key, status.address)

    async def _loaded(self, key: Key, address: str) -> str:
        """Return the digest of what a pod was given; empty where nothing, or where nobody answers."""
        token = load_token(self._settings.master_key, namespace=key.namespace, pod=key.name)
        request = Request(method="GET", path="/state", headers={"authorization": f"Bearer {token}"}, body=b"")
        answer = await self._ask(Address(address, self._settings.ports.agent), request)
        return str(answer["digest"]) if answer.get("loaded") is True else ""

    async def _busy(self, key: Key, address: str) -> _Verdict:
        secret = runtime_key(self._settings.master_key, namespace=key.namespace, pod=key.name)
        answer = await self._ask(Address(address, self._settings.ports.runtime), v2.ask_running(key=secret))
        match answer.get("running"):
            case 0:
                return _Verdict.IDLE
            case int():
                return _Verdict.BUSY
            case _:
                return _Verdict.UNKNOWN

    async def _ask(self, address: Address, request: Request) -> dict[str, Any]:
        try:
            reply = await self._upstream.call(address, request, seconds=_ASK_SECONDS, limit=_MAX_ANSWER)
            document = json.loads(reply.body) if reply.status == HTTPStatus.OK and reply.complete else {}
        except (UpstreamError, TimeoutError, ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}

    async def _adopt(self, home: Home, key: Key, body: Json) -> bool:
        if not await self._made_ours(key, body):
            return True  # somebody else has it, or it is gone
        metadata, now = body["metadata"], self._now()
        pod = RuntimePod(
            key=key,
            architecture=Architecture(metadata["labels"][names.LABEL_ARCHITECTURE]),
            runtime_key=runtime_key(self._settings.master_key, namespace=key.namespace, pod=key.name),
            created=now,
            body=body,
        )
        pod.timeline.addressed = pod.timeline.loaded = now
        pod.observe(body)
        pod.advance(PodState.READY)
        self._fleet.add(pod)
        home.take_in(pod)
        _log.info("a loaded pod was adopted", extra={"pod": str(key)})
        return True

    async def _made_ours(self, key: Key, body: Json) -> bool:
        """Put our label on a pod; False where it is not to be had any more."""
        metadata = body["metadata"]
        if metadata["labels"].get(names.LABEL_SHIM) == self._settings.replica:
            return not self._fleet.knows(key)
        patch = {
            "metadata": {
                "resourceVersion": metadata["resourceVersion"],
                "labels": {names.LABEL_SHIM: self._settings.replica},
            }
        }
        try:
            return await self._cluster.merge_patch(POD, key, patch, manager=names.FIELD_MANAGER_SHIM) is not None
        except ConflictError:
            return False
        except AppfnError as error:
            _log.warning("an orphaned pod cannot be adopted", extra={"pod": str(key), "error": str(error)})
            return False
