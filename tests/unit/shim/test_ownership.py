"""Who may change what of a Function."""

import json
from typing import Any

import pytest

from appfn.api.base import Json
from appfn.shim import ownership
from appfn.shim.errors import AppwriteError
from appfn.shim.ownership import Change

INLINE = {"name": "MODE", "value": "fast"}


def body(*managed: tuple[str, Json], annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    entries = [{"manager": manager, "operation": "Apply", "fieldsV1": fields} for manager, fields in managed]
    metadata = {"name": "hello", "namespace": "shop", "resourceVersion": "7", "managedFields": entries}
    return {"metadata": metadata | {"annotations": annotations or {}}, "spec": {"timeout": 15, **spec}}


def owns(*fields: str) -> Json:
    return {"f:spec": {f"f:{field}": {} for field in fields}}


def owns_variables(*variables: str) -> Json:
    return {"f:spec": {"f:variables": {".": {}, **{f'k:{{"name":"{name}"}}': {".": {}} for name in variables}}}}


def applied(**spec: Any) -> dict[str, str]:
    return {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"spec": spec})}


def refusal(of: Json, **spec: Any) -> str:
    with pytest.raises(AppwriteError) as caught:
        ownership.merge_patch(of, Change(spec=spec))
    assert caught.value.problem.type == "general_field_managed"
    return caught.value.message


def test_what_nobody_manages_is_changed_from_the_version_that_was_read() -> None:
    patch = ownership.merge_patch(body(), Change(spec={"timeout": 30}, annotations={"a": "b"}))

    assert patch == {"metadata": {"resourceVersion": "7", "annotations": {"a": "b"}}, "spec": {"timeout": 30}}


def test_what_others_manage_is_refused_with_field_manager_and_remedy() -> None:
    message = refusal(body(("flux", owns("timeout", "runtime"))), timeout=30)

    assert message == (
        "spec.timeout is managed by flux. Change it there, or let the API win in future: "
        "kubectl annotate functions.appfn.dev -n shop hello appfn.dev/api-writes=force"
    )


def test_a_value_that_stays_is_nobodys_concern() -> None:
    managed = body(("flux", owns("timeout", "schedule", "execute")))

    assert ownership.merge_patch(managed, Change(spec={"timeout": 15, "schedule": "", "execute": []})) is None
    patch = ownership.merge_patch(managed, Change(spec={"timeout": 15, "displayName": "Hi"}))
    assert patch is not None
    assert patch["spec"] == {"displayName": "Hi"}


@pytest.mark.parametrize("manager", ["appfn-api", "kubectl-client-side-apply"])
def test_what_the_api_itself_set_or_kubectl_only_touched_is_changed(manager: str) -> None:
    patch = ownership.merge_patch(body((manager, owns("timeout"))), Change(spec={"timeout": 30}))

    assert patch is not None
    assert patch["spec"] == {"timeout": 30}


def test_what_kubectl_apply_was_given_is_managed_by_it() -> None:
    of = body(annotations=applied(timeout=15))

    assert "spec.timeout is managed by kubectl apply" in refusal(of, timeout=30)
    assert ownership.merge_patch(of, Change(spec={"enabled": False})) is not None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"spec": 5}', "{}"])
def test_what_kubectl_apply_left_may_be_anything(text: str) -> None:
    of = body(annotations={"kubectl.kubernetes.io/last-applied-configuration": text})

    assert ownership.merge_patch(of, Change(spec={"timeout": 30})) is not None


def test_status_is_another_matter() -> None:
    of = body(("appfn-function", owns("timeout")))
    of["metadata"]["managedFields"][0]["subresource"] = "status"

    assert ownership.merge_patch(of, Change(spec={"timeout": 30})) is not None


def test_an_annotation_lets_the_api_win() -> None:
    of = body(("flux", owns("timeout")), annotations={"appfn.dev/api-writes": "force", **applied(timeout=15)})

    patch = ownership.merge_patch(of, Change(spec={"timeout": 30}))

    assert patch is not None
    assert patch["spec"] == {"timeout": 30}


def test_each_variable_has_a_manager_of_its_own() -> None:
    of = body(("flux", owns_variables("MODE")), variables=[INLINE])
    other = {"name": "OTHER", "value": "x"}

    assert "spec.variables[MODE] is managed by flux" in refusal(of, variables=[{"name": "MODE", "value": "slow"}])
    assert "spec.variables[MODE] is managed by flux" in refusal(of, variables=[])
    assert ownership.merge_patch(of, Change(spec={"variables": [INLINE, other]})) is not None


def test_kubectl_apply_replaces_a_list_as_a_whole() -> None:
    of = body(annotations=applied(variables=[INLINE]), variables=[INLINE])

    assert "spec.variables is managed by kubectl apply" in refusal(of, variables=[INLINE, {"name": "B", "value": "x"}])


def test_an_object_is_replaced_as_a_whole() -> None:
    of = body(resources={"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1"}})

    patch = ownership.merge_patch(of, Change(spec={"resources": {"limits": {"cpu": "2"}}}))

    assert patch is not None
    assert patch["spec"]["resources"] == {"limits": {"cpu": "2", "memory": None}, "requests": None}
