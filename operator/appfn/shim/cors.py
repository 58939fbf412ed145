"""Web clients: what a browser is told before and with each answer, and pages that a project does not know.

A preflight does not name the project, so that it is answered to every page, as in Appwrite; the request itself does.
Nothing here is protected by cookies: a token or key stands in a header that no other page can make a browser send.
"""

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from appfn import names
from appfn.shim import http
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.rest.admission import PROJECT_HEADER
from appfn.shim.services import CATALOG

_PREFIX = "/v1/"
_READING = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})
_MAX_SHOWN = 128
_ALLOWED = {
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST, PUT, PATCH, DELETE",
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: (
        "Accept, Access-Control-Allow-Origin, Access-Control-Request-Headers, Authorization, Cache-Control, "
        "Content-Range, Content-Type, Cookie, Expires, Idempotency-Key, Origin, Pragma, Range, Set-Cookie, "
        "X-Appwrite-Dev-Key, X-Appwrite-ID, X-Appwrite-JWT, X-Appwrite-Key, X-Appwrite-Locale, X-Appwrite-Mode, "
        "X-Appwrite-Project, X-Appwrite-Response-Format, X-Appwrite-Session, X-Appwrite-Timestamp, "
        "X-Fallback-Cookies, X-Forwarded-User-Agent, X-Request-Id, X-Requested-With, X-SDK-GraphQL, "
        "X-SDK-Language, X-SDK-Name, X-SDK-Platform, X-SDK-Profile, X-SDK-Version"
    ),
    hdrs.ACCESS_CONTROL_MAX_AGE: "600",
}
_EXPOSED = {
    hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS: "true",
    hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: (
        "X-Fallback-Cookies, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-Id"
    ),
}


@web.middleware
async def cors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer preflights; tell browsers which pages may read an answer; refuse what others want to change."""
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None or not request.path.startswith(_PREFIX):
        return await handler(request)
    allowed = _allows(request, origin)
    if request.method == hdrs.METH_OPTIONS:
        response: web.StreamResponse = web.Response(
            status=204, headers={hdrs.CONTENT_TYPE: http.CONTENT_TYPE, **(_ALLOWED if allowed else {})}
        )
    elif allowed or request.method in _READING or request.headers.get("X-Appwrite-Key"):
        response = await handler(request)
    else:
        response = http.failure(_unknown(origin))
    if not response.prepared:
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        if allowed:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers.update(_EXPOSED)
    return response


def _allows(request: web.Request, origin: str) -> bool:
    """Tell whether the project allows the origin; where no project is found, the answer tells of none."""
    try:
        project = request.app[CATALOG].project(request.headers.get(PROJECT_HEADER) or request.query.get("project", ""))
    except AppwriteError:
        return True
    return project.origins.allow(origin)


def _unknown(origin: str) -> AppwriteError:
    message = (
        f"Invalid Origin. Register your new client ({origin[:_MAX_SHOWN]}) in the annotation "
        f"{names.ANNOTATION_ORIGINS} of the project's namespace."
    )
    return AppwriteError(Problem.UNKNOWN_ORIGIN, message)
