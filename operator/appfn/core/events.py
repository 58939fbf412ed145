"""Appwrite's events, pure: their names, and what a function may subscribe to.

What happened has one concrete name, such as `users.u1.update.email`, and many more general ones. A function is executed
where one of its `events` equals one of them: nothing is matched by patterns, `*` is a name like any other.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

FUNCTIONS, DEPLOYMENTS, EXECUTIONS = "functions", "deployments", "executions"
FOREIGN = "cloudevents"
"""First part of the names of events that are not Appwrite's; the type of the CloudEvent follows."""

_RESOURCES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "users": {"sessions": (), "recovery": (), "verification": (), "targets": (), "tokens": ()},
    "databases": {
        "collections": ("documents", "attributes", "indexes"),
        "tables": ("rows", "columns", "indexes"),
    },
    "buckets": {"files": ()},
    "teams": {"memberships": ()},
    FUNCTIONS: {DEPLOYMENTS: (), EXECUTIONS: ()},
}
_ACTIONS = ("create", "update", "delete")
_ATTRIBUTES: Mapping[tuple[str, ...], Sequence[str]] = {
    ("users",): ("email", "name", "password", "phone", "prefs", "status", "verification"),
    ("teams",): ("prefs",),
    ("teams", "memberships"): ("status",),
}
"""What `update` may name besides, by resource."""

_ID = "([*]|[A-Za-z0-9_-]+)"
_TYPE = "[A-Za-z0-9_:/-]+([.][A-Za-z0-9_:/-]+)*"
_WILDCARDS: Mapping[int, Sequence[frozenset[int]]] = {
    1: (),
    2: (frozenset({1}), frozenset({0})),
    3: tuple(map(frozenset[int], ((1,), (0, 1), (0,), (2,), (0, 2), (1, 2)))),
}
"""Which ids are replaced by `*`, in the order of Appwrite's list, by how many ids there are."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a resource.

    Attributes:
        path: kind and id of the resource behind those of its parents: `(("users", "u1"), ("sessions", "s1"))`.
        action: `create`, `update` or `delete`.
        attribute: what of the resource was updated; empty for nothing in particular.
    """

    path: tuple[tuple[str, str], ...]
    action: str
    attribute: str = ""

    def names(self) -> tuple[str, ...]:
        """Return all names of the event, the concrete one first: the list that Appwrite makes, in its order."""
        return tuple(dict.fromkeys(self._names()))

    def _names(self) -> Iterator[str]:
        depth = len(self.path)
        choices = (frozenset[int](), frozenset(range(depth)), *_WILDCARDS[depth])
        for length, suffix in self._forms():
            for wild in choices:
                parts = (
                    part
                    for at, (kind, id_) in enumerate(self.path[:length])
                    for part in (kind, "*" if at in wild else id_)
                )
                yield ".".join((*parts, *suffix))

    def _forms(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Yield how many resources a name has, and what stands behind them."""
        depth = len(self.path)
        plain, exact = (depth, (self.action,)), (depth, (self.action, self.attribute))
        # Appwrite's order: of a resource without parents the update as such comes before the update of an attribute.
        forms = (exact, plain) if depth > 1 else (plain, exact)
        yield from forms if self.attribute else (plain,)
        for length in range(depth, 0, -1):
            yield length, ()


def parse(name: str) -> Event | None:
    """Return the event that a concrete name is of; None where it is none of Appwrite's."""
    parts = name.split(".")
    if "*" in parts or parts[0] == FOREIGN or not is_subscription(name):
        return None
    ids = 1 + (len(parts) > 3 and parts[2] in _RESOURCES[parts[0]])  # noqa: PLR2004 - kind, id, kind, id
    if ids > 1 and len(parts) > 5 and parts[4] in _RESOURCES[parts[0]][parts[2]]:  # noqa: PLR2004 - and so on
        ids += 1
    path = tuple(zip(parts[: 2 * ids : 2], parts[1 : 2 * ids : 2], strict=True))
    action, *attribute = parts[2 * ids :] or [""]
    return Event(path, action, *attribute) if action else None


def names_of(type_: str) -> tuple[str, ...]:
    """Return all names of an event, given its concrete name or the type of a CloudEvent that is none of Appwrite's."""
    event = parse(type_)
    return event.names() if event else (f"{FOREIGN}.{type_}", f"{FOREIGN}.*")


def is_subscription(text: str) -> bool:
    """Tell whether a function may subscribe to it: 2 to 7 parts, with a resource and an action that Appwrite knows.

    Or `cloudevents.` and the type of any CloudEvent, or `cloudevents.*` for all that are none of Appwrite's events.
    """
    return _SUBSCRIPTION.fullmatch(text) is not None


def _tail(path: tuple[str, ...], children: Mapping[str, Sequence[str]]) -> str:
    """Return the pattern of what may follow a resource's id."""
    ends = [f"[.]({'|'.join(_ACTIONS)})"]
    if attributes := _ATTRIBUTES.get(path):
        ends.append(f"[.]update[.]({'|'.join(attributes)})")
    siblings: defaultdict[str, list[str]] = defaultdict(list)
    for child, below in children.items():
        siblings[_tail((*path, child), dict.fromkeys(below, ()))].append(child)
    ends += (f"[.]({'|'.join(kinds)})[.]{_ID}{tail}" for tail, kinds in siblings.items())
    return f"({'|'.join(ends)})?"


PATTERNS = (
    *(f"{kind}[.]{_ID}{_tail((kind,), below)}" for kind, below in _RESOURCES.items()),
    f"{FOREIGN}[.]([*]|{_TYPE})",
)
"""Regular expressions one of which a subscription matches as a whole; the resource definition has the same."""
_SUBSCRIPTION = re.compile("|".join(PATTERNS), re.ASCII)
