import json
from datetime import UTC, datetime
from typing import Any

import pytest

from appfn.api.base import Json
from appfn.api.function import Function
from appfn.shim import function_variables
from appfn.shim.function_variables import Edit
from support.objects import metadata

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NOTE = {"id": "v1", "secret": False, "createdAt": "2026-01-01T00:00:00+00:00", "updatedAt": NOW.isoformat()}
SECRET = "cats-variables-uid-cats"


def body(*variables: Json, notes: Any = None) -> Json:
    annotations = (
        {} if notes is None else {"appfn.dev/variables": notes if isinstance(notes, str) else json.dumps(notes)}
    )
    meta = metadata("cats", annotations=annotations)
    return {"metadata": meta, "spec": {"runtime": "node-20.0", "variables": list(variables)}}


def reference(name: str, secret: str = SECRET, key: str = "v1.aa") -> Json:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def edit(**more: Any) -> Edit:
    return Edit(**{"id": "v1", "secret": False, "created_at": NOW, "updated_at": NOW, "stored": "v1.bb", **more})


def test_a_variable_of_the_api_has_what_the_api_noted() -> None:
    (known,) = function_variables.known(Function.parse(body(reference("MODE"), notes={"MODE": NOTE})))

    assert (known.name, known.id, known.secret, known.stored, known.value) == ("MODE", "v1", False, "v1.aa", None)
    assert known.created_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_variable_of_somebody_else_has_what_can_be_told() -> None:
    items = [{"name": "A", "value": "x"}, reference("B", secret="theirs")]
    first, second = function_variables.known(Function.parse(body(*items)))

    assert (first.secret, first.value, first.stored) == (False, "x", "")
    assert (second.secret, second.value, second.stored) == (True, None, "")
    assert first.id != second.id
    assert len(first.id) == 20
    assert function_variables.known(Function.parse(body(*items)))[0].id == first.id


def test_a_note_can_not_make_a_foreign_value_readable() -> None:
    (known,) = function_variables.known(Function.parse(body(reference("B", secret="theirs"), notes={"B": NOTE})))

    assert known.secret


@pytest.mark.parametrize("notes", ["{", "[]", '{"MODE": 5}', {"MODE": {"id": None, "createdAt": "soon"}}])
def test_notes_may_be_anything(notes: Any) -> None:
    (known,) = function_variables.known(Function.parse(body(reference("MODE"), notes=notes)))

    assert known.id
    assert known.created_at is not None


def test_an_edit_leaves_the_others_as_they_are_and_in_their_order() -> None:
    others = [{"name": "A", "value": "x"}, {"name": "C", "value": "z"}]
    change = function_variables.decide(lambda _: {"B": edit()})(body(others[0], reference("B"), others[1]))

    assert change.spec["variables"] == [others[0], reference("B", key="v1.bb"), others[1]]
    assert json.loads(str(change.annotations["appfn.dev/variables"])) == {
        "B": {"id": "v1", "secret": False, "createdAt": NOW.isoformat(), "updatedAt": NOW.isoformat()}
    }


def test_a_variable_gets_another_name_and_keeps_its_value() -> None:
    change = function_variables.decide(lambda _: {"B": None, "N": edit(stored=None, was="B")})(
        body(reference("B"), notes={"B": NOTE})
    )

    assert change.spec["variables"] == [reference("N")]
    assert list(json.loads(str(change.annotations["appfn.dev/variables"]))) == ["N"]


def test_with_the_last_variable_the_notes_go() -> None:
    change = function_variables.decide(lambda _: {"B": None})(body(reference("B"), notes={"B": NOTE, "GONE": NOTE}))

    assert change.spec["variables"] == []
    assert change.annotations == {"appfn.dev/variables": None}
