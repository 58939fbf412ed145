"""The schemas and the typed resources are two writings of one contract: neither may drift from the other."""

import types
import typing
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any

import pytest

from appfn import names
from appfn.api.base import Model
from appfn.api.deployment import DeploymentSpec, DeploymentStatus
from appfn.api.execution import ExecutionSpec, ExecutionStatus
from appfn.api.function import FunctionSpec, FunctionStatus
from appfn.api.kinds import DEPLOYMENT, EXECUTION, FUNCTION, RUNTIME, Kind
from appfn.api.runtime import RuntimeSpec, RuntimeStatus

Json = dict[str, Any]
Documents = Callable[[str], list[Json]]

KINDS = [pytest.param(kind, id=kind.name) for kind in (FUNCTION, DEPLOYMENT, EXECUTION, RUNTIME)]
HALVES = [
    pytest.param(FUNCTION, "spec", FunctionSpec, id="Function.spec"),
    pytest.param(FUNCTION, "status", FunctionStatus, id="Function.status"),
    pytest.param(DEPLOYMENT, "spec", DeploymentSpec, id="Deployment.spec"),
    pytest.param(DEPLOYMENT, "status", DeploymentStatus, id="Deployment.status"),
    pytest.param(EXECUTION, "spec", ExecutionSpec, id="Execution.spec"),
    pytest.param(EXECUTION, "status", ExecutionStatus, id="Execution.status"),
    pytest.param(RUNTIME, "spec", RuntimeSpec, id="Runtime.spec"),
    pytest.param(RUNTIME, "status", RuntimeStatus, id="Runtime.status"),
]
ABSENT: tuple[object, ...] = (None, "", [], {})
"""Values that mean the same as a field left out."""


@pytest.fixture(scope="session")
def definitions(documents: Documents) -> dict[str, Json]:
    return {item["spec"]["names"]["kind"]: item["spec"] for item in documents("crds")}


@pytest.fixture(scope="session")
def schemas(definitions: dict[str, Json]) -> dict[str, Json]:
    return {kind: spec["versions"][0]["schema"]["openAPIV3Schema"] for kind, spec in definitions.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_definition_is_addressed_as_the_code_addresses_it(definitions: dict[str, Json], kind: Kind) -> None:
    spec = definitions[kind.name]

    assert spec["group"] == kind.group
    assert spec["names"]["plural"] == kind.plural
    assert spec["names"]["categories"] == [names.CATEGORY]
    assert spec["scope"] == ("Namespaced" if kind.namespaced else "Cluster")
    assert [version["name"] for version in spec["versions"]] == [kind.version]


@pytest.mark.parametrize(("kind", "half", "model"), HALVES)
def test_a_schema_has_the_fields_of_its_model(
    schemas: dict[str, Json], kind: Kind, half: str, model: type[Model]
) -> None:
    schema = schemas[kind.name]["properties"][half]

    assert list(differences(model, schema, half)) == []


@pytest.mark.parametrize(("kind", "half", "model"), HALVES)
def test_a_schema_has_the_defaults_and_required_fields_of_its_model(
    schemas: dict[str, Json], kind: Kind, half: str, model: type[Model]
) -> None:
    schema = schemas[kind.name]["properties"][half]

    if half == "status":
        assert [path for path, part in walk(schema, half) if "default" in part] == []
    else:
        assert list(other_defaults(model, schema, half)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_everything_a_user_may_send_is_bounded(schemas: dict[str, Json], kind: Kind) -> None:
    schema = schemas[kind.name]
    parts = [entry for half in ("spec", "status") for entry in walk(schema["properties"][half], half)]

    assert [path for path, part in parts if not bounded(part)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_kubectl_explain_has_a_sentence_for_every_field(schemas: dict[str, Json], kind: Kind) -> None:
    fields = [entry for entry in properties(schemas[kind.name], "") if not entry[0].startswith(".metadata")]

    assert [path for path, part in fields if not part.get("description", "").endswith((".", "*"))] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_says_what_to_do_when_it_is_broken(schemas: dict[str, Json], kind: Kind) -> None:
    rules = [rule for _, part in walk(schemas[kind.name], "") for rule in part.get("x-kubernetes-validations", [])]

    assert rules
    assert [rule["rule"] for rule in rules if len(rule.get("message", "")) < 20] == []


def differences(model: type[Model], schema: Json, path: str) -> Iterator[str]:
    """Yield where the fields, types and enums of a model and a schema differ, at any depth."""
    aliases = {str(field.alias): field for field in model.model_fields.values()}
    if aliases.keys() != schema["properties"].keys():
        yield f"{path}: {sorted(aliases.keys() ^ schema['properties'].keys())} only on one side"
    for name, field in aliases.items():
        if name in schema["properties"]:
            yield from type_differences(field.annotation, schema["properties"][name], f"{path}.{name}")


def type_differences(annotation: object, schema: Json, path: str) -> Iterator[str]:
    """Yield where an annotation and a schema differ."""
    match bare(annotation):
        case type() as class_ if issubclass(class_, Model):
            yield from differences(class_, schema, path)
        case type() as class_ if issubclass(class_, StrEnum):
            if set(schema.get("enum", [])) != {str(member) for member in class_}:
                yield f"{path}: enum {schema.get('enum')}"
        case types.GenericAlias() as generic if typing.get_origin(generic) is list:
            yield from type_differences(typing.get_args(generic)[0], schema.get("items", {}), f"{path}[]")
        case types.GenericAlias() as generic if typing.get_origin(generic) is dict:
            yield from type_differences(
                typing.get_args(generic)[1], schema.get("additionalProperties", {}), f"{path}{{}}"
            )
        case plain:
            if wire_type(schema) != plain:
                yield f"{path}: {plain} is not {wire_type(schema)}"


def bare(annotation: object) -> object:
    """Return an annotation without `| None`."""
    members = [member for member in typing.get_args(annotation) if member is not types.NoneType]
    return members[0] if isinstance(annotation, types.UnionType) else annotation


def wire_type(schema: Json) -> type | None:
    """Return the Python type of a scalar schema."""
    if schema.get("format") == "date-time":
        return datetime
    if schema.get("x-kubernetes-int-or-string"):
        return str  # the model takes numbers for it, as Kubernetes does for quantities
    return {"string": str, "integer": int, "boolean": bool}.get(schema.get("type", ""))


def other_defaults(model: type[Model], schema: Json, path: str) -> Iterator[str]:
    """Yield where the defaults or the required fields of a model and a schema differ, at any depth."""
    for field in model.model_fields.values():
        name = str(field.alias)
        part = schema["properties"][name]
        if field.is_required() != (name in schema.get("required", [])):
            yield f"{path}.{name}: required on one side only"
        if not field.is_required():
            wanted = plain(field.get_default(call_default_factory=True))
            if wanted != plain(defaulted(part)):
                yield f"{path}.{name}: {wanted!r} in the model, {defaulted(part)!r} in the schema"
        inner = next(
            (item for item in (bare(field.annotation), *typing.get_args(field.annotation)) if is_model(item)), None
        )
        if inner is not None:
            yield from other_defaults(inner, part.get("items", part), f"{path}.{name}")


def is_model(item: object) -> typing.TypeGuard[type[Model]]:
    return isinstance(item, type) and issubclass(item, Model)


def defaulted(schema: Json) -> object:
    """Return what the API server makes of a field left out."""
    default = schema.get("default")
    if isinstance(default, dict):
        inner = {name: defaulted(part) for name, part in schema["properties"].items()}
        return {name: value for name, value in inner.items() if value is not None} | default
    return default


def plain(value: object) -> object:
    """Return a value as JSON, without what means the same as absent."""
    if isinstance(value, Model):
        value = value.to_json()
    if isinstance(value, dict):
        value = {name: plain(item) for name, item in value.items() if item not in ABSENT}
    return None if value in ABSENT else value


def properties(schema: Json, path: str) -> Iterator[tuple[str, Json]]:
    """Yield every named field at any depth."""
    for name, part in schema.get("properties", {}).items():
        yield f"{path}.{name}", part
        yield from properties(part, f"{path}.{name}")
    if "items" in schema:
        yield from properties(schema["items"], f"{path}[]")


def walk(schema: Json, path: str) -> Iterator[tuple[str, Json]]:
    """Yield every part of a schema."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from walk(part, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if word in schema:
            yield from walk(schema[word], f"{path}[{word}]")


def bounded(part: Json) -> bool:
    """Tell whether values of this part have a bound."""
    match part:
        case {"enum": _} | {"format": "date-time"} | {"maxLength": _} | {"maxItems": _} | {"maxProperties": _}:
            return True
        case {"type": "integer"}:
            return "minimum" in part
        case {"type": "object"}:
            return "properties" in part
        case {"type": "boolean"}:
            return True
        case _:
            return False
