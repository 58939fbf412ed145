"""The index of who subscribes to what, as functions come, change and go."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appfn.api.function import Function
from appfn.api.kinds import Key
from appfn.shim.events.subscriptions import Subscriptions

NAMES = ["users.*", "users.*.create", "functions.*", "functions.f.executions.*.create", "cloudevents.*"]


def function(name: str, *events: str, **metadata: Any) -> Function:
    spec = {"runtime": "node-20.0", "events": list(events)}
    return Function.parse({"metadata": {"name": name, "namespace": "shop", "uid": name, **metadata}, "spec": spec})


def test_a_function_that_subscribes_to_several_names_of_an_event_is_matched_once() -> None:
    index = Subscriptions()
    index.changed(Key("shop", "b"), None, function("b", "users.*", "users.*.create"))
    index.changed(Key("shop", "a"), None, function("a", "users.*.create"))

    found = index.matching("shop", ["users.u1.create", "users.*.create", "users.u1", "users.*"])

    assert [item.metadata.name for item in found] == ["a", "b"]
    assert index.matching("other", ["users.*"]) == []
    assert index.matching("shop", ["teams.*"]) == []


def test_a_function_that_is_being_deleted_is_not_matched() -> None:
    index, key = Subscriptions(), Key("shop", "a")
    before = function("a", "functions.*")
    dying = function("a", "functions.*", deletionTimestamp=datetime.now(UTC).isoformat())
    index.changed(key, None, before)

    index.changed(key, before, dying)
    gone = index.matching("shop", ["functions.*"]), index.curious("shop")
    index.changed(key, dying, None)

    assert gone == ([], False)
    assert not index.curious("shop")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.sets(st.sampled_from(NAMES)))))
def test_the_index_is_what_the_functions_say(changes: list[tuple[str, set[str] | None]]) -> None:
    index, now = Subscriptions(), dict[str, Function]()
    for name, events in changes:
        after = None if events is None else function(name, *sorted(events))
        index.changed(Key("shop", name), now.pop(name, None), after)
        if after is not None:
            now[name] = after

    for event in NAMES:
        expected = sorted(name for name, item in now.items() if event in item.spec.events)
        assert [item.metadata.name for item in index.matching("shop", [event])] == expected
    curious = {event for item in now.values() for event in item.spec.events if event.startswith("functions.")}
    assert index.curious("shop") == bool(curious)
