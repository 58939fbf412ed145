"""A call that came to a process which has no pods for it is answered by one that has.

A function with fewer pods than there are processes has none in some of them. Where a call goes follows from the
function's uid and limits alone. Caches may disagree about the limits for a moment: so a call that was handed over, and
finds no pods again, goes to the process that serves whatever the limits, and no further.
"""

from collections.abc import Mapping

from aiohttp import hdrs, web
from multidict import CIMultiDict, istr

from appfn.api.function import Function
from appfn.core.shares import servers
from appfn.shim import http
from appfn.shim.catalog import Project
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.middleware import REQUEST_ID
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
    siblings, uid = request.app[SIBLINGS], function.metadata.uid
    part = siblings.part
    index = part.server(uid, servers=servers(function.spec.scaling))
    if index == part.index:
        return None
    if from_sibling(request):
        index = part.first_server(uid)
    headers = _end_to_end(request.headers)
    headers[_REQUEST_ID_HEADER] = request[REQUEST_ID]
    body = await http.read_body(request)
    try:
        answer = await siblings.send(index, request.method, request.rel_url, headers=headers, body=body)
    except SiblingLostError as error:
        raise AppwriteError(Problem.SERVER_ERROR, _LOST) from error
    return web.Response(status=answer.status, headers=_end_to_end(answer.headers), body=answer.body)


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return headers without those that are about one connection."""
    kept = CIMultiDict(headers)
    for name in _OF_A_CONNECTION:
        kept.popall(name, None)
    return kept
