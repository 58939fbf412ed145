"""A call that came to a process which has no pods for it is answered by one that has.

A function with fewer pods than there are processes has none in some of them. Where a call goes follows from the
function's uid and limits alone. Caches may disagree about the limits for a moment: so a call that was handed over, and
finds no pods again, goes to the process that serves whatever the limits, and no further.
"""

from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import hdrs, web
from multidict import CIMultiDict, istr
from yarl import URL

from appfn.api.base import Json
from appfn.api.function import Function
from appfn.core import shares
from appfn.shim import formats, http, siblings
from appfn.shim.callee import Project
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.formats import Format
from appfn.shim.middleware import REQUEST_ID
from appfn.shim.rest.operation import Answer, Context
from appfn.shim.services import CATALOG, SIBLINGS
from appfn.shim.siblings import SiblingLostError, from_sibling

_REQUEST_ID_HEADER = istr("X-Request-Id")
_OF_A_CONNECTION = (
    hdrs.CONNECTION,
    hdrs.CONTENT_LENGTH,
    hdrs.EXPECT,
    hdrs.KEEP_ALIVE,
    hdrs.TE,
    hdrs.TRAILER,
    hdrs.TRANSFER_ENCODING,
    hdrs.UPGRADE,
)
_OF_A_BODY = (hdrs.CONTENT_TYPE, hdrs.CONTENT_ENCODING, "Idempotency-Key", "Origin")
_LOST = "The process that ran this call was lost; whether it finished is unknown."


async def elsewhere(request: web.Request, project: Project) -> web.Response | None:
    """As `to_server`, for the function that the path names; None also where there is no such function."""
    if request.app[SIBLINGS].part.count == 1:
        return None
    try:
        function = request.app[CATALOG].function(project, request.match_info["functionId"])
    except AppwriteError:  # this process says so as well, after what else is to be said
        return None
    return await to_server(request, function)


async def to_server(request: web.Request, function: Function) -> web.Response | None:
    """Return what the process answers that runs this function's calls; None where it is this one.

    Raises:
        TransientError: that process is not there.
        AppwriteError: general_server_error where it was lost with the call; likewise what is wrong with the body.
    """
    index = _server(request, function)
    if index is None:
        return None
    body = await http.read_body(request)
    answer = await _send(request, index, request.rel_url, headers=_end_to_end(request.headers), body=body)
    return web.Response(status=answer.status, headers=_end_to_end(answer.headers), body=answer.body)


async def executed_elsewhere(context: Context, body: Json) -> Answer | None:
    """Have an execution made that came in another form than its own request; None where this process makes it.

    Args:
        context: of the call; `functionId` is among its arguments.
        body: what the request for it would hold.

    Raises:
        TransientError: the process that runs the function is not there.
        AppwriteError: general_server_error where it was lost with the call; likewise whatever it answers.
    """
    request = context.request
    if request.app[SIBLINGS].part.count == 1:
        return None
    id_ = context.text("functionId")
    index = _server(request, request.app[CATALOG].function(context.project, id_))
    if index is None:
        return None
    headers = _end_to_end(request.headers)
    for name in _OF_A_BODY:
        headers.popall(name, None)
    headers[hdrs.CONTENT_TYPE] = http.CONTENT_TYPE
    if context.format is Format.V1_0:
        headers[formats.HEADER] = "1.0.0"  # GraphQL takes an older one for this
    url = URL.build(path=f"/v1/functions/{id_}/executions", query={"project": context.project.id})
    answer = await _send(request, index, url, headers=headers, body=http.dumps(body))
    content = http.parse_json(answer.body)
    if answer.status >= HTTPStatus.BAD_REQUEST:
        raise AppwriteError(_problem(content), str(content.get("message", "")))
    return Answer(content=content, status=answer.status)


def _problem(content: Json) -> Problem:
    return next((problem for problem in Problem if problem.type == content.get("type")), Problem.SERVER_ERROR)


def _server(request: web.Request, function: Function) -> int | None:
    """Return which process runs a function's calls; None for this one."""
    part = request.app[SIBLINGS].part
    index = shares.elsewhere(function, part)
    if index is None:
        return None
    return part.first_server(function.metadata.uid) if from_sibling(request) else index


async def _send(
    request: web.Request, index: int, url: URL, *, headers: CIMultiDict[str], body: bytes
) -> siblings.Answer:
    headers[_REQUEST_ID_HEADER] = request[REQUEST_ID]
    try:
        return await request.app[SIBLINGS].send(index, request.method, url, headers=headers, body=body)
    except SiblingLostError as error:
        raise AppwriteError(Problem.SERVER_ERROR, _LOST) from error


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return headers without those that are about one connection."""
    kept = CIMultiDict(headers)
    for name in _OF_A_CONNECTION:
        kept.popall(name, None)
    return kept
