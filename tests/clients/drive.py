"""Calls methods of an installed Appwrite SDK as its users do; see drive.js. Runs in that SDK's environment.

python drive.py '{"endpoint", "project", "key"}'
"""

import base64
import importlib
import inspect
import json
import pkgutil
import re
import sys
from typing import Any

import appwrite.services
from appwrite.client import Client
from appwrite.exception import AppwriteException
from appwrite.input_file import InputFile
from appwrite.query import Query


def services() -> dict[str, type]:
    """Return the classes of the SDK's services by their names."""
    found = {}
    for module in pkgutil.iter_modules(appwrite.services.__path__):
        loaded = importlib.import_module(f"appwrite.services.{module.name}")
        classes = inspect.getmembers(loaded, inspect.isclass)
        found.update({name: class_ for name, class_ in classes if class_.__module__ == loaded.__name__})
    return found


def methods(class_: type) -> list[str]:
    """Return a service's methods."""
    return [camel(name) for name, _ in inspect.getmembers(class_, inspect.isfunction) if not name.startswith("_")]


def camel(name: str) -> str:
    """Return `create_execution` as `createExecution`."""
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def snake(name: str) -> str:
    """Return `createExecution` as `create_execution`."""
    return re.sub(r"([A-Z]+)", lambda found: "_" + found[1].lower(), name)


def parameter(name: str) -> str:
    """Return a parameter's name as the SDK spells it: Python keeps `async` for itself."""
    return "xasync" if name == "async" else snake(name)


def call(settings: dict[str, str], request: dict[str, Any]) -> Any:
    """Call a method."""
    client = Client().set_endpoint(settings["endpoint"]).set_project(settings["project"]).set_key(settings["key"])
    class_ = next(found for name, found in services().items() if name.lower() == request["service"].lower())
    method = getattr(class_(client), snake(request["method"]))
    taken = inspect.signature(method).parameters
    given = {parameter(name): value_of(value) for name, value in request["arguments"].items()}
    return method(**{name: value for name, value in given.items() if name in taken})


def value_of(argument: Any) -> Any:
    """Return an argument as the SDK takes it."""
    match argument:
        case list():
            return [value_of(item) for item in argument]
        case {"$file": path}:
            return InputFile.from_path(path)
        case {"$query": [method, *values]}:
            return getattr(Query, method if hasattr(Query, method) else snake(method))(*values)
        case _:
            return argument


def plain(value: Any) -> Any:
    """Return a result as JSON: newer SDKs answer with models."""
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return value


def answer(settings: dict[str, str], line: str) -> dict[str, Any]:
    """Return what one line asks for."""
    request = json.loads(line)
    if "method" not in request:
        return {"value": {name: methods(class_) for name, class_ in services().items()}}
    try:
        return {"value": plain(call(settings, request))}
    except AppwriteException as error:
        return {"error": {"message": error.message, "code": error.code or 0, "type": error.type or ""}}


def main() -> None:
    """Answer until the input ends."""
    settings = json.loads(sys.argv[1])
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(settings, line)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
