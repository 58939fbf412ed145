"""Answers executions for the connections of the front: what `rest/executions.py` does, with what is known kept at hand.

What a head stands for (project, caller, function) is believed until anything in the cluster changes, or until the
caller's key has to be looked at again.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import formatdate
from functools import cached_property
from http import HTTPStatus
from typing import Final

from aiohttp import web

from appfn.core import shares
from appfn.core.shares import Part
from appfn.core.values import Value
from appfn.shim import access_log, http, models, requests
from appfn.shim.auth.access import EXECUTE
from appfn.shim.auth.authenticator import KEY_HEADER, Authenticator, Verified
from appfn.shim.auth.identity import Caller
from appfn.shim.callee import Callee, Project
from appfn.shim.catalog import Catalog
from appfn.shim.drain import Drain
from appfn.shim.errors import AppwriteError, error_of
from appfn.shim.executor import Executor
from appfn.shim.front.heads import Head, parse
from appfn.shim.metrics import Metrics
from appfn.shim.middleware import new_request_id
from appfn.shim.rate_limit import RateLimit
from appfn.shim.rest import executions
from appfn.shim.services import AUTH, CATALOG, CONFIG, DRAIN, EXECUTOR, METRICS, RATE_LIMIT, SIBLINGS, SURROUNDINGS

_MAX_HEADS: Final = 4096
"""Heads kept. Clients that give each request an id of its own fill it with what is never seen again: then it is
emptied, which costs a few callers one parse each."""
_ROUTE: Final = "/v1/functions/{functionId}/executions"
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class Known:
    """A head, and what is believed of it."""

    head: Head
    admitted: "Admitted | None" = None


class _Asking(Value, frozen=True):
    """A request, as it is being answered."""

    known: Known
    body: bytes
    peer: str
    """Who connected."""
    limits: dict[str, str]
    """Headers of the rate limit, to be filled in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A caller with a key that was found to be allowed, and the function."""

    generation: asyncio.Event
    """The catalog's next change, which ends this."""
    project: Project
    verified: Verified
    callee: Callee
    deployment_id: str


class Desk:
    """See the module. One for all connections of a process."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        """Opened by the time the first request comes; what each request needs of it is looked up once."""
        self._heads: dict[bytes, Known] = {}
        self._starts: dict[int, str] = {}
        """What responses begin with, by status."""
        self._second = 0.0
        """When that was made, in whole seconds."""

    @cached_property
    def _catalog(self) -> Catalog:
        return self._app[CATALOG]

    @cached_property
    def _auth(self) -> Authenticator:
        return self._app[AUTH]

    @cached_property
    def drain(self) -> Drain:
        """What says whether connections are to be closed after their next answer."""
        return self._app[DRAIN]

    @cached_property
    def _executor(self) -> Executor:
        return self._app[EXECUTOR]

    @cached_property
    def _most(self) -> int:
        return executions.most_requests(self._app)

    @cached_property
    def _metrics(self) -> Metrics:
        return self._app[METRICS]

    @cached_property
    def _rate_limit(self) -> RateLimit:
        return self._app[RATE_LIMIT]

    @cached_property
    def _part(self) -> Part:
        return self._app[SIBLINGS].part

    @cached_property
    def _clock(self) -> Callable[[], datetime]:
        return self._app[SURROUNDINGS].now

    def known(self, head: bytes) -> Known | None:
        """Return what is known of a head; None where aiohttp is to deal with the request."""
        known = self._heads.get(head)
        if known is None:
            parsed = parse(head)
            if parsed is None or parsed.length > self._app[CONFIG].max_payload_bytes:
                return None
            known = Known(parsed)
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            self._heads[head] = known
        return known

    def elsewhere(self, head: Head) -> int | None:
        """Return which other process runs the function's calls; what is wrong with a request can be said by any."""
        part, catalog = self._part, self._catalog
        if part.count == 1:
            return None
        try:
            function = catalog.function(catalog.project(head.project_id), head.function_id)
        except AppwriteError:
            return None
        return shares.elsewhere(function, part)

    async def answer(self, known: Known, body: bytes, *, peer: str) -> bytes:
        """Return the whole response to a request."""
        task = asyncio.current_task()
        assert task is not None
        drain, started = self.drain, time.perf_counter()
        request_id = known.head.request_id or new_request_id()
        status = 0
        drain.enter(task)
        limits: dict[str, str] = {}
        try:
            status, headers, content = await self._executed(_Asking(known, body, peer, limits))
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is answered
            failure = error_of(error)
            access_log.note_bug(error, failure, request_id)
            status, headers, content = failure.problem.status, failure.headers, http.dumps(failure.body)
        finally:
            drain.leave(task)
            seconds = time.perf_counter() - started
            self._metrics.answered(method="POST", route=_ROUTE, status=status, seconds=seconds)
            if level := access_log.level(status, seconds):
                access_log.write(
                    level,
                    request_id=request_id,
                    method="POST",
                    route=_ROUTE,
                    status=status,
                    seconds=seconds,
                    remote=peer,
                    target={"functionId": known.head.function_id},
                )
        return self._response(status, limits | headers, content, request_id=request_id)

    async def _executed(self, asking: "_Asking") -> tuple[int, dict[str, str], bytes]:
        known, head = asking.known, asking.known.head
        executions.refuse_crowd(self.drain, most=self._most)
        generation = self._catalog.change  # before anything is looked up: what changes meanwhile may be any of it
        admitted = self._still(known)
        caller: Caller
        if admitted is not None:
            project, caller = admitted.project, admitted.verified.caller
        else:
            project = self._catalog.project(head.project_id)
            caller = await self._auth.caller(head.headers, project)
            await self._auth.authorize(caller, EXECUTE, project)
        self._limit(asking, project, caller)
        asked = requests.parse(http.parse_json(asking.body), head.format, now=self._clock)
        if admitted is not None:
            callee, deployment_id = admitted.callee, admitted.deployment_id
        else:
            callee = await self._catalog.settled_callee(project, head.function_id)
            executions.permit(caller, callee)
            deployment_id = callee.deployment.appwrite_id
            known.admitted = self._admitted(generation, head, caller, callee)
        record = await executions.execute(self._executor, callee, caller, asked)
        if record.deployment != callee.deployment.metadata.name:
            deployment_id = self._catalog.deployment_id(project.namespace, record.deployment)
        model = models.execution(
            record, head.format, function_id=head.function_id, deployment_id=deployment_id, logs=caller.privileged
        )
        return executions.accepted(asked, head.format), executions.timing(record), http.dumps(model)

    def _limit(self, asking: "_Asking", project: Project, caller: Caller) -> None:
        limit = self._rate_limit
        if not limit.limited:
            return
        if caller.privileged:
            asking.limits.update(limit.unlimited())
            return
        address = limit.address(asking.peer, asking.known.head.headers.get("X-Forwarded-For", ""))
        taken = limit.take(project, caller, address=address)
        asking.limits.update(limit.headers(taken))
        limit.enforce(taken)

    def _still(self, known: Known) -> Admitted | None:
        admitted = known.admitted
        if admitted is None:
            return None
        if admitted.generation is self._catalog.change and self._auth.still(admitted.verified):
            return admitted
        known.admitted = None
        return None

    def _admitted(self, generation: asyncio.Event, head: Head, caller: Caller, callee: Callee) -> Admitted | None:
        """Return what may be believed from now on: of keys alone, whose verification has an end."""
        project = callee.project
        verified = self._auth.verified(head.headers.get(KEY_HEADER, ""), project)
        if verified is None or verified.caller is not caller:
            return None
        return Admitted(
            generation=generation,
            project=project,
            verified=verified,
            callee=callee,
            deployment_id=callee.deployment.appwrite_id,
        )

    def _response(self, status: int, headers: dict[str, str], content: bytes, *, request_id: str) -> bytes:
        lines = [
            f"{self._start(status)}Content-Length: {len(content)}",
            f"X-Request-Id: {request_id}",
            *[f"{name}: {value}" for name, value in headers.items()],
        ]
        if self.drain.draining:
            lines.append("Connection: close")  # whoever keeps it is to come back to another replica
        lines.append("\r\n")
        return "\r\n".join(lines).encode() + content

    def _start(self, status: int) -> str:
        """Return what responses of this second begin with."""
        now = time.time()
        if now - self._second >= 1:
            self._starts.clear()
            self._second = now // 1
        if status not in self._starts:
            self._starts[status] = (
                f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
                f"Content-Type: {http.CONTENT_TYPE}\r\n"
                f"Date: {formatdate(now, usegmt=True)}\r\n"
                "X-Content-Type-Options: nosniff\r\n"
            )
        return self._starts[status]
