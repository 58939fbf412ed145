"""The table of models against the functions that make them."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from appfn.api.base import Json
from appfn.shim import models, models_deployments, models_usage, specifications
from appfn.shim.formats import Format
from appfn.shim.function_variables import Known
from appfn.shim.models_usage import Inventory
from appfn.shim.rest import function_models, schemas
from appfn.shim.rest.routes import operations
from appfn.shim.rest.shape import Field, Shape
from appfn.store.model import Usage
from support import objects
from support.executions import a_finished

AT = datetime(2023, 2, 3, 4, 5, 6, tzinfo=UTC)
RECORD = a_finished(at=AT, id="e1", permissions=('read("user:u1")',), headers={"content-type": "text/x"})
TYPES: dict[Shape, type | tuple[type, ...]] = {
    Shape.STRING: str,
    Shape.INTEGER: int,
    Shape.NUMBER: (int, float),
    Shape.BOOLEAN: bool,
    Shape.LARGE: int,
}


def misfits(content: Json, model: str, at: str = "") -> list[str]:
    """Return what of a JSON object is not as the table says."""
    fields = {field.name: field for field in schemas.models()[model].fields}
    always = {name for name, field in fields.items() if field.always}
    wrong = [f"{at}{name} is not in the table" for name in sorted(content.keys() - fields.keys())]
    wrong += [f"{at}{name} is not there" for name in sorted(always - content.keys())]
    for name in sorted(content.keys() & fields.keys()):
        wrong += _misfits(content[name], fields[name], f"{at}{name}")
    return wrong


def _misfits(value: Any, field: Field, at: str) -> list[str]:
    items = value if field.many and isinstance(value, list) else [value]
    if field.many is not isinstance(value, list):
        return [f"{at}: a list or not"]
    if isinstance(field.holds, str):
        return [line for item in items for line in misfits(item, field.holds, f"{at}.")]
    return [f"{at}: {item!r}" for item in items if not _fits(item, field.holds) or not _chosen(item, field)]


def _fits(item: Any, shape: Shape) -> bool:
    return isinstance(item, TYPES[shape]) and (shape is Shape.BOOLEAN or not isinstance(item, bool))


def _chosen(item: Any, field: Field) -> bool:
    return not field.choices or item in field.choices


def execution(format_: Format) -> Json:
    return models.execution(RECORD, format_, function_id="fn", deployment_id="dep", logs=True)


def function(format_: Format) -> Json:
    item = objects.function(execute=["any"], events=["users.*"], schedule="0 0 * * *")
    active = objects.ready_deployment()
    return function_models.shown(function_models.function(item, active=active, latest=active), [_variable()], format_)


def variable(format_: Format) -> Json:
    return function_models.shown_variable(_variable(), format_)


def _variable() -> Json:
    known = Known(name="A", id="v1", secret=False, created_at=AT, updated_at=AT, value="x", stored="")
    return function_models.variable(known, "fn", "x")


def deployment(format_: Format) -> Json:
    item = objects.ready_deployment()
    return models_deployments.model(models_deployments.view(item, function_id="fn", parts=(1, 2)), format_)


def usage(format_: Format, inventory: Inventory) -> Json:
    span = models_usage.span("7d", AT)
    return models_usage.usage([Usage(start=span.since, completed=1, failed=1, compute_ms=5)], span, inventory, format_)


MAKERS: dict[str, Callable[[Format], Json]] = {
    "execution": execution,
    "executionList": lambda format_: models.execution_list([execution(format_)], total=1),
    "function": function,
    "variable": variable,
    "runtime": lambda _format: function_models.runtime(objects.runtime()),
    "deployment": deployment,
    "usageFunction": lambda format_: usage(format_, Inventory()),
    "usageFunctions": lambda format_: usage(format_, Inventory(functions=())),
    "specification": lambda _format: specifications.DEFAULT.model(),
}


@pytest.mark.parametrize("model", MAKERS)
def test_a_model_has_the_fields_of_the_table(model: str) -> None:
    assert misfits(MAKERS[model](Format.V1_7), model) == []


@pytest.mark.parametrize("format_", [Format.V1_0, Format.V1_4, Format.V1_6])
@pytest.mark.parametrize("model", MAKERS)
def test_the_table_knows_every_field_since_1_0(model: str, format_: Format) -> None:
    known = schemas.models()[model]

    assert MAKERS[model](format_).keys() <= {field.name for field in (*known.fields, *known.older)}


def test_a_value_that_does_not_fit_is_found() -> None:
    assert misfits(execution(Format.V1_7) | {"duration": "1", "status": "gone"}, "execution") == [
        "duration: '1'",
        "status: 'gone'",
    ]


def test_every_operation_returns_a_model_of_the_table() -> None:
    assert {operation.returns for operation in operations()} - {""} <= schemas.models().keys()


def test_every_field_of_a_model_holds_something_the_table_knows() -> None:
    for model in schemas.models().values():
        fields = (*model.fields, *model.older)
        assert len({field.name for field in fields}) == len(fields), model.name
        assert {field.holds for field in fields if isinstance(field.holds, str)} <= schemas.models().keys()
