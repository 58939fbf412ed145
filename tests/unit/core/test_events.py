"""Names of events: Appwrite's list for each occurrence, and what may be subscribed to."""

from itertools import product
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from appfn.core import events
from appfn.core.events import Event

ROOT = Path(__file__).parents[3]
DOCUMENT = "databases.chapters.collections.prologue.documents.prologue1.create"
OF_DOCUMENT = """
databases.chapters.collections.prologue.documents.prologue1.create
databases.*.collections.*.documents.*.create
databases.chapters.collections.*.documents.prologue1.create
databases.*.collections.*.documents.prologue1.create
databases.*.collections.prologue.documents.prologue1.create
databases.chapters.collections.prologue.documents.*.create
databases.*.collections.prologue.documents.*.create
databases.chapters.collections.*.documents.*.create
databases.chapters.collections.prologue.documents.prologue1
databases.*.collections.*.documents.*
databases.chapters.collections.*.documents.prologue1
databases.*.collections.*.documents.prologue1
databases.*.collections.prologue.documents.prologue1
databases.chapters.collections.prologue.documents.*
databases.*.collections.prologue.documents.*
databases.chapters.collections.*.documents.*
databases.chapters.collections.prologue
databases.*.collections.*
databases.chapters.collections.*
databases.*.collections.prologue
databases.chapters
databases.*
"""
LISTS = {
    DOCUMENT: OF_DOCUMENT,
    "users.u1.create": "users.u1.create users.*.create users.u1 users.*",
    "users.u1.update.email": """
        users.u1.update users.*.update users.u1.update.email users.*.update.email users.u1 users.*
    """,
    "functions.f.executions.e.update": """
        functions.f.executions.e.update functions.*.executions.*.update
        functions.f.executions.*.update functions.*.executions.e.update
        functions.f.executions.e functions.*.executions.* functions.f.executions.* functions.*.executions.e
        functions.f functions.*
    """,
    "teams.t.memberships.m.update.status": """
        teams.t.memberships.m.update.status teams.*.memberships.*.update.status
        teams.t.memberships.*.update.status teams.*.memberships.m.update.status
        teams.t.memberships.m.update teams.*.memberships.*.update
        teams.t.memberships.*.update teams.*.memberships.m.update
        teams.t.memberships.m teams.*.memberships.* teams.t.memberships.* teams.*.memberships.m
        teams.t teams.*
    """,
}
KINDS = [
    ("users",),
    ("users", "sessions"),
    ("databases",),
    ("databases", "collections"),
    ("databases", "collections", "documents"),
    ("databases", "tables", "rows"),
    ("buckets", "files"),
    ("teams", "memberships"),
    ("functions", "deployments"),
]
ids = st.text("abcXYZ019_-", min_size=1, max_size=36)


@st.composite
def occurrences(draw: st.DrawFn) -> Event:
    kinds = draw(st.sampled_from(KINDS))
    action = draw(st.sampled_from(["create", "update", "delete"]))
    email = kinds == ("users",) and action == "update" and draw(st.booleans())
    return Event(tuple((kind, draw(ids)) for kind in kinds), action, "email" if email else "")


def concrete(event: Event) -> str:
    ends = (event.action, event.attribute) if event.attribute else (event.action,)
    return ".".join((*(part for pair in event.path for part in pair), *ends))


@pytest.mark.parametrize("name", LISTS)
def test_an_occurrence_has_the_names_of_appwrites_list_in_its_order(name: str) -> None:
    assert list(events.names_of(name)) == LISTS[name].split()


@given(occurrences())
def test_the_names_are_all_ways_to_leave_ids_and_ends_out(event: Event) -> None:
    expected = set()
    for length in range(1, len(event.path) + 1):
        ends = {"", f".{event.action}", f".{event.action}.{event.attribute}".rstrip(".")}
        for choice in product(*((id_, "*") for _, id_ in event.path[:length])):
            resource = ".".join(f"{kind}.{id_}" for (kind, _), id_ in zip(event.path[:length], choice, strict=True))
            expected |= {resource + end for end in (ends if length == len(event.path) else {""})}

    assert set(event.names()) == expected
    assert len(event.names()) == len(expected)


@given(occurrences())
def test_a_concrete_name_is_read_as_the_event_it_was_made_of(event: Event) -> None:
    assert events.parse(concrete(event)) == event


@given(occurrences())
def test_every_name_of_an_occurrence_can_be_subscribed_to(event: Event) -> None:
    assert [name for name in event.names() if not events.is_subscription(name)] == []


@given(st.text("abusers.*x:/-_ \n", max_size=30))
def test_any_type_at_all_has_names(type_: str) -> None:
    first, *_ = events.names_of(type_)

    assert first in {type_, f"cloudevents.{type_}"}


@pytest.mark.parametrize(
    "type_",
    [
        "com.example.order.created",
        "users",
        "users.u1",
        "users.*.create",
        "users.u1.frobnicate",
        "users.u1.create.email",
        "users.a.b.create",
        "account.create",
        "cloudevents.x",
        "",
    ],
)
def test_what_is_no_event_of_appwrites_is_known_by_its_type(type_: str) -> None:
    assert events.names_of(type_) == (f"cloudevents.{type_}", "cloudevents.*")


@pytest.mark.parametrize(
    "text",
    [
        "users.*",
        "users.*.update.email",
        "users.*.sessions.*",
        "databases.*",
        "databases.a.tables.b.rows.*.delete",
        "databases.*.collections.*.documents.*.create",
        "teams.*.memberships.*.update.status",
        "functions.f.executions.*.update",
        "cloudevents.*",
        "cloudevents.com.example.order.created",
        "cloudevents.s3:ObjectCreated:Put",
    ],
)
def test_a_function_may_subscribe(text: str) -> None:
    assert events.is_subscription(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "users",
        "users.",
        "users..create",
        "users.*.frobnicate",
        "users.*.create.email",
        "users.*.update.size",
        "users.u.documents.d.create",
        "databases.*.collections.*.documents.*.create.more",
        "databases.*.documents.*.create",
        "users.*.create\n",
        "users.ü.create",
        # What 0.13 and 0.14 called them: Appwrite itself has known neither since 0.15.
        "account.create",
        "database.documents.create",
        "collections.*.documents.*.create",
        "cloudevents",
        "cloudevents.com.*",
        "cloudevents.a b",
    ],
)
def test_a_function_may_not_subscribe(text: str) -> None:
    assert not events.is_subscription(text)


def test_the_resource_definition_has_the_same_rule() -> None:
    definition = yaml.safe_load((ROOT / "crds/functions.yaml").read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]

    (rule,) = schema["properties"]["events"]["items"]["x-kubernetes-validations"]

    assert rule["rule"].split(" || ") == [f"self.matches('^{pattern}$')" for pattern in events.PATTERNS]
