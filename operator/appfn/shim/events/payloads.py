"""What is told of a function, a deployment or an execution: the API's models of the current format."""

from msgspec.structs import replace

from appfn.api.base import Json
from appfn.api.deployment import Deployment
from appfn.api.function import Function
from appfn.core.records import ExecutionRecord
from appfn.shim import models, models_deployments
from appfn.shim.catalog import Catalog
from appfn.shim.formats import Format
from appfn.shim.rest import function_models

MAX_OUTPUT = 65_536
"""Characters of response, stdout and stderr of an execution; the API has them whole."""


def execution(record: ExecutionRecord, *, function: Function, deployment_id: str) -> Json:
    """Return what is told of an execution."""
    if (outcome := record.outcome) is not None:
        cut = {name: getattr(outcome, name)[:MAX_OUTPUT] for name in ("response", "stdout", "stderr")}
        record = replace(record, outcome=replace(outcome, **cut))
    return models.execution(
        record, Format.V1_7, function_id=function.appwrite_id, deployment_id=deployment_id, logs=True
    )


def function(item: Function, catalog: Catalog) -> Json:
    """Return what is told of a function: all but its variables, which are no business of other functions."""
    deployments = catalog.deployments(item)
    active = next((each for each in deployments if each.metadata.name == item.status.active_deployment), None)
    whole = function_models.function(item, active=active, latest=deployments[-1] if deployments else None)
    return function_models.shown(whole, (), Format.V1_7)


def deployment(item: Deployment, *, function_id: str) -> Json:
    """Return what is told of a deployment, with the last lines of its builds' logs."""
    return models_deployments.model(models_deployments.view(item, function_id=function_id), Format.V1_7)
