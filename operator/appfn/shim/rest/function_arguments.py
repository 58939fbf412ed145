"""What clients of all generations say of a function they make or change, pure: arguments in, a Function's spec out."""

import json
import re
import secrets
from collections.abc import Collection

from appfn import names
from appfn.api.base import Json
from appfn.api.function import Function
from appfn.core import events
from appfn.core.schedule import parse_schedule
from appfn.errors import InvalidSpecError
from appfn.shim import specifications
from appfn.shim.errors import AppwriteError, Problem, invalid_argument
from appfn.shim.formats import Format
from appfn.shim.rest.operation import Parameter, Type

UNIQUE = "unique()"
_ID_BYTES = 10
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}", re.ASCII)
_NO_GIT = "Git integrations are not part of appfn: give a Deployment a git source, or upload the code."

COMMON = (
    Parameter(name="name", required=True, max_length=128, about="What people call it."),
    Parameter(name="execute", type=Type.STRINGS, max_items=100, max_length=128, about="Roles that may execute it."),
    Parameter(name="events", type=Type.STRINGS, max_items=100, max_length=256, about="Events that execute it."),
    Parameter(name="schedule", max_length=128, about="When it runs by itself: five cron fields."),
    Parameter(name="timeout", type=Type.INTEGER, low=1, high=900, about="Seconds an execution may take; 15."),
    Parameter(name="enabled", type=Type.BOOLEAN, about="Whether it may be executed; true."),
    Parameter(name="logging", type=Type.BOOLEAN, about="Whether its logs are kept; true."),
    Parameter(name="entrypoint", max_length=255, about="Entrypoint of deployments that name none."),
    Parameter(name="commands", max_length=8192, about="Build commands of deployments that name none."),
    Parameter(name="scopes", type=Type.STRINGS, max_items=100, max_length=128, about="Given back, without effect."),
    Parameter(name="description", max_length=2048, about="Given back, without effect."),
    Parameter(name="runtimeSpecification", max_length=64, about="Size of its containers."),
    Parameter(name="specification", max_length=64, about="`runtimeSpecification` before 1.7."),
    Parameter(name="buildSpecification", max_length=64, about="Taken, without effect."),
    Parameter(name="deploymentRetention", type=Type.INTEGER, low=0, about="0: deployments stay until deleted."),
    Parameter(name="interval", type=Type.INTEGER, low=0, about="0: use `schedule`."),
    Parameter(name="emailEnabled", type=Type.BOOLEAN, about="false: functions have no email trigger."),
    Parameter(name="installationId", max_length=128, about="Empty: there is no Git integration."),
    Parameter(name="providerRepositoryId", max_length=128, about="Empty: there is no Git integration."),
    Parameter(name="providerBranch", max_length=128, about="Taken, without effect."),
    Parameter(name="providerSilentMode", type=Type.BOOLEAN, about="Taken, without effect."),
    Parameter(name="providerRootDirectory", max_length=128, about="Taken, without effect."),
    Parameter(name="providerBranches", type=Type.STRINGS, max_items=100, about="Taken, without effect."),
    Parameter(name="providerPaths", type=Type.STRINGS, max_items=100, about="Taken, without effect."),
    Parameter(name="vars", type=Type.OBJECT, about="Variables by name, before 1.0."),
)
"""What create and update take, in every generation."""

_DEFAULTS: Json = {
    "execute": [],
    "events": [],
    "schedule": "",
    "timeout": 15,
    "enabled": True,
    "logging": True,
    "entrypoint": "",
    "commands": "",
}
_SINCE = {"enabled": Format.V1_0, "logging": Format.V1_4, "entrypoint": Format.V1_4, "commands": Format.V1_4}
"""The first format that knows a parameter: who speaks an older one means nothing by leaving it out."""
_OLD_ROLES = {"role:all": "any", "role:member": "users", "role:guest": "guests"}


def resource_id(parameter: str, value: str) -> str:
    """Return the id asked for, a new one for `unique()`.

    Raises:
        AppwriteError: general_argument_invalid.
    """
    if value == UNIQUE:
        return secrets.token_hex(_ID_BYTES)
    if not _ID.fullmatch(value):
        raise invalid_argument(
            parameter,
            "Parameter must contain at most 36 chars. Valid chars are a-z, A-Z, 0-9, period, hyphen, and underscore. "
            "Can't start with a special char",
        )
    return value


def created(arguments: Json, format_: Format, *, namespace: str, runtimes: Collection[str]) -> Json:
    """Return the manifest of a Function to make, without its variables.

    Args:
        arguments: validated.
        format_: the client's dialect.
        namespace: the project's.
        runtimes: those that are enabled.

    Raises:
        AppwriteError: general_argument_invalid, general_not_implemented.
    """
    id_ = resource_id("functionId", arguments["functionId"])
    name = names.resource_name(id_)
    given = {field: arguments[field] for field in _DEFAULTS if field in arguments}
    spec = {"runtime": _runtime(arguments["runtime"], runtimes), **_spec(arguments, given, format_)}
    metadata: Json = {"name": name, "namespace": namespace}
    if notes := _notes(arguments, {}):
        metadata["annotations"] = {names.ANNOTATION_APPWRITE: json.dumps(notes)}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "Function",
        "metadata": metadata,
        "spec": {field: value for field, value in spec.items() if value not in (None, "", [])}
        | ({"id": id_} if id_ != name else {}),
    }


def updated(arguments: Json, format_: Format, *, function: Function, runtimes: Collection[str]) -> Json:
    """Return the fields of the spec that an update sets: as in Appwrite, what is left out gets its default.

    Except what a client of that format does not know, the runtime, the size and `vars`: they stay. Raises as `created`.
    """
    given = {
        field: arguments.get(field, default)
        for field, default in _DEFAULTS.items()
        if field in arguments or format_ >= _SINCE.get(field, Format.V0)
    }
    spec = _spec(arguments, given, format_)
    if (runtime := arguments.get("runtime")) and runtime != function.spec.runtime:
        spec["runtime"] = _runtime(runtime, runtimes)
    return spec


def annotations(arguments: Json, function: Function) -> dict[str, str]:
    """Return the annotations that an update sets: what the API only has to give back."""
    kept = notes(function)
    wanted = _notes(arguments, kept)
    return {names.ANNOTATION_APPWRITE: json.dumps(wanted)} if wanted != kept else {}


def notes(function: Function) -> Json:
    """Return what the API was given that means nothing here."""
    try:
        found = json.loads(function.metadata.annotations.get(names.ANNOTATION_APPWRITE, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _notes(arguments: Json, kept: Json) -> Json:
    return kept | {name: arguments[name] for name in ("scopes", "description") if name in arguments}


def _spec(arguments: Json, given: Json, format_: Format) -> Json:
    _refuse_what_is_not_there(arguments)
    spec = {"displayName": arguments["name"], **given}
    if "execute" in spec:
        spec["execute"] = _roles(spec["execute"], format_)
    if "events" in spec:
        spec["events"] = _events(spec["events"])
    if spec.get("schedule"):
        _check_schedule(spec["schedule"])
    for parameter in ("specification", "runtimeSpecification"):
        size = arguments.get(parameter)
        if size and size != specifications.CUSTOM:
            spec["resources"] = specifications.resources_of(parameter, size)
    return spec


def _refuse_what_is_not_there(arguments: Json) -> None:
    if arguments.get("installationId") or arguments.get("providerRepositoryId"):
        raise AppwriteError(Problem.NOT_IMPLEMENTED, _NO_GIT)
    if arguments.get("deploymentRetention"):
        raise invalid_argument("deploymentRetention", "Value must be 0: deployments stay until they are deleted")
    if arguments.get("interval"):
        raise invalid_argument("interval", "Value must be 0: use `schedule`")
    if arguments.get("emailEnabled"):
        raise invalid_argument("emailEnabled", "Value must be false: functions are not executed by emails here")


def _runtime(runtime: str, runtimes: Collection[str]) -> str:
    if runtime not in runtimes:
        raise invalid_argument("runtime", f"Value must be one of ({', '.join(sorted(runtimes))})")
    return runtime


def _roles(roles: list[str], format_: Format) -> list[str]:
    new = [_OLD_ROLES.get(role, role) for role in roles] if format_ is Format.V0 else roles
    return list(dict.fromkeys(new))


def _events(subscribed: list[str]) -> list[str]:
    for name in subscribed:
        if not events.is_subscription(name):
            message = f"{name!r} is not the name of an event, such as users.*.create or cloudevents.com.example.sold"
            raise invalid_argument("events", message)
    return list(dict.fromkeys(subscribed))


def _check_schedule(schedule: str) -> None:
    try:
        parse_schedule(schedule, "Etc/UTC")
    except InvalidSpecError as error:
        raise invalid_argument("schedule", error.message) from error
