"""The application: routes, what surrounds them, and the parts they use."""

from aiohttp import web

from appfn.core.shares import Part
from appfn.shim import health, processes, services
from appfn.shim.bodies import BodyRoom
from appfn.shim.client_address import Proxies
from appfn.shim.cors import cors
from appfn.shim.drain import Drain
from appfn.shim.front.site import add_front
from appfn.shim.graphql import route as graphql
from appfn.shim.internal import artifacts as internal_artifacts
from appfn.shim.internal import executions as internal_executions
from appfn.shim.internal import pods as internal_pods
from appfn.shim.metrics import Metrics
from appfn.shim.middleware import errors, observe
from appfn.shim.rate_limit import RateLimit
from appfn.shim.rest import absent
from appfn.shim.rest import routes as rest
from appfn.shim.services import BODIES, CONFIG, DRAIN, METRICS, RATE_LIMIT, SPOOL_ROOM, SURROUNDINGS, Surroundings


def create_app(surroundings: Surroundings) -> web.Application:
    """Return the application. It opens its parts when it is started and owns them until it is cleaned up.

    Raises:
        ConfigError: something can't be used as it is configured.
    """
    config = surroundings.config.shim
    app = web.Application(middlewares=[observe, cors, errors], client_max_size=config.max_payload_bytes)
    app[SURROUNDINGS] = surroundings
    app[CONFIG] = config
    app[DRAIN] = Drain(seconds=config.drain_seconds)
    app[BODIES] = BodyRoom(max(Part.of(config).share(config.max_bodies_bytes), config.max_payload_bytes))
    app[SPOOL_ROOM] = BodyRoom(max(Part.of(config).share(config.max_spool_bytes), config.max_source_bytes))
    app[METRICS] = Metrics()
    app[RATE_LIMIT] = RateLimit(
        limit=config.rate_limit,
        proxies=Proxies.parse(config.trusted_proxies),
        now=lambda: surroundings.now().timestamp(),
    )
    app.cleanup_ctx.extend((*services.ALL, health.metrics_page))
    for module in (health, processes, internal_artifacts, internal_executions, internal_pods):
        app.add_routes(module.routes)
    app.add_routes(rest.routes())
    graphql.add_to(app, rest.operations())
    app.add_routes(absent.routes)  # last: they take whatever others leave of Appwrite's paths
    add_front(app)
    return app
