"""Who manages the fields of a Function, pure: the API changes what is its own or nobody's, unless told otherwise.

Kubernetes notes for each field who set it last (`metadata.managedFields`); `kubectl apply` without `--server-side`
notes what it was given in an annotation, and goes by that. Both are read here. A field whose value does not change is
nobody's concern. See docs/adr/0016.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from appfn import names
from appfn.api.base import Json
from appfn.shim.errors import AppwriteError, Problem

KUBECTL_APPLY = "kubectl apply"
_CLIENT_SIDE = "kubectl-client-side-apply"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_VARIABLES = "variables"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What the API wants of a Function.

    Attributes:
        spec: fields of `spec` by name with their new values, None to take one away; `variables` is the whole list.
        annotations: annotations by name, None to take one away.
    """

    spec: Json = field(default_factory=dict)
    annotations: Mapping[str, str | None] = field(default_factory=dict)


def merge_patch(body: Json, change: Change) -> Json | None:
    """Return the JSON merge patch that makes a change to a Function as read; None where nothing changes.

    Raises:
        AppwriteError: general_field_managed, naming each field and who manages it.
    """
    metadata, spec = body["metadata"], body.get("spec", {})
    annotations = metadata.get("annotations") or {}
    wanted = {
        name: _replacing(spec.get(name), value)
        for name, value in change.spec.items()
        if not _same(spec.get(name), value)
    }
    notes = {name: value for name, value in change.annotations.items() if annotations.get(name) != value}
    if not wanted and not notes:
        return None
    if annotations.get(names.ANNOTATION_API_WRITES) != names.API_WRITES_FORCE:
        _refuse(metadata, [held for name, value in wanted.items() for held in _held(body, name, value)])
    found: Json = {"metadata": {"resourceVersion": metadata["resourceVersion"]}}
    if notes:
        found["metadata"]["annotations"] = notes
    return found | {"spec": wanted} if wanted else found


def _same(current: Any, wanted: Any) -> bool:
    return bool(current == wanted or (_is_nothing(current) and _is_nothing(wanted)))


def _replacing(current: Any, wanted: Any) -> Any:
    """Return the merge patch after which a field is as wanted: of an object, also what goes is named."""
    if not isinstance(current, dict) or not isinstance(wanted, dict):
        return wanted
    return {name: _replacing(current.get(name), wanted.get(name)) for name in current.keys() | wanted.keys()}


def _is_nothing(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _refuse(metadata: Json, held: list[tuple[str, str]]) -> None:
    if not held:
        return
    fields = "; ".join(f"{path} is managed by {manager}" for path, manager in sorted(held))
    at = f"-n {metadata['namespace']} {metadata['name']}"
    remedy = f"kubectl annotate functions.appfn.dev {at} {names.ANNOTATION_API_WRITES}={names.API_WRITES_FORCE}"
    message = f"{fields}. Change it there, or let the API win in future: {remedy}"
    raise AppwriteError(Problem.FIELD_MANAGED, message)


def _held(body: Json, name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield path and manager of what others manage of a field that changes."""
    path = f"spec.{name}"
    if name in _last_applied(body["metadata"]):
        yield path, KUBECTL_APPLY
    if name != _VARIABLES:
        yield from ((path, entry["manager"]) for entry in _others(body["metadata"]) if f"f:{name}" in _owned(entry))
        return
    changed = _changed(body.get("spec", {}).get(name) or (), value or ())
    for entry in _others(body["metadata"]):
        items = _owned(entry).get(f"f:{name}", {})
        owned = {json.loads(key[2:])["name"] for key in items if key.startswith("k:")}
        yield from ((f"spec.variables[{item}]", entry["manager"]) for item in owned & changed)


def _changed(before: Iterable[Json], after: Iterable[Json]) -> set[str]:
    """Return the names of variables that are new, gone or other."""
    old, new = ({item["name"]: item for item in items} for items in (before, after))
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}


def _others(metadata: Json) -> Iterator[Json]:
    for entry in metadata.get("managedFields") or ():
        ours = entry.get("manager") in {names.FIELD_MANAGER_API, _CLIENT_SIDE}
        if not ours and not entry.get("subresource"):
            yield entry


def _owned(entry: Json) -> Json:
    owned: Json = entry.get("fieldsV1", {}).get("f:spec", {})
    return owned


def _last_applied(metadata: Json) -> Json:
    """Return the spec that `kubectl apply` was last given; it changes back all that is in there, and nothing else."""
    text = (metadata.get("annotations") or {}).get(_LAST_APPLIED)
    try:
        spec = json.loads(text)["spec"] if text else {}
    except (ValueError, KeyError, TypeError):
        return {}
    return spec if isinstance(spec, dict) else {}
