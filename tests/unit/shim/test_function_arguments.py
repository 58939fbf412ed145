from typing import Any

import pytest

from appfn.api.base import Json
from appfn.api.function import Function
from appfn.shim import specifications
from appfn.shim.errors import AppwriteError
from appfn.shim.formats import Format
from appfn.shim.rest import function_arguments
from support.objects import metadata

RUNTIMES = {"node-20.0", "python-3.13"}


def created(format_: Format = Format.V1_7, **arguments: Any) -> Json:
    given = {"functionId": "cats", "name": "Cats", "runtime": "node-20.0", **arguments}
    return function_arguments.created(given, format_, namespace="shop", runtimes=RUNTIMES)


def updated(format_: Format = Format.V1_7, **arguments: Any) -> Json:
    function = Function.parse({"metadata": metadata("cats"), "spec": {"runtime": "node-20.0"}})
    given = {"name": "Cats", **arguments}
    return function_arguments.updated(given, format_, function=function, runtimes=RUNTIMES)


def test_a_new_function_says_only_what_it_was_given() -> None:
    assert created() == {
        "apiVersion": "appfn.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": "cats", "namespace": "shop"},
        "spec": {"runtime": "node-20.0", "displayName": "Cats"},
    }


def test_an_id_that_is_no_resource_name_goes_into_the_spec() -> None:
    made = created(functionId="Cats.1")

    assert made["spec"]["id"] == "Cats.1"
    assert made["metadata"]["name"].startswith("cats-1-")


def test_a_unique_id_is_a_new_one_each_time() -> None:
    assert created(functionId="unique()")["metadata"]["name"] != created(functionId="unique()")["metadata"]["name"]


def test_roles_of_0_15_are_translated_for_its_clients_alone() -> None:
    old = ["role:all", "role:member", "role:guest", "team:t"]

    assert created(Format.V0, execute=old)["spec"]["execute"] == ["any", "users", "guests", "team:t"]
    assert created(Format.V1_0, execute=old)["spec"]["execute"] == old, "which the schema refuses"


def test_what_comes_twice_is_there_once() -> None:
    made = created(execute=["any", "any"], events=["users.*", "users.*"])["spec"]

    assert (made["execute"], made["events"]) == (["any"], ["users.*"])


@pytest.mark.parametrize(
    ("format_", "fields"),
    [
        (Format.V0, {"execute", "events", "schedule", "timeout"}),
        (Format.V1_0, {"execute", "events", "schedule", "timeout", "enabled"}),
        (
            Format.V1_7,
            {"execute", "events", "schedule", "timeout", "enabled", "logging", "entrypoint", "commands"},
        ),
    ],
)
def test_an_update_sets_what_the_clients_format_knows(format_: Format, fields: set[str]) -> None:
    assert updated(format_).keys() == {"displayName", *fields}


def test_a_size_becomes_resources_and_the_default_none() -> None:
    limits = updated(runtimeSpecification="s-0.5vcpu-512mb")["resources"]["limits"]

    assert limits == {"cpu": "0.5", "memory": "512Mi"}
    assert updated(specification="s-1vcpu-512mb")["resources"] is None
    assert "resources" not in updated(runtimeSpecification="custom")
    assert "resources" not in updated(runtimeSpecification="")


def test_each_size_is_told_from_its_resources() -> None:
    for size in specifications.ALL:
        resources = specifications.resources_of("x", size.slug)
        parsed = Function.parse({"metadata": metadata("f"), "spec": {"runtime": "r", "resources": resources}})
        assert specifications.slug_of(parsed.spec.resources) == size.slug


def test_the_runtime_may_stay_though_it_is_not_offered_any_more() -> None:
    assert "runtime" not in updated(runtime="node-20.0")
    assert updated(runtime="python-3.13")["runtime"] == "python-3.13"
    with pytest.raises(AppwriteError, match=r"one of \(node-20.0, python-3.13\)"):
        updated(runtime="cobol-85")


@pytest.mark.parametrize(
    ("given", "type_"),
    [
        ({"functionId": "_x"}, "general_argument_invalid"),
        ({"functionId": "ä"}, "general_argument_invalid"),
        ({"schedule": "* * *"}, "general_argument_invalid"),
        ({"events": ["users.*", "account.create"]}, "general_argument_invalid"),
        ({"specification": "huge"}, "general_argument_invalid"),
        ({"interval": 5}, "general_argument_invalid"),
        ({"emailEnabled": True}, "general_argument_invalid"),
        ({"deploymentRetention": 5}, "general_argument_invalid"),
        ({"providerRepositoryId": "r"}, "general_not_implemented"),
    ],
)
def test_what_can_not_be_done_is_refused(given: Json, type_: str) -> None:
    with pytest.raises(AppwriteError) as caught:
        created(**given)

    assert caught.value.problem.type == type_


def test_what_has_only_to_be_given_back_is_kept_beside() -> None:
    made = created(scopes=["users.read"], description="Meow")
    function = Function.parse({"metadata": made["metadata"], "spec": made["spec"]})

    assert function_arguments.notes(function) == {"scopes": ["users.read"], "description": "Meow"}
    assert function_arguments.annotations({"name": "x"}, function) == {}
    changed = function_arguments.annotations({"scopes": []}, function)
    assert '"scopes": []' in changed["appfn.dev/appwrite"]


@pytest.mark.parametrize("text", ["{", "[]", "5"])
def test_what_is_kept_beside_may_be_anything(text: str) -> None:
    meta = metadata("cats", annotations={"appfn.dev/appwrite": text})

    assert function_arguments.notes(Function.parse({"metadata": meta, "spec": {"runtime": "r"}})) == {}
