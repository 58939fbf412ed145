from datetime import UTC, datetime

import pytest

from appfn.api.base import Json
from appfn.api.deployment import Deployment
from appfn.api.execution import Trigger
from appfn.api.function import Function
from appfn.api.runtime import Runtime
from appfn.core import variables
from support.executions import a_request

FUNCTION: Json = {
    "metadata": {"name": "greet-1a2b"},
    "spec": {"id": "Greet", "displayName": "Say hello", "runtime": "python-3.13"},
}
DEPLOYMENT: Json = {
    "metadata": {"name": "greet-v1"},
    "spec": {"id": "Dep.1", "functionRef": {"name": "greet-1a2b"}, "source": {}},
}
RUNTIME: Json = {
    "metadata": {"name": "python-3.13"},
    "spec": {
        "language": "python",
        "version": "3.13",
        "displayName": "Python",
        "images": [],
        "buildCommand": "b",
        "startCommand": "s",
    },
}


def injected(**request: object) -> dict[str, str]:
    return variables.injected(
        a_request(**request),
        project="Shop",
        function=Function.parse(FUNCTION),
        deployment=Deployment.parse(DEPLOYMENT),
        runtime=Runtime.parse(RUNTIME),
    )


def test_all_twelve_are_there_for_a_call_over_http() -> None:
    assert injected(data="ping", user_id="u1", jwt="j.w.t", event="ignored", event_data="ignored") == {
        "APPWRITE_FUNCTION_ID": "Greet",
        "APPWRITE_FUNCTION_NAME": "Say hello",
        "APPWRITE_FUNCTION_DEPLOYMENT": "Dep.1",
        "APPWRITE_FUNCTION_TRIGGER": "http",
        "APPWRITE_FUNCTION_PROJECT_ID": "Shop",
        "APPWRITE_FUNCTION_RUNTIME_NAME": "Python",
        "APPWRITE_FUNCTION_RUNTIME_VERSION": "3.13",
        "APPWRITE_FUNCTION_EVENT": "",
        "APPWRITE_FUNCTION_EVENT_DATA": "",
        "APPWRITE_FUNCTION_DATA": "ping",
        "APPWRITE_FUNCTION_USER_ID": "u1",
        "APPWRITE_FUNCTION_JWT": "j.w.t",
    }


def test_an_event_brings_its_name_and_data_but_no_payload() -> None:
    request = {"trigger": Trigger.EVENT, "event": "users.u1.create", "event_data": '{"$id":"u1"}', "data": "ignored"}

    given = injected(**request)

    assert given["APPWRITE_FUNCTION_TRIGGER"] == "event"
    assert given["APPWRITE_FUNCTION_EVENT"] == "users.u1.create"
    assert given["APPWRITE_FUNCTION_EVENT_DATA"] == '{"$id":"u1"}'
    assert given["APPWRITE_FUNCTION_DATA"] == ""
    assert variables.payload(a_request(**request)) == ""


def test_a_schedule_brings_neither_event_nor_data() -> None:
    given = injected(trigger=Trigger.SCHEDULE, scheduled_at=datetime(2030, 1, 1, tzinfo=UTC))

    assert given["APPWRITE_FUNCTION_TRIGGER"] == "schedule"
    assert len(given) == 12
    empty = ("EVENT", "EVENT_DATA", "DATA", "USER_ID", "JWT")
    assert [given[f"APPWRITE_FUNCTION_{name}"] for name in empty] == [""] * 5


@pytest.mark.parametrize("name", ["APPWRITE_FUNCTION_ID", "APPWRITE_FUNCTION_EVENT"])
def test_appwrites_variables_win_over_the_users(name: str) -> None:
    merged = variables.merged({name: "forged", "OWN": "kept"}, injected())

    assert merged[name] != "forged"
    assert merged["OWN"] == "kept"
