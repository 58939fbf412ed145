"""The processes of one shim as a whole, whichever of them is asked: metrics, health, pods, what ended a moment ago."""

from http import HTTPStatus

from aiohttp import web

from appfn.shim import exposition, http
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.services import DRAIN, INVOKER, METRICS, SIBLINGS, STORE, WORKER
from appfn.shim.siblings import from_sibling

_FLUSH, _HEALTH, _METRICS = "/siblings/flush", "/siblings/health", "/siblings/metrics"
_PODS, _REPLICAS = "/siblings/pods", "/siblings/replicas"
_OWN, _SHARED = "own", "shared"
"""How a pod has proved who it is: by a token of its own, or by one that its siblings have too."""
routes = web.RouteTableDef()


async def flush(app: web.Application) -> None:
    """Return when the database shows what ended in other processes before."""
    await app[SIBLINGS].ask("POST", _FLUSH)


async def alive(app: web.Application) -> bool:
    """Tell whether all event loops turn and all workers make their rounds; while draining the others may be gone."""
    if not app[WORKER].alive or app[DRAIN].draining:
        return app[WORKER].alive
    siblings = app[SIBLINGS]
    answers = await siblings.ask("GET", _HEALTH)
    well = sum(answer.status == HTTPStatus.OK for answer in answers.values())
    return well == siblings.part.count - 1


async def metrics(app: web.Application) -> bytes:
    """Return what Prometheus reads; of several processes each sample says whose it is."""
    own, siblings = app[METRICS].render(), app[SIBLINGS]
    if siblings.part.count == 1:
        return own
    answers = await siblings.ask("GET", _METRICS)
    texts = {index: answer.body for index, answer in answers.items() if answer.status == HTTPStatus.OK}
    return exposition.merged(dict(sorted({siblings.part.index: own, **texts}.items())))


async def ready_pods(app: web.Application, function_uid: str) -> int:
    """Return how many loaded pods a function has."""
    own = app[INVOKER].replicas(function_uid).ready
    answers = await app[SIBLINGS].ask("GET", f"{_REPLICAS}/{function_uid}")
    return own + sum(int(answer.body) for answer in answers.values() if answer.status == HTTPStatus.OK)


async def announce(app: web.Application, namespace: str, pod: str, *, address: str, own_token: bool) -> str:
    """Tell all dispatchers where a pod's agent listens, as its own may be any; return the hash of its load token."""
    told = app[INVOKER].announce(namespace, pod, address=address, own_token=own_token)
    await app[SIBLINGS].ask("POST", f"{_PODS}/{namespace}/{pod}/{address}/{_OWN if own_token else _SHARED}")
    return told


@routes.post(f"{_PODS}/{{namespace}}/{{pod}}/{{address}}/{{token:{_OWN}|{_SHARED}}}")
async def announce_to_own(request: web.Request) -> web.Response:
    """Take in where a pod's agent listens."""
    _siblings_only(request)
    place = request.match_info
    own_token = place["token"] == _OWN
    request.app[INVOKER].announce(place["namespace"], place["pod"], address=place["address"], own_token=own_token)
    return http.reply({})


@routes.post(_FLUSH)
async def flush_own(request: web.Request) -> web.Response:
    """Write what waits to be written."""
    _siblings_only(request)
    await request.app[STORE].flush()
    return http.reply({})


@routes.get(_HEALTH)
async def health_of_own(request: web.Request) -> web.Response:
    """Tell whether this process is well."""
    _siblings_only(request)
    return http.reply({}, status=HTTPStatus.OK if request.app[WORKER].alive else HTTPStatus.SERVICE_UNAVAILABLE)


@routes.get(_METRICS)
async def metrics_of_own(request: web.Request) -> web.Response:
    """Return this process's metrics."""
    _siblings_only(request)
    return web.Response(body=request.app[METRICS].render())


@routes.get(f"{_REPLICAS}/{{uid}}")
async def ready_pods_of_own(request: web.Request) -> web.Response:
    """Return how many loaded pods of a function this process has."""
    _siblings_only(request)
    return web.Response(text=str(request.app[INVOKER].replicas(request.match_info["uid"]).ready))


def _siblings_only(request: web.Request) -> None:
    if not from_sibling(request):
        raise AppwriteError(Problem.ROUTE_NOT_FOUND)
