"""The table of models against the functions that make them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from appfn.api.base import Json
from appfn.shim import models
from appfn.shim.formats import Format
from appfn.shim.rest import schemas
from appfn.shim.rest.routes import operations
from appfn.shim.rest.shape import Field, Shape
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


def shown(format_: Format) -> Json:
    return models.execution(RECORD, format_, function_id="fn", deployment_id="dep", logs=True)


def test_an_execution_has_the_fields_of_the_table() -> None:
    assert misfits(shown(Format.V1_7), "execution") == []
    assert misfits(models.execution_list([shown(Format.V1_7)], total=1), "executionList") == []


@pytest.mark.parametrize("format_", [Format.V1_0, Format.V1_4, Format.V1_6])
def test_the_table_knows_every_field_of_an_execution_since_1_0(format_: Format) -> None:
    model = schemas.models()["execution"]

    assert shown(format_).keys() <= {field.name for field in (*model.fields, *model.older)}


def test_a_value_that_does_not_fit_is_found() -> None:
    assert misfits(shown(Format.V1_7) | {"duration": "1", "status": "gone"}, "execution") == [
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
