"""Executions as the operator and the triggers of schedules see them."""

import asyncio
from datetime import UTC, datetime, timedelta

from aiohttp import web
from msgspec.structs import replace

from appfn.api.base import Json
from appfn.api.execution import Trigger
from appfn.api.function import Function
from appfn.core.records import ExecutionRecord, ExecutionRequest, Origin, repeated
from appfn.shim import handover, http, processes, requests
from appfn.shim.errors import AppwriteError, Problem, invalid_argument
from appfn.shim.formats import Format
from appfn.shim.ids import new_execution_id
from appfn.shim.internal import access
from appfn.shim.models import timestamp
from appfn.shim.services import CATALOG, DRAIN, EXECUTOR, STORE, SURROUNDINGS

routes = web.RouteTableDef()

MAX_WAIT_SECONDS = 60
MAX_POSITION = 2**63 - 1
MAX_RECENT = 100
MAX_SKEW = timedelta(minutes=5)
"""How far ahead of our clock the time of a tick may be."""


@routes.post("/internal/v1/executions")
async def submit(request: web.Request) -> web.Response:
    """Accept the execution that an Execution resource asks for, once per uid; 202 when it is safely stored."""
    await access.operator(request)
    body = await http.read_json(request)
    uid = http.text(body, "uid", required=True)
    if not requests.is_id(uid):
        raise invalid_argument("uid", "Value must be a uid")
    namespace = http.text(body, "namespace", required=True)
    function = _function(request, namespace, http.text(body, "function", required=True))
    if (answered := await handover.to_server(request, function)) is not None:
        return answered
    if original := http.text(body, "replayOf"):
        return http.reply(observed(await _replay(request, function, uid=uid, original=original)), status=202)
    asked = requests.parse({"async": True, **body}, Format.V1_4, now=request.app[SURROUNDINGS].now)
    record = await request.app[EXECUTOR].enqueue(
        ExecutionRequest(
            id=uid,
            namespace=namespace,
            function=function.metadata.name,
            function_uid=function.metadata.uid,
            origin=Origin.RESOURCE,
            trigger=Trigger.HTTP,
            data=asked.data,
            headers=asked.headers,
            path=asked.path,
            method=asked.method,
            idempotency_key=_key_of(uid),
            body_hash=asked.digest(),
            max_attempts=function.spec.retry.max_attempts,
        ),
    )
    return http.reply(observed(record), status=202)


async def _replay(request: web.Request, function: Function, *, uid: str, original: str) -> ExecutionRecord:
    """Accept an execution that repeats an earlier one of the function, once per uid."""
    store, namespace = request.app[STORE], function.metadata.namespace
    if (earlier := await store.get(namespace, uid)) is not None:
        return earlier  # also where what it repeats is gone meanwhile
    await processes.flush(request.app)
    found = await store.get(namespace, original) if requests.is_id(original) else None
    if found is None or found.request.function_uid != function.metadata.uid:
        raise invalid_argument("replayOf", f"there is no execution {original[:64]!r} of the function (any more)")
    attempts = function.spec.retry.max_attempts
    again = repeated(found.request, id_=uid, origin=Origin.RESOURCE, max_attempts=attempts)
    return await request.app[EXECUTOR].enqueue(replace(again, idempotency_key=_key_of(uid)))


def _key_of(uid: str) -> str:
    return f"resource:{uid}"


@routes.get("/internal/v1/executions/{namespace}/{id}")
async def get(request: web.Request) -> web.Response:
    """Return one execution."""
    await access.operator(request)
    id_ = request.match_info["id"]
    record = await request.app[STORE].get(request.match_info["namespace"], id_) if requests.is_id(id_) else None
    if record is None:
        raise AppwriteError(Problem.EXECUTION_NOT_FOUND)
    return http.reply(observed(record))


@routes.get("/internal/v1/changes")
async def changes(request: web.Request) -> web.Response:
    """Return what changed behind a position, waiting for it up to `wait` seconds; -1: only where the feed ends."""
    await access.operator(request)
    after = http.number(request, "after", default=-1, low=-1, high=MAX_POSITION)
    wait = http.seconds(request, "wait", high=MAX_WAIT_SECONDS)
    store = request.app[STORE]
    page = await store.changes(after)
    if page.next == after and wait:
        await _unless_draining(request, after, wait)
        page = await store.changes(after)
    shown = [
        {
            "namespace": change.namespace,
            "function": change.function,
            "execution": change.execution,
            "origin": change.origin,
            "phase": change.phase,
        }
        for change in page.changes
    ]
    return http.reply({"next": page.next, "changes": shown})


@routes.get("/internal/v1/functions/{namespace}/{name}/summary")
async def summary(request: web.Request) -> web.Response:
    """Return what is known of a function: counts, newest executions, accepted ticks, pods."""
    await access.operator(request)
    namespace, store = request.match_info["namespace"], request.app[STORE]
    uid = request.query.get("uid") or _function(request, namespace, request.match_info["name"]).metadata.uid
    since = request.query.get("ticksSince")
    completed = http.number(request, "completed", default=3, low=0, high=MAX_RECENT)
    failed = http.number(request, "failed", default=1, low=0, high=MAX_RECENT)
    recent = await store.recent(namespace, uid, completed=completed, failed=failed)
    ticks = await store.ticks(uid, since=_moment("ticksSince", since)) if since else ()
    return http.reply(
        {
            "counts": (await store.counts(uid)).to_json(),
            "recent": [observed(record) for record in recent],
            "ticks": [
                {"scheduledAt": timestamp(tick.scheduled_at), "createdAt": timestamp(tick.created_at)} for tick in ticks
            ],
            "replicas": await processes.ready_pods(request.app, uid),
        },
    )


@routes.post("/internal/v1/functions/{name}/ticks")
async def tick(request: web.Request) -> web.Response:
    """Accept the execution of a schedule's tick, once per scheduled time however often it is asked for."""
    namespace = await access.trigger(request)
    function = _function(request, namespace, request.match_info["name"])
    if (answered := await handover.to_server(request, function)) is not None:
        return answered
    body = await http.read_json(request)
    scheduled = _moment("scheduledTime", http.text(body, "scheduledTime", required=True))
    now = request.app[SURROUNDINGS].now()
    if scheduled > now + MAX_SKEW:
        raise invalid_argument("scheduledTime", "Value must not lie in the future")
    record = await request.app[EXECUTOR].enqueue(
        ExecutionRequest(
            id=new_execution_id(now),
            namespace=namespace,
            function=function.metadata.name,
            function_uid=function.metadata.uid,
            origin=Origin.SCHEDULE,
            trigger=Trigger.SCHEDULE,
            scheduled_at=scheduled,
            idempotency_key=f"schedule:{function.metadata.uid}:{scheduled.isoformat()}",
            max_attempts=function.spec.retry.max_attempts,
        ),
    )
    return http.reply({"id": record.id}, status=202)


def observed(record: ExecutionRecord) -> Json:
    """Return an execution for the operator: the fields of an Execution's status where the names coincide."""
    request, outcome = record.request, record.outcome
    shown: Json = {
        "id": record.id,
        "namespace": request.namespace,
        "function": request.function,
        "origin": request.origin.value,
        "trigger": request.trigger.value,
        "status": record.phase.value,
        "deployment": record.deployment,
        "attempt": record.attempt,
        "path": request.path,
        "method": request.method,
        "createdAt": timestamp(record.created_at),
    }
    if request.replay_of:
        shown["replayOf"] = request.replay_of
    if record.started_at:
        shown["startTime"] = timestamp(record.started_at)
    if record.finished_at:
        shown["completionTime"] = timestamp(record.finished_at)
    if outcome:
        shown |= {
            "statusCode": outcome.status_code,
            "response": outcome.response,
            "stdout": outcome.stdout,
            "stderr": outcome.stderr,
            "duration": outcome.duration,
            "coldStart": outcome.cold_start,
            "times": outcome.times.to_json(),
        }
        if outcome.failure:
            shown["failure"] = outcome.failure.to_json()
    return shown


def _function(request: web.Request, namespace: str, name: str) -> Function:
    """Return an enabled function by its resource name."""
    function = request.app[CATALOG].named(namespace, name)
    if function is None or not function.spec.enabled:
        raise AppwriteError(Problem.FUNCTION_NOT_FOUND)
    return function


def _moment(name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid_argument(name, "Value must be a date such as 2030-01-31T00:00:00Z") from error
    if moment.tzinfo is None:
        raise invalid_argument(name, "Value must have a time zone")
    return moment.astimezone(UTC)


async def _unless_draining(request: web.Request, after: int, wait: float) -> None:
    """Wait for a change, but not beyond the beginning of the shutdown."""
    change = asyncio.create_task(request.app[STORE].wait_change(after, within=wait))
    drain = asyncio.create_task(request.app[DRAIN].wait_begun())
    try:
        await asyncio.wait({change, drain}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        change.cancel()
        drain.cancel()
        await asyncio.gather(change, drain, return_exceptions=True)
