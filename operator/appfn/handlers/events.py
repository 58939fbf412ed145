"""From an object that changed to what has to be looked at again. No I/O, and nothing of kopf."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from appfn import names
from appfn.api.base import Json
from appfn.api.execution import ExecutionPhase
from appfn.api.kinds import (
    CRON_JOB,
    DEPLOYMENT,
    EXECUTION,
    FUNCTION,
    JOB,
    NAMESPACE,
    NODE,
    POD,
    POOL,
    RUNTIME,
    Key,
    Kind,
)
from appfn.handlers.work import EVERYTHING, Item, Scope, Work
from appfn.reconcile.registry import SETTLED, Controller

_ARCHITECTURE = "kubernetes.io/arch"
_NOTHING: frozenset[Work] = frozenset()


def keys_of(kind: Kind, body: Json, *, ours: bool = False) -> frozenset[Work]:
    """Return the objects that a change, or the end, of this object concerns directly.

    `ours`: what is seen is a status that a controller in SETTLED has just written; that concerns the others alone.
    """
    find = _CONCERNED.get(kind)
    concerned = find(body) if find else _NOTHING
    return concerned - {Work(SETTLED[kind], _key(body))} if ours else concerned


def unfinished(execution: Json) -> bool:
    """Tell whether there is anything left to do for an Execution.

    Not for one that mirrors a call made over HTTP, nor for one that has ended, is kept until somebody deletes it, and
    is not to be run again.
    """
    if names.LABEL_MIRRORED in _labels(execution):
        return False
    status = execution.get("status") or {}
    ended = status.get("status") in {ExecutionPhase.COMPLETED, ExecutionPhase.FAILED}
    asked = (execution["metadata"].get("annotations") or {}).get(names.ANNOTATION_REPLAY, "")
    again = asked not in {"", status.get("replayToken", "")}
    return not ended or again or execution["spec"].get("ttlSecondsAfterFinished") is not None


def _own(controller: Controller) -> Callable[[Json], frozenset[Work]]:
    return lambda body: frozenset({Work(controller, _key(body))})


def _deployment(body: Json) -> frozenset[Work]:
    function = Key(_key(body).namespace, body["spec"]["functionRef"]["name"])
    return frozenset({Work(Controller.DEPLOYMENT, _key(body)), Work(Controller.FUNCTION, function)})


def _execution(body: Json) -> frozenset[Work]:
    return frozenset({Work(Controller.EXECUTION, _key(body))}) if unfinished(body) else _NOTHING


def _labelled(controller: Controller, label: str) -> Callable[[Json], frozenset[Work]]:
    def find(body: Json) -> frozenset[Work]:
        name = _labels(body).get(label)
        return frozenset({Work(controller, Key(_key(body).namespace, name))}) if name else _NOTHING

    return find


_CONCERNED: Mapping[Kind, Callable[[Json], frozenset[Work]]] = {
    FUNCTION: _own(Controller.FUNCTION),
    DEPLOYMENT: _deployment,
    EXECUTION: _execution,
    RUNTIME: _own(Controller.RUNTIME),
    JOB: _labelled(Controller.DEPLOYMENT, names.LABEL_DEPLOYMENT),
    POD: _labelled(Controller.DEPLOYMENT, names.LABEL_DEPLOYMENT),
    CRON_JOB: _labelled(Controller.FUNCTION, names.LABEL_FUNCTION),
}


class Surroundings:
    """Remembers of objects what others depend on, to tell real changes from heartbeats and written statuses."""

    def __init__(self) -> None:
        self._generations: dict[tuple[Kind, Key], tuple[str, int]] = {}
        self._architectures: dict[str, str] = {}
        self._projects: dict[str, str] = {}
        self._sizes: dict[str, frozenset[tuple[str, str]]] = {}

    def note(self, kind: Kind, body: Json, *, listed: bool, gone: bool) -> Item | None:
        """Return what else this change concerns: objects to sweep, or a namespace's pools; None where nothing.

        `listed`: it was found in a list by one who starts, and who looks at everything anyway: that is no change.
        """
        namespace, name = _key(body)
        if kind in {RUNTIME, FUNCTION, POOL}:
            version = (body["metadata"]["uid"], body["metadata"]["generation"])
            if not _learn(self._generations, (kind, _key(body)), None if gone else version, listed):
                return None
            return Scope(runtime=name) if kind == RUNTIME else _pools_of(namespace)
        if kind == NODE:
            before, architecture = set(self._architectures.values()), None if gone else _labels(body).get(_ARCHITECTURE)
            changed = _learn(self._architectures, name, architecture, listed)
            return EVERYTHING if changed and before != set(self._architectures.values()) else None
        if kind == NAMESPACE:
            resized = _learn(self._sizes, name, None if gone else _sizes(body), listed)
            project = None if gone else _labels(body).get(names.LABEL_PROJECT)
            if _learn(self._projects, name, project, listed):
                return Scope(namespace=name)
            return _pools_of(name) if resized else None
        return None


K = TypeVar("K")
T = TypeVar("T")


def _learn(memory: dict[K, T], name: K, value: T | None, listed: bool) -> bool:  # noqa: FBT001 - private, one caller
    """Remember the value (None: there is none any more); tell whether that is a change."""
    before = memory.pop(name, None)
    if value is not None:
        memory[name] = value
    return before != value and not (before is None and listed)


def _pools_of(namespace: str) -> Work:
    return Work(Controller.POOL, Key("", namespace))


def _sizes(namespace: Json) -> frozenset[tuple[str, str]] | None:
    """Return what a namespace says about the sizes of its pools."""
    annotations: Mapping[str, str] = namespace["metadata"].get("annotations") or {}
    said = ((name, value) for name, value in annotations.items() if name.startswith(names.ANNOTATION_POOL_PREFIX))
    return frozenset(said) or None


def _key(body: Json) -> Key:
    metadata = body["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


def _labels(body: Json) -> Mapping[str, str]:
    return body["metadata"].get("labels") or {}
