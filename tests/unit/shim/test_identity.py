"""Who a user is to the roles of a function."""

import pytest

from appfn.shim.auth.identity import (
    MAX_TEAMS,
    Guest,
    UserClaims,
    memberships_of,
    scopes_of,
    teams_of,
)

EVERYBODY = {"any", "users", "user:ada"}
UNVERIFIED = EVERYBODY | {"users/unverified", "user:ada/unverified"}


@pytest.mark.parametrize(
    ("claims", "roles"),
    [
        (UserClaims(user_id="ada"), UNVERIFIED),
        (UserClaims(user_id="ada", verified=True), EVERYBODY | {"users/verified", "user:ada/verified"}),
        (
            UserClaims(user_id="ada", teams=("staff",)),
            UNVERIFIED | {"team:staff"},
        ),
        (
            UserClaims(user_id="ada", teams=("staff/owner", "staff/dev", "ops")),
            EVERYBODY
            | {
                "users/unverified",
                "user:ada/unverified",
                "team:staff",
                "team:staff/owner",
                "team:staff/dev",
                "team:ops",
            },
        ),
        (
            UserClaims(user_id="ada", memberships=("m1", "m2")),
            UNVERIFIED | {"member:m1", "member:m2"},
        ),
    ],
)
def test_a_user_has_appwrites_roles(claims: UserClaims, roles: set[str]) -> None:
    assert claims.roles() == roles


def test_a_guest_is_no_user() -> None:
    assert Guest().roles == {"any", "guests"}
    assert (Guest().user_id, Guest().user_claims, Guest().permissions) == ("", "", ())


@pytest.mark.parametrize("text", ["", "/", "a/", "/a", "a/b/c", "a b", "a:b", "-a", "a" * 65, "é", "a\n", 'a"'])
def test_what_can_be_no_team_gives_no_role(text: str) -> None:
    assert teams_of([text]) == ()
    assert memberships_of([text]) == ()


def test_teams_are_taken_once_and_not_without_end() -> None:
    assert teams_of(["a", "a/b", "a"]) == ("a", "a/b")
    assert len(teams_of([f"t{number}" for number in range(1000)])) == MAX_TEAMS


@pytest.mark.parametrize(
    ("text", "scopes"),
    [
        ("execution.read execution.write", {"executions.read", "executions.write"}),
        ("executions.read functions.write", {"executions.read", "functions.write"}),
        (" \n", set()),
    ],
)
def test_scopes_have_old_and_new_names(text: str, scopes: set[str]) -> None:
    assert scopes_of(text) == scopes
