"""The OpenAPI document, pure: made from the table of operations, the models and the error types."""

import re
from collections.abc import Iterable
from typing import Any, assert_never

from appfn.api.base import Json
from appfn.shim import formats
from appfn.shim.auth.access import Access
from appfn.shim.errors import APPWRITE_VERSION, Problem
from appfn.shim.rest import schemas
from appfn.shim.rest.operation import In, Operation, Parameter, Type
from appfn.shim.rest.shape import Field, Model, Shape

_JSON = "application/json"
_PLACEHOLDER = re.compile(r"\{(\w+)(?::[^{}]*)?\}", re.ASCII)
_ABOUT = (
    "Appwrite's API for functions, as appfn serves it. The header X-Appwrite-Project, or the parameter `project` of "
    "the URL, names the project; everything here is in the format of current clients. A client of an older Appwrite "
    f"says so in the header {formats.HEADER} and gets the fields of its time."
)
_SECURITY_SCHEMES: Json = {
    "Project": {"type": "apiKey", "in": "header", "name": "X-Appwrite-Project", "description": "The project's id."},
    "Key": {"type": "apiKey", "in": "header", "name": "X-Appwrite-Key", "description": "An API key of the project."},
    "JWT": {"type": "apiKey", "in": "header", "name": "X-Appwrite-JWT", "description": "A token of a user."},
    "Workload": {"type": "http", "scheme": "bearer", "description": "A ServiceAccount's token; RBAC decides."},
}

_QUERY: Json = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
_GRAPHQL: Json = {
    "requestBody": {"required": True, "content": {_JSON: {"schema": _QUERY}}},
    "security": [{"Project": []}, {"Project": [], "Key": []}, {"Project": [], "JWT": []}],
}


def document(operations: Iterable[Operation]) -> Json:
    """Return the document about the operations and the few pages that are none."""
    paths: dict[str, Json] = {path: dict(methods) for path, methods in _pages().items()}
    for operation in operations:
        for number, (method, path) in enumerate(((operation.method, operation.path), *operation.aliases)):
            paths.setdefault(_PLACEHOLDER.sub(r"{\1}", path), {})[method.lower()] = _item(operation, path, number)
    return {
        "openapi": "3.1.0",
        "info": {"title": "appfn", "version": APPWRITE_VERSION, "description": _ABOUT},
        "servers": [{"url": "/v1"}],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": _components(), "securitySchemes": _SECURITY_SCHEMES},
    }


def _item(operation: Operation, path: str, number: int) -> Json:
    """Return one way to an operation: the first is its own, further ones are aliases."""
    placed = _PLACEHOLDER.findall(path)
    queried = [item for item in operation.parameters if item.where is In.QUERY]
    sent = [item for item in operation.parameters if item.where is In.BODY and item.name not in placed]
    about = {item.name: item for item in operation.parameters}
    namespace, _, _method = operation.name.partition(".")
    item: Json = {
        "operationId": operation.name.replace(".", "_") + (f"_{number}" if number else ""),
        "summary": operation.summary,
        "tags": [namespace],
        "security": _security(operation.access),
        "x-appwrite-scope": operation.access.scope.value,
        "parameters": [*(_placed(name, about.get(name)) for name in placed), *map(_queried, queried)],
        "responses": _responses(operation),
    }
    if number:
        item |= {"deprecated": True, "description": f"Another way to {operation.method} {operation.path}."}
    if sent and operation.method not in {"GET", "HEAD"}:
        item["requestBody"] = _body(sent)
    return item


def _security(access: Access) -> list[Json]:
    ways: list[Json] = [{"Project": [], "Key": []}, {"Project": [], "Workload": []}]
    if access.users:
        ways.append({"Project": [], "JWT": []})
    if access.guests:
        ways.append({"Project": []})
    return ways


def _placed(name: str, parameter: Parameter | None) -> Json:
    about = {"description": parameter.about} if parameter and parameter.about else {}
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}, **about}


def _queried(parameter: Parameter) -> Json:
    name = f"{parameter.name}[]" if parameter.type is Type.STRINGS else parameter.name
    about = {"description": parameter.about} if parameter.about else {}
    return {"name": name, "in": "query", "required": parameter.required, "schema": _value(parameter), **about}


def _body(sent: list[Parameter]) -> Json:
    files = any(parameter.type is Type.FILE for parameter in sent)
    required = [parameter.name for parameter in sent if parameter.required]
    schema: Json = {"type": "object", "properties": {parameter.name: _property(parameter) for parameter in sent}}
    if required:
        schema["required"] = required
    return {"required": bool(required), "content": {"multipart/form-data" if files else _JSON: {"schema": schema}}}


def _property(parameter: Parameter) -> Json:
    about = {"description": parameter.about} if parameter.about else {}
    return {**_value(parameter), **about}


def _value(parameter: Parameter) -> Json:
    match parameter.type:
        case Type.STRING:
            return _string(parameter)
        case Type.INTEGER:
            return _kept({"type": "integer", "minimum": parameter.low, "maximum": parameter.high})
        case Type.BOOLEAN:
            return {"type": "boolean"}
        case Type.STRINGS:
            items = _kept({"type": "string", "maxLength": parameter.max_length})
            return _kept({"type": "array", "items": items, "maxItems": parameter.max_items})
        case Type.OBJECT:
            return {"type": "object"}
        case Type.FILE:
            return {"type": "string", "format": "binary"}
        case _:
            assert_never(parameter.type)


def _string(parameter: Parameter) -> Json:
    shortest = 1 if parameter.required and parameter.max_length is not None else None
    limits = {"minLength": shortest, "maxLength": parameter.max_length, "enum": list(parameter.choices) or None}
    return _kept({"type": "string", **limits})


def _kept(schema: dict[str, Any]) -> Json:
    return {name: value for name, value in schema.items() if value is not None}


def _responses(operation: Operation) -> Json:
    good: Json = {"description": "Success."}
    if operation.returns:
        good["content"] = {_JSON: {"schema": _reference(operation.returns)}}
    elif operation.status != 204:  # noqa: PLR2004 - No Content
        good["content"] = {"*/*": {}}
    found = {str(operation.status): good}
    if any(parameter.name == "async" for parameter in operation.parameters):
        found["202"] = {**good, "description": "Accepted; it ends later."}
    return found | {"default": _failure()}


def _failure() -> Json:
    return {"description": "An error, told by its `type`.", "content": {_JSON: {"schema": _reference("error")}}}


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _components() -> Json:
    return {name: _schema(model) for name, model in schemas.models().items()} | {"error": _error()}


def _schema(model: Model) -> Json:
    return {
        "type": "object",
        "properties": {field.name: {**_held(field), "description": field.about} for field in model.fields},
        "required": [field.name for field in model.fields if field.always],
    }


def _held(field: Field) -> Json:
    match field.holds:
        case str():
            one = _reference(field.holds)
        case Shape.LARGE:
            one = {"type": "integer", "format": "int64"}
        case _:
            one = _kept({"type": field.holds.value, "enum": list(field.choices) or None})
    return {"type": "array", "items": one} if field.many else one


def _error() -> Json:
    types = sorted({problem.type for problem in Problem if not problem.type.startswith("internal_")})
    properties = {
        "message": {"type": "string", "description": "What is wrong, for people."},
        "code": {"type": "integer", "description": "The HTTP status."},
        "type": {"type": "string", "enum": types, "description": "What is wrong, for machines."},
        "version": {"type": "string", "description": "The Appwrite whose API this is."},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def _pages() -> dict[str, Json]:
    version = {"type": "object", "properties": {"version": {"type": "string"}}, "required": ["version"]}
    query = {"name": "query", "in": "query", "required": True, "schema": {"type": "string"}}
    project: Json = {"security": [{"Project": []}]}
    asked = {"security": _GRAPHQL["security"], "parameters": [query]}
    return {
        "/health/version": {"get": _page("health_version", "Return the Appwrite whose API this is.", schema=version)},
        "/health": {"get": _page("health", "Tell that the server is up.")},
        "/proxy/rules": {"get": _page("proxy_listRules", "Return no rules: functions have no domains.") | project},
        "/ping": {"get": _page("ping", "Answer, so that clients know that somebody is there.", media="text/plain")},
        "/graphql": {
            "get": _page("graphql_get", "Run a GraphQL query.") | asked,
            "post": _page("graphql_query", "Run a GraphQL query or mutation.") | _GRAPHQL,
        },
        "/graphql/mutation": {"post": _page("graphql_mutation", "Run a GraphQL query or mutation.") | _GRAPHQL},
        "/openapi.json": {"get": _page("openapi", "Return this document.")},
    }


def _page(id_: str, summary: str, *, schema: Json | None = None, media: str = _JSON) -> Json:
    good = {"description": "Success.", "content": {media: {"schema": schema or {}}}}
    return {
        "operationId": id_,
        "summary": summary,
        "tags": ["about"],
        "security": [],
        "parameters": [],
        "responses": {"200": good, "default": _failure()},
    }
