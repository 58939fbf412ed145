"""From an object that changed to what has to be looked at again. No I/O, and nothing of kopf."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from appfn import names
from appfn.api.base import Json
from appfn.api.execution import ExecutionPhase
from appfn.api.kinds import CRON_JOB, DEPLOYMENT, EXECUTION, FUNCTION, JOB, NAMESPACE, NODE, POD, RUNTIME, Key, Kind
from appfn.handlers.work import EVERYTHING, Scope, Work
from appfn.reconcile.registry import Controller

_ARCHITECTURE = "kubernetes.io/arch"
_NOTHING: frozenset[Work] = frozenset()


def keys_of(kind: Kind, body: Json) -> frozenset[Work]:
    """Return the objects that a change, or the end, of this object concerns directly."""
    find = _CONCERNED.get(kind)
    return find(body) if find else _NOTHING


def unfinished(execution: Json) -> bool:
    """Tell whether there is anything left to do for an Execution.

    Not for one that mirrors a call made over HTTP, nor for one that has ended and is kept until somebody deletes it.
    """
    if names.LABEL_MIRRORED in _labels(execution):
        return False
    phase = (execution.get("status") or {}).get("status")
    ended = phase in {ExecutionPhase.COMPLETED, ExecutionPhase.FAILED}
    return not ended or execution["spec"].get("ttlSecondsAfterFinished") is not None


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
    """Remembers of Runtimes, Nodes and Namespaces what others depend on, to tell real changes from heartbeats."""

    def __init__(self) -> None:
        self._generations: dict[str, tuple[str, int]] = {}
        self._architectures: dict[str, str] = {}
        self._projects: dict[str, str] = {}

    def note(self, kind: Kind, body: Json, *, listed: bool, gone: bool) -> Scope | None:
        """Return whose objects this change concerns, None where it changes nothing for others.

        `listed`: it was found in a list. What is first seen there is no change: who starts looks at everything anyway.
        """
        name, labels = _key(body).name, _labels(body)
        if kind == RUNTIME:
            version = (body["metadata"]["uid"], body["metadata"]["generation"])
            return Scope(runtime=name) if _learn(self._generations, name, None if gone else version, listed) else None
        if kind == NODE:
            before = set(self._architectures.values())
            _learn(self._architectures, name, None if gone else labels.get(_ARCHITECTURE), listed)
            return EVERYTHING if before != set(self._architectures.values()) else None
        if kind == NAMESPACE:
            project = None if gone else labels.get(names.LABEL_PROJECT)
            return Scope(namespace=name) if _learn(self._projects, name, project, listed) else None
        return None


T = TypeVar("T")


def _learn(memory: dict[str, T], name: str, value: T | None, listed: bool) -> bool:  # noqa: FBT001 - private, one caller
    """Remember the value (None: there is none any more); tell whether that is a change."""
    before = memory.pop(name, None)
    if value is not None:
        memory[name] = value
    return before != value and not (before is None and listed)


def _key(body: Json) -> Key:
    metadata = body["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


def _labels(body: Json) -> Mapping[str, str]:
    return body["metadata"].get("labels") or {}
