"""Marking many objects at once: at the start, now and then, and when something changes that they all depend on."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import DEPLOYMENT, EXECUTION, FUNCTION, POOL, RUNTIME, Key, Kind
from appfn.core.manifests import pool
from appfn.core.manifests.meta import selector
from appfn.handlers.events import unfinished
from appfn.handlers.work import EVERYTHING, ROUND, Scope
from appfn.kube.protocols import Reader
from appfn.reconcile.registry import Controller, Mark, Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Marks the objects of a scope; a round over everything takes half of `seconds` and repeats after them.

    The rounds make up for events that were missed: kopf does not report what vanished while a watch was broken.
    """

    cluster: Reader
    mark: Mark
    seconds: float
    swept: Seen = field(default_factory=Seen)
    """How new everything was when it was marked: what a list shows that is no newer need not be marked again."""

    async def __call__(self, scope: Scope) -> float | None:
        """Mark the objects; return the seconds after which to do it again, if at all."""
        if scope.runtime:
            await self._users_of(scope)
        else:
            marks = [mark async for mark in self._all_in(scope)]
            pause = self.seconds / 2 / len(marks) if scope.gently and marks else 0.0
            for number, (controller, key) in enumerate(marks):
                self.mark(controller, key, after=pause * number)
        return self.seconds if scope == ROUND else None

    async def _users_of(self, scope: Scope) -> None:
        functions = await self.cluster.list(FUNCTION, namespace=scope.namespace)
        users = {_key(function) for function in functions if function["spec"].get("runtime") == scope.runtime}
        for key in users:
            self.mark(Controller.FUNCTION, key)
        for namespace in {key.namespace for key in users}:
            self.mark(Controller.POOL, Key("", namespace))
        for deployment in await self.cluster.list(DEPLOYMENT, namespace=scope.namespace) if users else ():
            if Key(_key(deployment).namespace, deployment["spec"]["functionRef"]["name"]) in users:
                self.mark(Controller.DEPLOYMENT, _key(deployment))

    async def _all_in(self, scope: Scope) -> AsyncIterator[tuple[Controller, Key]]:
        if not scope.namespace:
            for runtime in await self._list(RUNTIME, scope):
                yield Controller.RUNTIME, _key(runtime)
        # Deployments first: a Function whose Deployments all are looked at is written once.
        for deployment in await self._list(DEPLOYMENT, scope):
            yield Controller.DEPLOYMENT, _key(deployment)
        functions = await self._list(FUNCTION, scope)
        for function in functions:
            yield Controller.FUNCTION, _key(function)
            if _was_called(function):
                yield Controller.HISTORY, _key(function)
        pools = await self.cluster.list(POOL, namespace=scope.namespace, labels=selector(pool.LABELS))
        for namespace in {_key(body).namespace for body in (*functions, *pools)}:
            yield Controller.POOL, Key("", namespace)
        not_mirrored = f"!{names.LABEL_MIRRORED}"
        for execution in await self.cluster.list(EXECUTION, namespace=scope.namespace, labels=not_mirrored):
            if unfinished(execution):
                yield Controller.EXECUTION, _key(execution)

    async def _list(self, kind: Kind, scope: Scope) -> list[Json]:
        bodies = await self.cluster.list(kind, namespace=scope.namespace)
        for body in bodies if scope == EVERYTHING else ():
            self.swept.note(kind, body["metadata"]["resourceVersion"])
        return bodies


def _was_called(function: Json) -> bool:
    """Tell whether a Function may have a history; of the first call its own reconciler hears in time."""
    return bool((function.get("status") or {}).get("executions", {}).get("total"))


def _key(body: Json) -> Key:
    metadata: Mapping[str, str] = body["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])
