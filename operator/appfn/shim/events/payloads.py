"""What is told of a function, a deployment or an execution: Appwrite's models of the current format, pure."""

from dataclasses import replace
from datetime import datetime

from appfn.api.base import Json
from appfn.api.deployment import BuildPhase, Deployment
from appfn.api.function import Function
from appfn.core.records import ExecutionRecord
from appfn.shim import models
from appfn.shim.formats import Format

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


def function(item: Function) -> Json:
    """Return what is told of a function."""
    spec, meta = item.spec, item.metadata
    return {
        "$id": item.appwrite_id,
        "$createdAt": _date(meta.creation_timestamp),
        "execute": spec.execute,
        "name": item.display_name,
        "enabled": spec.enabled,
        "runtime": spec.runtime,
        "events": spec.events,
        "schedule": spec.schedule,
        "timeout": spec.timeout,
    }


def deployment(item: Deployment, *, function_id: str) -> Json:
    """Return what is told of a deployment."""
    return {
        "$id": item.appwrite_id,
        "$createdAt": _date(item.metadata.creation_timestamp),
        "resourceId": function_id,
        "resourceType": "functions",
        "entrypoint": item.spec.entrypoint,
        "activate": item.spec.activate,
        "status": (item.status.phase or BuildPhase.PROCESSING).value,
    }


def _date(moment: datetime | None) -> str:
    return models.timestamp(moment) if moment else ""
