"""The cluster as calls see it: projects, functions, runtimes and deployments, from watch caches.

Typed once when an object changes, indexed by Appwrite id, read without I/O. What it returns are immutable values: a
call that started keeps the function it started with.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Self, TypeVar

from appfn import names
from appfn.api.base import Json, ObjectMeta, Resource
from appfn.api.deployment import BuildPhase, Deployment
from appfn.api.function import Function
from appfn.api.kinds import DEPLOYMENT, FUNCTION, NAMESPACE, RUNTIME, Key, Kind
from appfn.api.runtime import Architecture, Runtime
from appfn.core import variables
from appfn.core.activation import leaving
from appfn.core.shares import ALONE, Part, capacity
from appfn.kube.protocols import Cache, Watcher, WatchEventType
from appfn.shim.callee import Callee, Project
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.events.subscriptions import Subscriptions
from appfn.shim.origins import Origins
from appfn.shim.project_owners import ProjectOwners
from appfn.shim.typed_cache import TypedCache

_NO_DEPLOYMENT = "Deployment not found. Create a deployment before trying to execute a function"
_LAG_SECONDS = 2.0
"""How long the caches of two kinds may disagree before a caller is told so."""
_FIRST = datetime.min.replace(tzinfo=UTC)
_I = TypeVar("_I")
ResourceListener = Callable[[Function | Deployment | None, Function | Deployment | None], None]


class Catalog:
    """See the module. Made by `open`."""

    def __init__(self, *, system_namespace: str, part: Part) -> None:
        self.subscriptions = Subscriptions()
        self._system = system_namespace
        self._part = part
        self._projects: ProjectOwners[Project] = ProjectOwners()
        self._found: dict[tuple[str, str], Callee] = {}
        """What calls found since the last change, by namespace and Appwrite id."""
        self._by_id: defaultdict[tuple[str, str], set[Key]] = defaultdict(set)
        self._versions: defaultdict[Key, set[Key]] = defaultdict(set)
        """The deployments of each function, whether it is there or not."""
        self.change = asyncio.Event()
        """Set at the next change, when another one takes its place; take it before reading what must not be missed."""
        self._gone_listeners: list[Callable[[str], None]] = []
        self._listeners: list[ResourceListener] = []
        self._functions: Mapping[Key, Function] = {}
        self._deployments: Mapping[Key, Deployment] = {}
        self._runtimes: Mapping[Key, Runtime] = {}
        self._callees: dict[Key, Callee] = {}
        self._stale: set[Key] = set()
        """Functions whose entry in `_callees` may not be true any more."""

    @classmethod
    @asynccontextmanager
    async def open(cls, watcher: Watcher, *, system_namespace: str, part: Part = ALONE) -> AsyncIterator[Self]:
        """Yield the catalog when its caches are synced; stop watching at the end.

        The system namespace is never a project, whatever its labels say. Capacities are those of `part`.
        """
        catalog = cls(system_namespace=system_namespace, part=part)
        async with AsyncExitStack() as stack:
            namespaces = await stack.enter_async_context(watcher.watch(NAMESPACE, labels=names.LABEL_PROJECT))
            runtimes = await stack.enter_async_context(watcher.watch(RUNTIME))
            deployments = await stack.enter_async_context(watcher.watch(DEPLOYMENT))
            functions = await stack.enter_async_context(watcher.watch(FUNCTION))
            catalog._fill(stack, namespaces, runtimes=runtimes, deployments=deployments, functions=functions)
            yield catalog

    def _fill(
        self, stack: AsyncExitStack, namespaces: Cache, *, runtimes: Cache, deployments: Cache, functions: Cache
    ) -> None:
        for namespace in namespaces.items().values():
            self._on_namespace(WatchEventType.SET, namespace)
        stack.callback(namespaces.subscribe(lambda event: self._on_namespace(event.type, event.body)))
        typed_runtimes = TypedCache(Runtime, runtimes, changed=self._on_runtime, gone=_nobody_asks)
        typed_deployments = TypedCache(Deployment, deployments, changed=self._on_deployment, gone=_nobody_asks)
        typed_functions = TypedCache(Function, functions, changed=self._on_function, gone=self._on_function_gone)
        for typed in (typed_runtimes, typed_deployments, typed_functions):
            stack.callback(typed.close)
        self._runtimes, self._deployments = typed_runtimes.objects, typed_deployments.objects
        self._functions = typed_functions.objects

    # ------------------------------------------------------------------ reads

    def project(self, project_id: str) -> Project:
        """Return the project of an Appwrite id.

        Raises:
            AppwriteError: project_unknown where the id is empty, project_not_found.
        """
        if not project_id:
            raise AppwriteError(Problem.PROJECT_UNKNOWN)
        project = self._projects.owner(project_id)
        if project is None:
            raise AppwriteError(Problem.PROJECT_NOT_FOUND)
        return project

    def project_of(self, namespace: str) -> Project | None:
        """Return the project that a namespace is; None for one that isn't, or that came second with its id."""
        return self._projects.of(namespace)

    def named(self, namespace: str, name: str) -> Function | None:
        """Return a function of a project by its resource name."""
        function = self._functions.get(Key(namespace, name))
        if function is None or function.metadata.deletion_timestamp or self.project_of(namespace) is None:
            return None
        return function

    def function(self, project: Project, function_id: str) -> Function:
        """Return a function by its Appwrite id; the oldest where several claim it.

        Raises:
            AppwriteError: function_not_found.
        """
        function = self._eldest(project, function_id)
        if function is None:
            raise AppwriteError(Problem.FUNCTION_NOT_FOUND)
        return function

    def _eldest(self, project: Project, function_id: str) -> Function | None:
        keys = self._by_id.get((project.namespace, function_id), ())
        return min((function for key in keys if (function := self.named(*key))), key=_age, default=None)

    def functions(self, project: Project) -> list[Function]:
        """Return the functions of a project as `function` finds them, oldest first."""
        ids = [id_ for namespace, id_ in self._by_id if namespace == project.namespace]
        living = [function for id_ in ids if (function := self._eldest(project, id_))]
        return sorted(living, key=_age)

    def deployments(self, function: Function) -> list[Deployment]:
        """Return the deployments of a function, oldest first."""
        found = [self._deployments[key] for key in self._versions.get(function.metadata.key, ())]
        return sorted((item for item in found if not leaving(item, function)), key=_age)

    def all_deployments(self) -> Collection[Deployment]:
        """Return the deployments of all functions."""
        return self._deployments.values()

    def runtime(self, name: str) -> Runtime | None:
        """Return a runtime, also a disabled one."""
        return self._runtimes.get(Key("", name))

    def runtimes(self) -> list[Runtime]:
        """Return the enabled runtimes by name."""
        return [runtime for _, runtime in sorted(self._runtimes.items()) if runtime.spec.enabled]

    def deployment_id(self, namespace: str, name: str) -> str:
        """Return the Appwrite id of a deployment; its name where it is gone."""
        deployment = self._deployments.get(Key(namespace, name))
        return deployment.appwrite_id if deployment else name

    def metadata(self, kind: Kind, key: Key) -> ObjectMeta | None:
        """Return the metadata of a Function or Deployment as last seen."""
        found = (self._functions if kind is FUNCTION else self._deployments).get(key)
        return found.metadata if found else None

    def has_deployment(self, key: Key, *, uid: str) -> bool:
        """Tell whether the very deployment is still there."""
        deployment = self._deployments.get(key)
        return deployment is not None and deployment.metadata.uid == uid

    def callee(self, project: Project, function: Function) -> Callee:
        """Return a function with what a call needs, checked in Appwrite's order.

        Raises:
            AppwriteError: function_not_found (disabled), function_runtime_unsupported, deployment_not_found,
                build_not_found, build_not_ready.
        """
        if not function.spec.enabled:
            raise AppwriteError(Problem.FUNCTION_NOT_FOUND)
        runtime = self.runtime(function.spec.runtime)
        if runtime is None or not runtime.spec.enabled:
            raise AppwriteError(Problem.RUNTIME_UNSUPPORTED, f'Runtime "{function.spec.runtime}" is not supported')
        active = function.status.active_deployment
        deployment = self._deployments.get(Key(function.metadata.namespace, active)) if active else None
        if deployment is None or deployment.spec.function_ref.name != function.metadata.name:
            raise AppwriteError(Problem.DEPLOYMENT_NOT_FOUND, _NO_DEPLOYMENT)
        return Callee(
            project=project,
            function=function,
            runtime=runtime,
            deployment=deployment,
            artifacts=_artifacts(deployment),
            constants=variables.constant(project.id, function, deployment, runtime),
            part=self._part,
        )

    def known_callee(self, project: Project, function_id: str) -> Callee | None:
        """Return what `settled_callee` found since the last change; for what has to be cheap."""
        return self._found.get((project.namespace, function_id))

    async def settled_callee(self, project: Project, function_id: str) -> Callee:
        """As `function` and `callee`, but give the caches a moment to agree.

        A Function's status may name a Deployment whose own last state is still on its way to us, since each kind has
        its own watch: without this wait, calls would fail for some milliseconds at each activation. And a client that
        saw the first build end calls at once, before the operator has activated it.
        """
        if (known := self.known_callee(project, function_id)) is not None:
            return known
        deadline = asyncio.get_running_loop().time() + _LAG_SECONDS
        while True:
            change = self.change
            function = self.function(project, function_id)
            try:
                found = self.callee(project, function)
            except AppwriteError as error:
                if not _may_be_lag(error, function, self.deployments(function)):
                    raise
                try:
                    async with asyncio.timeout_at(deadline):
                        await change.wait()
                except TimeoutError:
                    raise error from None
            else:
                if self.project_of(project.namespace) == project:  # else the caller knew it before it changed
                    self._found[project.namespace, function_id] = found
                return found

    def callees(self) -> Collection[Callee]:
        """Return every function that can be called now; one that has not changed is the same object as before.

        Asked at every change of the cluster, so it costs what has changed, not what there is.
        """
        for key in self._stale:
            callee = self._callable(key)
            if callee is None:
                self._callees.pop(key, None)
            else:
                self._callees[key] = callee
        self._stale.clear()
        return self._callees.values()

    def _callable(self, key: Key) -> Callee | None:
        function, project = self.named(*key), self.project_of(key.namespace)
        if function is None or project is None:
            return None
        try:
            return self.callee(project, function)
        except AppwriteError:
            return None

    def capacities(self) -> dict[str, int]:
        """Return how many calls of each function this process can run at once, by function uid."""
        return {
            function.metadata.uid: capacity(function, self.runtime(function.spec.runtime), self._part)
            for function in self._functions.values()
        }

    # ------------------------------------------------------------------ changes

    def on_function_gone(self, listener: Callable[[str], None]) -> None:
        """Call `listener` (it must not block) with the uid of each function that is deleted from now on."""
        self._gone_listeners.append(listener)

    def on_resource(self, listener: ResourceListener) -> None:
        """Call `listener` (it must not block) with each Function and Deployment that changes, before and after."""
        self._listeners.append(listener)

    def _tell(self, before: Function | Deployment | None, after: Function | Deployment | None) -> None:
        for listener in self._listeners:
            listener(before, after)

    def _on_function_gone(self, uid: str) -> None:
        for listener in self._gone_listeners:
            listener(uid)

    def _on_change(self) -> None:
        self._found.clear()
        self.change.set()
        self.change = asyncio.Event()

    def _on_runtime(self, key: Key, _before: object, _after: object) -> None:
        self._stale.update(at for at, function in self._functions.items() if function.spec.runtime == key.name)
        self._on_change()

    def _on_deployment(self, key: Key, before: Deployment | None, after: Deployment | None) -> None:
        if before is not None:
            self._stale.add(owner := Key(key.namespace, before.spec.function_ref.name))
            _remove(self._versions, owner, key)
        if after is not None:
            self._stale.add(owner := Key(key.namespace, after.spec.function_ref.name))
            self._versions[owner].add(key)
        self._tell(before, after)
        self._on_change()

    def _on_function(self, key: Key, before: Function | None, after: Function | None) -> None:
        if before is not None:
            _remove(self._by_id, (key.namespace, before.appwrite_id), key)
        if after is not None:
            self._by_id[key.namespace, after.appwrite_id].add(key)
        self.subscriptions.changed(key, before, after)
        self._tell(before, after)
        if before is not None and after is not None and _only_counted(before, after):
            return  # of a function that is called this comes every few seconds, and of many all the time
        self._stale.add(key)
        self._on_change()

    def _on_namespace(self, type_: WatchEventType, body: Json) -> None:
        metadata = body["metadata"]
        name = metadata["name"]
        self._projects.remove(name)
        project_id = (metadata.get("labels") or {}).get(names.LABEL_PROJECT, "")
        if type_ is WatchEventType.SET and project_id and name != self._system:
            origins = Origins.parse((metadata.get("annotations") or {}).get(names.ANNOTATION_ORIGINS, ""))
            made = datetime.fromisoformat(metadata["creationTimestamp"])
            self._projects.put(name, project_id, Project(project_id, name, origins), made=made)
        self._stale.update(self._functions)  # rare; and the project that has an id may be another one now
        self._on_change()


def _only_counted(before: Function, after: Function) -> bool:
    """Tell whether it changed how many executions there were, and nothing else but the traces of writing that."""
    counts, metadata = before.status.executions, before.metadata
    if counts == after.status.executions or after.spec != before.spec:
        return False
    traces = {"resource_version": metadata.resource_version, "managed_fields": metadata.managed_fields}
    status = after.status.model_copy(update={"executions": counts})
    return after.metadata.model_copy(update=traces) == metadata and status == before.status


def _artifacts(deployment: Deployment) -> Mapping[Architecture, str]:
    builds = deployment.status.builds
    if not builds:
        raise AppwriteError(Problem.BUILD_NOT_FOUND)
    ready = {
        item.architecture: item.artifact.digest for item in builds if item.phase is BuildPhase.READY and item.artifact
    }
    if not ready:
        raise AppwriteError(Problem.BUILD_NOT_READY)
    return ready


def _remove(index: dict[_I, set[Key]], entry: _I, key: Key) -> None:
    """Take a key out of an index, and with the last one its entry."""
    index[entry].discard(key)
    if not index[entry]:
        del index[entry]


def _age(item: Resource) -> tuple[datetime, str]:
    return item.metadata.creation_timestamp or _FIRST, item.metadata.name


def _nobody_asks(_uid: str) -> None:
    """Take no notice of deleted objects that own nothing here."""


def _may_be_lag(error: AppwriteError, function: Function, deployments: Collection[Deployment]) -> bool:
    lagging = {Problem.DEPLOYMENT_NOT_FOUND, Problem.BUILD_NOT_FOUND, Problem.BUILD_NOT_READY}
    if error.problem not in lagging:
        return False
    return bool(function.status.active_deployment) or any(
        deployment.spec.activate and deployment.status.phase is BuildPhase.READY for deployment in deployments
    )
