"""What Appwrite has and appfn has not: a client that asks for it learns so, instead of that it mistyped a path."""

from aiohttp import web

from appfn.shim import http
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.rest.admission import identify

SERVICES = (
    *("account", "activities", "apps", "avatars", "backups", "console", "databases", "documentsdb", "domains"),
    *("embeddings", "health", "locale", "messaging", "migrations", "mongo", "mysql", "oauth2", "organization"),
    *("organizations", "postgresql", "presences", "project", "projects", "proxy", "reports", "sites", "storage"),
    *("tablesdb", "teams", "tokens", "users", "vcs", "vectorsdb", "waf", "webhooks"),
)
"""First parts of the paths of Appwrite's other services. What is served below one of them has a route of its own."""
_SERVICE = "{service:" + "|".join(SERVICES) + "}"

routes = web.RouteTableDef()


@routes.get("/v1/proxy/rules")
async def rules(request: web.Request) -> web.Response:
    """Return no rule: functions have no domains here. The CLI asks after each push, to show the function's address."""
    await identify(request)
    return http.reply({"total": 0, "rules": []})


@routes.route("*", f"/v1/{_SERVICE}")
@routes.route("*", f"/v1/{_SERVICE}/{{rest:.*}}")
async def absent(request: web.Request) -> web.Response:
    """Refuse what belongs to a service that appfn does not have."""
    service = request.match_info["service"]
    raise AppwriteError(
        Problem.NOT_IMPLEMENTED, f'appfn has Appwrite\'s functions alone: this method of "{service}" is not part of it.'
    )
