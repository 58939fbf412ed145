"""What the agents of pods tell of themselves. By its own token a pod speaks for itself alone.

A pod made for a call, of one container, has its Deployment's, and can speak for all pods of that: they run the same
code with the same variables.
"""

import ipaddress
import json

from aiohttp import web

from appfn import names
from appfn.api.kinds import POD, Key
from appfn.shim import http, processes
from appfn.shim.errors import AppwriteError, Problem, invalid_argument
from appfn.shim.internal import access
from appfn.shim.services import CATALOG, SURROUNDINGS

routes = web.RouteTableDef()

MAX_REPORT = 4096
"""Characters; a termination message has no more either."""


@routes.post("/internal/v1/pods")
async def announce(request: web.Request) -> web.Response:
    """Take in where a runtime pod's agent listens; answer with the hash of the token that a load will bring."""
    namespace, pod, own_token = await access.runtime_pod(request)
    if request.app[CATALOG].project_of(namespace) is None:
        raise AppwriteError(Problem.INTERNAL_NOT_FOUND, f"Namespace {namespace!r} is not a project.")
    address = _address(http.text(await http.read_json(request), "address", required=True))
    told = await processes.announce(request.app, namespace, pod, address=address, own_token=own_token)
    return http.reply({"loadTokenSha256": told})


@routes.post("/internal/v1/build-reports")
async def report(request: web.Request) -> web.Response:
    """Write the report of a build on its pod, where the operator's watch sees it before the kubelet's next look."""
    namespace, pod = await access.build_pod(request)
    if request.app[CATALOG].project_of(namespace) is None:
        raise AppwriteError(Problem.INTERNAL_NOT_FOUND, f"Namespace {namespace!r} is not a project.")
    text = json.dumps(await http.read_json(request), separators=(",", ":"))
    if len(text) > MAX_REPORT:
        raise invalid_argument("report", f"Value must have {MAX_REPORT} characters at most")
    patch = {"metadata": {"annotations": {names.ANNOTATION_BUILD_REPORT: text}}}
    cluster = request.app[SURROUNDINGS].cluster
    if await cluster.merge_patch(POD, Key(namespace, pod), patch, manager=names.FIELD_MANAGER_SHIM) is None:
        raise AppwriteError(Problem.INTERNAL_NOT_FOUND, "The pod is gone.")
    return http.reply({})


def _address(text: str) -> str:
    """Return an IP address. None with a zone: that may be nearly any text, and the address becomes a part of paths.

    Raises:
        AppwriteError: general_argument_invalid.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise invalid_argument("address", "Value must be an IP address") from error
    if "%" in text:
        raise invalid_argument("address", "Value must be an IP address without a zone")
    return str(address)
