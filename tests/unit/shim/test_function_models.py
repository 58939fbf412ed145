from typing import Any

import pytest

from appfn.api.base import Json
from appfn.api.deployment import Deployment
from appfn.api.function import Function
from appfn.shim import function_variables
from appfn.shim.formats import Format
from appfn.shim.rest import function_models
from support.objects import DIGEST, metadata

MADE = "2026-01-01T00:00:00Z"
CHANGED = "2026-01-02T00:00:00Z"
AT, LATER = "2026-01-01T00:00:00.000+00:00", "2026-01-02T00:00:00.000+00:00"
META = {"creationTimestamp": MADE, "managedFields": [{"time": CHANGED}, {"time": MADE}]}
SPEC: Json = {
    "id": "Cats_1",
    "displayName": "Cats",
    "runtime": "node-20.0",
    "execute": ["any", "users", "team:t"],
    "events": ["users.*"],
    "schedule": "* * * * *",
    "timeout": 30,
    "enabled": False,
    "variables": [{"name": "MODE", "value": "fast"}],
}
STATUS = {"scheduleNext": CHANGED, "activeDeployment": "cats-v1"}
STRICT = """
    $id $createdAt $updatedAt execute name description enabled live logging runtime
    deploymentRetention deploymentId deploymentCreatedAt latestDeploymentId
    latestDeploymentCreatedAt latestDeploymentStatus scopes vars events schedule timeout entrypoint
    commands version installationId providerRepositoryId providerBranch providerRootDirectory
    providerSilentMode providerBranches providerPaths buildSpecification runtimeSpecification
    emailEnabled
"""
"""Fields that pydantic's model in Python's SDK 27 requires."""


def deployment(name: str, **status: str) -> Deployment:
    spec = {"functionRef": {"name": "cats"}, "source": {"artifact": {"digest": DIGEST}}}
    return Deployment.parse({"metadata": metadata(name, creationTimestamp=MADE), "spec": spec, "status": status})


def shown(format_: Format, **spec: Any) -> Json:
    function = Function.parse({"metadata": metadata("cats", **META), "spec": SPEC | spec, "status": STATUS})
    whole = function_models.function(
        function, active=deployment("cats-v1", phase="ready"), latest=deployment("cats-v2")
    )
    (known,) = function_variables.known(function)
    return function_models.shown(whole, [function_models.variable(known, function.appwrite_id, "fast")], format_)


def test_the_model_of_0_15() -> None:
    assert shown(Format.V0) == {
        "$id": "Cats_1",
        "$createdAt": 1767225600,
        "$updatedAt": 1767312000,
        "execute": ["role:all", "role:member", "team:t"],
        "name": "Cats",
        "status": "disabled",
        "runtime": "node-20.0",
        "deployment": "cats-v1",
        "vars": {"MODE": "fast"},
        "events": ["users.*"],
        "schedule": "* * * * *",
        "scheduleNext": 1767312000,
        "schedulePrevious": 0,
        "timeout": 30,
    }


def test_the_model_of_1_0() -> None:
    model = shown(Format.V1_0)
    (variable,) = model.pop("vars")

    assert model == {
        "$id": "Cats_1",
        "$createdAt": AT,
        "$updatedAt": LATER,
        "execute": ["any", "users", "team:t"],
        "name": "Cats",
        "enabled": False,
        "runtime": "node-20.0",
        "deployment": "cats-v1",
        "events": ["users.*"],
        "schedule": "* * * * *",
        "scheduleNext": LATER,
        "schedulePrevious": "",
        "timeout": 30,
    }
    assert variable == {
        "$id": variable["$id"],
        "$createdAt": AT,
        "$updatedAt": LATER,
        "key": "MODE",
        "value": "fast",
        "functionId": "Cats_1",
    }


@pytest.mark.parametrize("format_", [Format.V1_4, Format.V1_6])
def test_the_models_of_1_4_and_1_6(format_: Format) -> None:
    model = shown(format_)

    assert (model["deployment"], model["specification"]) == ("cats-v1", "s-1vcpu-512mb")
    assert not {"deploymentId", "latestDeploymentId", "buildSpecification", "runtimeSpecification"} & model.keys()
    assert model["vars"][0]["resourceId"] == "Cats_1"


def test_the_current_model_tells_of_the_deployments() -> None:
    model = shown(Format.V1_7, resources={"limits": {"cpu": "2", "memory": "2048Mi"}})

    assert (model["deploymentId"], model["deploymentCreatedAt"]) == ("cats-v1", AT)
    assert (model["latestDeploymentId"], model["latestDeploymentStatus"]) == ("cats-v2", "waiting")
    assert model["runtimeSpecification"] == "s-2vcpu-2gb"
    assert "deployment" not in model


def test_the_current_model_has_all_that_strict_clients_need() -> None:
    model = shown(Format.V1_7)

    assert [name for name in STRICT.split() if model.get(name) is None] == []


def test_what_is_not_there_is_empty() -> None:
    function = Function.parse({"metadata": metadata("cats"), "spec": {"runtime": "node-20.0"}})
    whole = function_models.function(function, active=None, latest=None)

    old = function_models.shown(whole, [], Format.V0)
    assert (old["deployment"], old["scheduleNext"], old["vars"]) == ("", 0, {})
    assert (whole["deploymentId"], whole["latestDeploymentStatus"], whole["name"]) == ("", "", "cats")


def test_resources_that_are_no_size_are_called_custom() -> None:
    assert shown(Format.V1_7, resources={"limits": {"cpu": "3"}})["runtimeSpecification"] == "custom"
