"""Runtime pods, as their agents announce them."""

import ipaddress

from aiohttp import web

from appfn.shim import http
from appfn.shim.errors import AppwriteError, Problem, invalid_argument
from appfn.shim.internal import access
from appfn.shim.services import CATALOG, INVOKER

routes = web.RouteTableDef()


@routes.post("/internal/v1/pods")
async def announce(request: web.Request) -> web.Response:
    """Take in where a pod's agent listens; answer with the hash of the token that a load will bring.

    Whose pod it is, its token says: a pod can speak for itself alone.
    """
    namespace, pod = await access.runtime_pod(request)
    if request.app[CATALOG].project_of(namespace) is None:
        raise AppwriteError(Problem.INTERNAL_NOT_FOUND, f"Namespace {namespace!r} is not a project.")
    address = http.text(await http.read_json(request), "address", required=True)
    try:
        ipaddress.ip_address(address)
    except ValueError as error:
        raise invalid_argument("address", "Value must be an IP address") from error
    return http.reply({"loadTokenSha256": request.app[INVOKER].announce(namespace, pod, address=address)})
