"""The table of calls finds what is wrong: with a client that is played."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from support.clients import page
from support.clients.drivers import ClientError, SdkDriver
from support.clients.released import ALL
from support.clients.table import Report, Steps, Verdict, World, tell

RELEASE = ALL[0]
REFUSED = "general_not_implemented"


class Played:
    """A client whose calls answer with nothing, or raise an error of the given type."""

    def __init__(self, **errors: str) -> None:
        self._errors = errors

    def methods(self) -> Mapping[str, list[str]]:
        return {"functions": ["list", "brandNew"], "users": ["list"], "teams": ["list"]}

    def call(self, call: str, /, **_arguments: Any) -> Any:
        if type_ := self._errors.get(call.split(".", maxsplit=1)[0]):
            raise ClientError("no", code=405, type_=type_)
        return {}


def told(client: Played) -> tuple[Steps, Report]:
    steps = Steps()
    steps.add("functions.list")(lambda world: world.call("functions.list"))
    steps.add("users.list", refused=REFUSED)(lambda world: world.call("users.list"))
    steps.add("teams.list", **{RELEASE.slug.replace("-", "_"): "forgets its address"})(
        lambda world: world.call("teams.list")
    )
    steps.add("sites.list")(lambda world: world.call("sites.list"))
    played = cast("SdkDriver", client)
    world = World(client=played, release=RELEASE, function="f", code=Path("code"), spare=Path("spare"))
    return steps, tell(list(steps), world)


def test_calls_that_come_to_what_they_should_are_told_as_such() -> None:
    _, report = told(Played(users=REFUSED, teams="general_route_not_found"))

    assert {call: outcome.verdict for call, outcome in report.outcomes.items()} == {
        "functions.list": Verdict.WORKS,
        "users.list": Verdict.REFUSED,
        "teams.list": Verdict.DEFECT,
    }
    assert report.broken == {}


@pytest.mark.parametrize(
    ("client", "broken"),
    [
        pytest.param(Played(functions=REFUSED, users=REFUSED, teams="any"), "functions.list", id="a call that fails"),
        pytest.param(Played(users="user_unauthorized", teams="any"), "users.list", id="a refusal of another type"),
        pytest.param(Played(teams="any"), "users.list", id="a refusal that does not come"),
        pytest.param(Played(users=REFUSED), "teams.list", id="a defect that is mended"),
    ],
)
def test_what_comes_to_something_else_is_broken(client: Played, broken: str) -> None:
    _, report = told(client)

    assert list(report.broken) == [broken]


def test_a_call_that_the_table_lacks_is_told() -> None:
    _, report = told(Played())

    assert report.untold == ["functions.brandnew"]


def test_the_page_says_what_works_and_why_the_rest_does_not() -> None:
    steps, report = told(Played(users=REFUSED, teams="any"))

    text = page.render(list(steps), {RELEASE: report})

    assert "| `functions.list` | ✓ |  |" in text
    assert "| `users.list` | ✗ | `general_not_implemented` |" in text
    assert f"| `teams.list` | ✗ | {RELEASE.title} forgets its address |" in text
    assert "sites.list" not in text
