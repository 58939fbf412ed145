"""Who calls, pure."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Self

from appfn.kube.protocols import TokenIdentity

GUEST_ROLES = frozenset({"any", "guests"})


class Scope(StrEnum):
    """What an API key may be allowed to do; the names of Appwrite 1.4 and later."""

    EXECUTIONS_READ = "executions.read"
    EXECUTIONS_WRITE = "executions.write"
    FUNCTIONS_READ = "functions.read"
    FUNCTIONS_WRITE = "functions.write"
    EVENTS_WRITE = "events.write"
    """To bring events; Appwrite, whose events come from within, has none."""
    HEALTH_READ = "health.read"
    GRAPHQL = "graphql"


SCOPES_OF_EVERY_KEY = frozenset({Scope.HEALTH_READ, Scope.GRAPHQL})
"""What an API key may do without being given it, as in Appwrite."""
MAX_TEAMS = 100
"""Teams of a user at most, roles within them counted; what is beyond is not looked at."""
_TEAM = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})(?:/([A-Za-z0-9][A-Za-z0-9._-]{0,63}))?", re.ASCII)
_MEMBERSHIP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Base of all callers of the public API. All that each call asks of them is a value.

    Attributes:
        subject: names the caller among those of its project, for idempotency keys; never shown.
        label: how Appwrite's messages name it.
        roles: the Appwrite roles that `execute` is matched with.
        user_id: the user who calls; empty where it is none.
        user_claims: what the user's token says of them, unsigned; empty where it is none.
        permissions: those that an execution of the caller's gets: its user alone reads it, besides keys.
    """

    subject: str
    label: str
    privileged: ClassVar[bool] = False
    """Whether `execute` roles don't concern the caller, and whether it sees logs."""
    roles: frozenset[str] = field(default=frozenset(), repr=False)
    user_id: str = ""
    user_claims: str = field(default="", repr=False)
    permissions: tuple[str, ...] = ()

    def reads(self, permissions: Collection[str]) -> bool:
        """Tell whether the caller may see an execution with these permissions: a user only what it has asked for."""
        return self.privileged or not set(self.permissions).isdisjoint(permissions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest(Caller):
    """Nobody in particular."""

    subject: str = "guest"
    label: str = "User (role: guests)"
    roles: frozenset[str] = field(default=GUEST_ROLES, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserClaims:
    """What a token says of a user.

    Attributes:
        user_id: Appwrite's `$id`, within the project.
        verified: whether the user's address was verified.
        teams: what the user is a member of: a team's id, or `team/role`, which implies the team.
        memberships: ids of memberships.
    """

    user_id: str
    verified: bool = False
    teams: tuple[str, ...] = ()
    memberships: tuple[str, ...] = ()

    def roles(self) -> frozenset[str]:
        """Return all that Appwrite would match with `execute`."""
        state = "verified" if self.verified else "unverified"
        found = {"any", "users", f"users/{state}", f"user:{self.user_id}", f"user:{self.user_id}/{state}"}
        for team in self.teams:
            found |= {f"team:{team}", f"team:{team.partition('/')[0]}"}
        return frozenset(found | {f"member:{membership}" for membership in self.memberships})


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCaller(Caller):
    """A user of the project, by a token of ours or of an issuer that the project trusts."""

    @classmethod
    def of(cls, claims: UserClaims, text: str) -> Self:
        """Return the user of whom a token makes these claims; `text`: as they are kept."""
        return cls(
            subject=f"user:{claims.user_id}",
            label="User (role: users)",
            roles=claims.roles(),
            user_id=claims.user_id,
            user_claims=text,
            permissions=(f'read("user:{claims.user_id}")',) if claims.user_id else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCaller(Caller):
    """The holder of an API key of the project."""

    privileged: ClassVar[bool] = True
    """A key is a server's."""

    scopes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountCaller(Caller):
    """A workload of the cluster; RBAC says what it may do."""

    privileged: ClassVar[bool] = True
    """RBAC has said so."""

    identity: TokenIdentity = field(repr=False)


def teams_of(texts: Collection[str]) -> tuple[str, ...]:
    """Return those of some texts that are a team's id or `team/role`, without repeats; the others name no role."""
    return tuple(dict.fromkeys(text for text in list(texts)[:MAX_TEAMS] if _TEAM.fullmatch(text)))


def memberships_of(texts: Collection[str]) -> tuple[str, ...]:
    """Return those of some texts that may be the id of a membership."""
    return tuple(dict.fromkeys(text for text in list(texts)[:MAX_TEAMS] if _MEMBERSHIP.fullmatch(text)))


def scopes_of(text: str) -> frozenset[str]:
    """Return the scopes of a whitespace-separated list; the old `execution.…` names mean the new ones."""
    return frozenset(
        f"executions.{word.removeprefix('execution.')}" if word.startswith("execution.") else word
        for word in text.split()
    )
