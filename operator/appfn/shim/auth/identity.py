"""Who calls, pure."""

from dataclasses import dataclass, field
from enum import StrEnum

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Base of all callers of the public API.

    Attributes:
        subject: names the caller among those of its project, for idempotency keys; never shown.
        label: how Appwrite's messages name it.
    """

    subject: str
    label: str

    @property
    def privileged(self) -> bool:
        """Tell whether `execute` roles don't concern the caller, and whether it sees logs."""
        return False

    @property
    def roles(self) -> frozenset[str]:
        """Return the Appwrite roles that `execute` is matched with."""
        return frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest(Caller):
    """Nobody in particular."""

    subject: str = "guest"
    label: str = "User (role: guests)"

    @property
    def roles(self) -> frozenset[str]:
        """Return a guest's."""
        return GUEST_ROLES


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCaller(Caller):
    """The holder of an API key of the project."""

    scopes: frozenset[str]

    @property
    def privileged(self) -> bool:
        """Return True: a key is a server's."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountCaller(Caller):
    """A workload of the cluster; RBAC says what it may do."""

    identity: TokenIdentity = field(repr=False)

    @property
    def privileged(self) -> bool:
        """Return True: RBAC has said so."""
        return True


def scopes_of(text: str) -> frozenset[str]:
    """Return the scopes of a whitespace-separated list; the old `execution.…` names mean the new ones."""
    return frozenset(
        f"executions.{word.removeprefix('execution.')}" if word.startswith("execution.") else word
        for word in text.split()
    )
