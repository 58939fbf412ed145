"""The public route that events come in by. Appwrite, whose events come from within, has none."""

from aiohttp import web

from appfn.api.base import Json
from appfn.api.function import Function
from appfn.shim import http
from appfn.shim.auth.access import EVENTS_WRITE
from appfn.shim.callee import Project
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.events import incoming, webhook
from appfn.shim.events.delivery import Told, counted
from appfn.shim.events.occurrence import Occurrence
from appfn.shim.rest.admission import admit, format_of, project_of
from appfn.shim.rest.operation import Answer, Context, Operations
from appfn.shim.services import DELIVERY, METRICS, WEBHOOKS

MAX_BODY = 1024 * 1024
"""Bytes of a request with events, all of a batch together: each executed function gets a copy."""
MAX_EXECUTIONS = 1000
"""Of one request."""

operations = Operations()


async def route(request: web.Request) -> web.Response:
    """Take what a request tells: CloudEvents of a caller who may bring them, or a webhook that Appwrite signed."""
    if webhook.SIGNATURE in request.headers:
        answer = await _take_webhook(request)
    else:
        project, caller = await admit(request, EVENTS_WRITE)
        answer = await create(
            Context(
                app=request.app,
                request=request,
                project=project,
                caller=caller,
                format=format_of(request),
                arguments={},
            )
        )
    return http.reply(answer.content, status=answer.status)


@operations.add(
    "events.create",
    "POST /events",
    access=EVENTS_WRITE,
    returns="eventReceiptList",
    status=202,
    route=route,
    graphql=False,
)
async def create(context: Context) -> Answer:
    """Execute the functions that subscribe to CloudEvents."""
    request = context.request
    occurrences = incoming.parse(request.headers, request.content_type, await _body(request))
    return await _told(context.app, context.project, occurrences, source="cloudevents")


async def _take_webhook(request: web.Request) -> Answer:
    project = project_of(request)
    known = await request.app[WEBHOOKS].find(project.namespace, request.headers)
    occurrence = webhook.occurrence(known, request.headers, await _body(request))
    return await _told(request.app, project, [occurrence], source="webhook")


async def _body(request: web.Request) -> bytes:
    """Return the body; a large one is refused before it is read, where its length is told."""
    message = f"The request's body is too large: at most {MAX_BODY} bytes of events at once."
    if (request.content_length or 0) > MAX_BODY:
        raise AppwriteError(Problem.PAYLOAD_TOO_LARGE, message)
    body = await http.read_body(request)
    if len(body) > MAX_BODY:
        raise AppwriteError(Problem.PAYLOAD_TOO_LARGE, message)
    return body


async def _told(app: web.Application, project: Project, occurrences: list[Occurrence], *, source: str) -> Answer:
    delivery = app[DELIVERY]
    matched = [(occurrence, delivery.match(project.namespace, occurrence)) for occurrence in occurrences]
    if (count := sum(len(functions) for _, functions in matched)) > MAX_EXECUTIONS:
        message = f"The events execute {count} functions, at most {MAX_EXECUTIONS} at once may be: send fewer events."
        raise AppwriteError(Problem.ARGUMENT_INVALID, message)
    told = await delivery.tell(matched)
    app[METRICS].events.told(project.namespace, source, **counted(told))
    receipts = [_receipt(occurrence, items) for occurrence, items in zip(occurrences, told, strict=True)]
    return Answer(content={"total": len(receipts), "events": receipts}, status=202)


def _receipt(occurrence: Occurrence, told: list[Told]) -> Json:
    """Return what became of an event."""
    return {
        "id": occurrence.id,
        "source": occurrence.source,
        "event": occurrence.names[0],
        "executions": [_execution(item.function, item) for item in told if item.execution_id],
        "skipped": [{"functionId": item.function.appwrite_id, "reason": item.skipped} for item in told if item.skipped],
    }


def _execution(function: Function, told: Told) -> Json:
    return {"functionId": function.appwrite_id, "executionId": told.execution_id, "duplicate": not told.new}
