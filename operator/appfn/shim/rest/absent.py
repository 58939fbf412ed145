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


@routes.get("/v1/functions/templates")
@routes.get("/v1/functions/templates/{templateId}")
async def templates(_request: web.Request) -> web.Response:
    """Refuse: there is no catalogue of templates."""
    raise AppwriteError(Problem.NOT_IMPLEMENTED, "appfn has no templates: deploy the code itself.")


@routes.post("/v1/functions/{functionId}/deployments/template")
async def template_deployment(_request: web.Request) -> web.Response:
    """Refuse, and say what does it."""
    message = "appfn does not deploy templates: upload the code, or apply a Deployment whose source is git."
    raise AppwriteError(Problem.NOT_IMPLEMENTED, message)


@routes.post("/v1/functions/{functionId}/deployments/vcs")
async def vcs_deployment(_request: web.Request) -> web.Response:
    """Refuse, and say what does it."""
    message = "appfn has no VCS installations: upload the code, or apply a Deployment whose source is git."
    raise AppwriteError(Problem.NOT_IMPLEMENTED, message)


@routes.route("*", f"/v1/{_SERVICE}")
@routes.route("*", f"/v1/{_SERVICE}/{{rest:.*}}")
async def absent(request: web.Request) -> web.Response:
    """Refuse what belongs to a service that appfn does not have."""
    service = request.match_info["service"]
    raise AppwriteError(
        Problem.NOT_IMPLEMENTED, f'appfn has Appwrite\'s functions alone: this method of "{service}" is not part of it.'
    )
