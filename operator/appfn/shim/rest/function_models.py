"""Models of functions, their variables and runtimes in each format, pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from appfn.api.base import Json
from appfn.api.deployment import Deployment
from appfn.api.function import Function
from appfn.api.runtime import Architecture, Runtime
from appfn.shim import models_deployments, specifications
from appfn.shim.formats import Format
from appfn.shim.function_variables import Known
from appfn.shim.models import timestamp
from appfn.shim.rest.function_arguments import notes

ATTRIBUTES = {
    name: name
    for name in (
        "$id",
        "$createdAt",
        "$updatedAt",
        "name",
        "enabled",
        "logging",
        "runtime",
        "deploymentId",
        "schedule",
        "scheduleNext",
        "schedulePrevious",
        "timeout",
        "entrypoint",
        "commands",
        "events",
        "execute",
    )
} | {"deployment": "deploymentId"}
"""What functions can be filtered and ordered by, and where it stands in `function`."""
_SINCE_1_7 = (
    "deploymentId",
    "deploymentCreatedAt",
    "latestDeploymentId",
    "latestDeploymentCreatedAt",
    "latestDeploymentStatus",
    "buildSpecification",
    "runtimeSpecification",
)
_UNTIL_1_3 = (
    "$id",
    "$createdAt",
    "$updatedAt",
    "execute",
    "name",
    "enabled",
    "runtime",
    "events",
    "schedule",
    "scheduleNext",
    "schedulePrevious",
    "timeout",
)
_OLD_ROLES = {"any": "role:all", "users": "role:member", "guests": "role:guest"}
_ARCHITECTURES = {Architecture.AMD64: "x86", Architecture.ARM64: "arm64"}


def function(item: Function, *, active: Deployment | None, latest: Deployment | None) -> Json:
    """Return all that any format shows of a function but its variables: what lists are filtered by.

    Args:
        item: the function.
        active: the deployment that calls go to.
        latest: the newest one.
    """
    spec, kept = item.spec, notes(item)
    return {
        **_dates(item),
        "execute": list(spec.execute),
        "name": item.display_name,
        "description": str(kept.get("description", "")),
        "enabled": spec.enabled,
        "live": True,
        "logging": spec.logging,
        "runtime": spec.runtime,
        "deploymentRetention": 0,
        "deploymentId": active.appwrite_id if active else "",
        "deploymentCreatedAt": _date(active.metadata.creation_timestamp) if active else "",
        "latestDeploymentId": latest.appwrite_id if latest else "",
        "latestDeploymentCreatedAt": _date(latest.metadata.creation_timestamp) if latest else "",
        "latestDeploymentStatus": models_deployments.status(latest) if latest else "",
        "scopes": [str(scope) for scope in scopes] if isinstance(scopes := kept.get("scopes"), list) else [],
        "events": list(spec.events),
        "schedule": spec.schedule,
        "scheduleNext": _date(item.status.schedule_next),
        "schedulePrevious": _date(item.status.schedule_previous),
        "interval": 0,
        "timeout": spec.timeout,
        "entrypoint": spec.entrypoint,
        "commands": spec.commands,
        "version": "v5",
        "installationId": "",
        "providerRepositoryId": "",
        "providerBranch": "",
        "providerRootDirectory": "",
        "providerSilentMode": False,
        "providerBranches": [],
        "providerPaths": [],
        "buildSpecification": specifications.DEFAULT.slug,
        "runtimeSpecification": specifications.slug_of(spec.resources),
        "emailEnabled": False,
    }


def shown(whole: Json, variables: Sequence[Json], format_: Format) -> Json:
    """Return the Function model of a format.

    Args:
        whole: what `function` returned.
        variables: what `variable` returned for each.
        format_: the client's dialect.
    """
    match format_:
        case Format.V0:
            return _function_v0(whole, variables)
        case Format.V1_0:
            old = {name: whole[name] for name in _UNTIL_1_3}
            return old | {"deployment": whole["deploymentId"], "vars": _each(variables, format_)}
        case Format.V1_4 | Format.V1_6:
            rest = {name: value for name, value in whole.items() if name not in _SINCE_1_7}
            old = {"deployment": whole["deploymentId"], "specification": whole["runtimeSpecification"]}
            return rest | old | {"vars": _each(variables, format_)}
        case Format.V1_7:
            return whole | {"vars": _each(variables, format_)}
        case _:
            assert_never(format_)


def variable(item: Known, function_id: str, value: str) -> Json:
    """Return all that any format shows of a variable; `value` is never that of a secret one."""
    return {
        "$id": item.id,
        "$createdAt": _date(item.created_at),
        "$updatedAt": _date(item.updated_at),
        "key": item.name,
        "description": "",
        "value": "" if item.secret else value,
        "secret": item.secret,
        "resourceType": "function",
        "resourceId": function_id,
    }


def shown_variable(whole: Json, format_: Format) -> Json:
    """Return the Variable model of a format."""
    if format_ >= Format.V1_4:
        return whole
    old = {name: whole[name] for name in ("$id", "$createdAt", "$updatedAt", "key", "value")}
    return old | {"functionId": whole["resourceId"]}


def runtime(item: Runtime) -> Json:
    """Return the Runtime model."""
    image = item.spec.images[0].image if item.spec.images else ""
    return {
        "$id": item.metadata.name,
        "key": item.spec.language,
        "name": item.spec.display_name,
        "version": item.spec.version,
        "base": image,
        "image": image,
        "logo": f"{item.spec.language}.png",
        "supports": [_ARCHITECTURES[entry.architecture] for entry in item.spec.images],
    }


def _function_v0(whole: Json, variables: Sequence[Json]) -> Json:
    old = {name: whole[name] for name in _UNTIL_1_3 if name != "enabled"}
    dates = {name: _unix(whole[name]) for name in ("$createdAt", "$updatedAt", "scheduleNext", "schedulePrevious")}
    return (
        old
        | dates
        | {
            "execute": [_OLD_ROLES.get(role, role) for role in whole["execute"]],
            "status": "enabled" if whole["enabled"] else "disabled",
            "deployment": whole["deploymentId"],
            "vars": {item["key"]: item["value"] for item in variables},
        }
    )


def _each(variables: Sequence[Json], format_: Format) -> list[Json]:
    return [shown_variable(item, format_) for item in variables]


def _dates(item: Function) -> Json:
    return {
        "$id": item.appwrite_id,
        "$createdAt": _date(item.metadata.creation_timestamp),
        "$updatedAt": _date(item.metadata.changed_at),
    }


def _date(moment: datetime | None) -> str:
    return timestamp(moment) if moment else ""


def _unix(date: str) -> int:
    return int(datetime.fromisoformat(date).timestamp()) if date else 0
