"""The public routes of what functions are made of: runtimes, sizes, templates, and what appfn has not got."""

from appfn.shim import specifications
from appfn.shim.auth.access import DEPLOYMENT_CREATE, RUNTIME_LIST
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.rest import function_models
from appfn.shim.rest.operation import Answer, Context, In, Operations, Parameter, Type, path
from appfn.shim.services import CATALOG

_UPLOAD = (
    "Templates and Git integrations are not part of appfn: "
    "upload the code, or give a Deployment a git source with kubectl."
)

operations = Operations()


@operations.add(
    "functions.listRuntimes",
    "GET /functions/runtimes",
    access=RUNTIME_LIST,
    parameters=(Parameter(name="total", where=In.QUERY, type=Type.BOOLEAN, about="Taken, without effect."),),
    returns="runtimeList",
)
async def list_runtimes(context: Context) -> Answer:
    """Return the runtimes that functions can have."""
    shown = [function_models.runtime(runtime) for runtime in context.app[CATALOG].runtimes()]
    return Answer(content={"total": len(shown), "runtimes": shown})


@operations.add(
    "functions.listSpecifications",
    "GET /functions/specifications",
    access=RUNTIME_LIST,
    parameters=(Parameter(name="type", where=In.QUERY, max_length=32, about="builds or runtimes: the same sizes."),),
    returns="specificationList",
)
async def list_specifications(_context: Context) -> Answer:
    """Return the sizes that functions can have."""
    shown = [size.model() for size in specifications.ALL]
    return Answer(content={"total": len(shown), "specifications": shown})


@operations.add(
    "functions.listTemplates",
    "GET /functions/templates",
    access=RUNTIME_LIST,
    returns="templateFunctionList",
)
async def list_templates(_context: Context) -> Answer:
    """Return no templates: there are none here."""
    return Answer(content={"total": 0, "templates": []})


@operations.add(
    "functions.getTemplate",
    "GET /functions/templates/{templateId}",
    access=RUNTIME_LIST,
    parameters=(path("templateId"),),
    returns="templateFunction",
)
async def get_template(_context: Context) -> Answer:
    """Say that there is no such template."""
    raise AppwriteError(Problem.TEMPLATE_NOT_FOUND)


@operations.add(
    "functions.createTemplateDeployment",
    "POST /functions/{functionId}/deployments/template",
    access=DEPLOYMENT_CREATE,
    parameters=(path("functionId"),),
    returns="deployment",
    status=202,
)
@operations.add(
    "functions.createVcsDeployment",
    "POST /functions/{functionId}/deployments/vcs",
    access=DEPLOYMENT_CREATE,
    parameters=(path("functionId"),),
    returns="deployment",
    status=202,
)
async def create_deployment_from_elsewhere(_context: Context) -> Answer:
    """Say that there are neither templates nor a Git integration."""
    raise AppwriteError(Problem.NOT_IMPLEMENTED, _UPLOAD)
