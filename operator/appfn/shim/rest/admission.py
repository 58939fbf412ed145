"""Whether a request may do what it wants: project, caller, rights, in Appwrite's order."""

from aiohttp import web

from appfn.shim import formats
from appfn.shim.auth.access import Access
from appfn.shim.auth.identity import Caller
from appfn.shim.callee import Project
from appfn.shim.formats import Format
from appfn.shim.services import AUTH, CATALOG

PROJECT_HEADER = "X-Appwrite-Project"


async def admit(request: web.Request, access: Access) -> tuple[Project, Caller]:
    """Return the project that a request names, and its caller, who has the rights that `access` asks for.

    Raises:
        AppwriteError: project_unknown, project_not_found, project_key_expired, user_jwt_invalid,
            general_unauthorized_scope.
        TransientError: the API server can't say.
    """
    project, caller = await identify(request)
    await request.app[AUTH].authorize(caller, access, project)
    return project, caller


async def identify(request: web.Request) -> tuple[Project, Caller]:
    """As `admit`, for any right."""
    project = project_of(request)
    return project, await request.app[AUTH].caller(request.headers, project)


def project_of(request: web.Request) -> Project:
    """Return the project that a request names, whoever sent it; raises as `admit`."""
    return request.app[CATALOG].project(request.headers.get(PROJECT_HEADER) or request.query.get("project", ""))


def format_of(request: web.Request) -> Format:
    """Return the dialect to answer a request in."""
    return formats.negotiate(request.headers.get(formats.HEADER))
