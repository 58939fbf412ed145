"""The variables of a function as Appwrite's API has them, pure: what the Function says, and how it is changed.

The API keeps each value in a Secret of the function, under a key that is new for each value: who watches the Function
thus sees that there is another value, and no cache of the Secret can have the old one for the new. What only the API
knows of a variable (id, dates, whether it is secret) is in an annotation; of one that somebody else made, it is told.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from appfn import names
from appfn.api.base import Json
from appfn.api.function import Function, Variable
from appfn.shim.ownership import Change

_ID = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A variable as the API sees it.

    Attributes:
        name: `key` in the API.
        id: given by the API; told by the name where somebody else made it.
        secret: whether the value is never shown.
        created_at: when it was made, where that is known.
        updated_at: when it was last changed, where that is known.
        value: where it is in the Function itself.
        stored: its key in the Secret of the function; empty where the value is elsewhere.
    """

    name: str
    id: str
    secret: bool
    created_at: datetime | None
    updated_at: datetime | None
    value: str | None
    stored: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What a variable is to be.

    Attributes:
        id: its id.
        secret: whether the value is never shown.
        created_at: when it was made.
        updated_at: now.
        stored: the key of its new value in the Secret of the function; None: the value stays what and where it is.
        was: its name so far, where it gets another one.
    """

    id: str
    secret: bool
    created_at: datetime
    updated_at: datetime
    stored: str | None
    was: str = ""


Edits = Mapping[str, Edit | None]
"""By name; None takes one away."""


def known(function: Function) -> list[Known]:
    """Return the variables of a function in the order of its spec."""
    notes = _notes(function.metadata.annotations)
    return [_known(function, item, notes.get(item.name, {})) for item in function.spec.variables]


def secret_name(function: Function) -> str:
    """Return the name of the Secret that holds the values the API was given."""
    return names.variables_secret(function.metadata.name, function.metadata.uid)


def stored_keys(function: Function) -> frozenset[str]:
    """Return the keys of that Secret that the function uses."""
    return frozenset(item.stored for item in known(function) if item.stored)


def decide(edits: Callable[[Function], Edits]) -> Callable[[Json], Change]:
    """Return what changes of a Function, read anew, by the edits that are asked for at that moment."""

    def change(body: Json) -> Change:
        function = Function.parse(body)
        return _change(function, body["spec"].get("variables", []), edits(function))

    return change


def _change(function: Function, items: list[Json], edits: Edits) -> Change:
    notes = {
        name: note
        for name, note in _notes(function.metadata.annotations).items()
        if any(item["name"] == name for item in items)
    }
    sources = {item["name"]: {key: value for key, value in item.items() if key != "name"} for item in items}
    variables = dict(sources)
    for name, edit in edits.items():
        notes.pop(name, None)
        if edit is None:
            variables.pop(name, None)
        else:
            variables[name] = _source(function, edit) or sources[edit.was or name]
            notes[name] = _note(edit)
    spec = [{"name": name, **source} for name, source in variables.items()]
    return Change(
        spec={"variables": spec}, annotations={names.ANNOTATION_VARIABLES: json.dumps(notes) if notes else None}
    )


def _source(function: Function, edit: Edit) -> Json | None:
    if edit.stored is None:
        return None
    return {"valueFrom": {"secretKeyRef": {"name": secret_name(function), "key": edit.stored}}}


def _note(edit: Edit) -> Json:
    return {
        "id": edit.id,
        "secret": edit.secret,
        "createdAt": edit.created_at.isoformat(),
        "updatedAt": edit.updated_at.isoformat(),
    }


def _notes(annotations: Mapping[str, str]) -> dict[str, Json]:
    try:
        found = json.loads(annotations.get(names.ANNOTATION_VARIABLES, "{}"))
    except ValueError:
        return {}
    return {name: note for name, note in found.items() if isinstance(note, dict)} if isinstance(found, dict) else {}


def _known(function: Function, item: Variable, note: Json) -> Known:
    reference = item.value_from.secret_key_ref if item.value_from else None
    stored = reference.key if reference and reference.name == secret_name(function) else ""
    made = function.metadata.creation_timestamp
    return Known(
        name=item.name,
        id=str(note.get("id") or hashlib.sha256(item.name.encode()).hexdigest()[:_ID]),
        secret=bool(note.get("secret")) if stored or item.value_from is None else True,
        created_at=_moment(note.get("createdAt")) or made,
        updated_at=_moment(note.get("updatedAt")) or function.metadata.changed_at or made,
        value=item.value if item.value_from is None else None,
        stored=stored,
    )


def _moment(text: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo else None
