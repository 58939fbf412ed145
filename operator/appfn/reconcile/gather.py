"""Live reads that several controllers share."""

from typing import TypeVar

from appfn import names
from appfn.api import kinds
from appfn.api.base import Json, Resource
from appfn.api.deployment import Deployment
from appfn.api.execution import Execution
from appfn.api.function import Function
from appfn.api.kinds import Key, Kind
from appfn.api.runtime import Runtime
from appfn.core.manifests.pod import LABEL_NODE_ARCHITECTURE
from appfn.kube.protocols import Reader
from appfn.reconcile.dependencies import Dependencies

R = TypeVar("R", bound=Resource)

_TYPES: dict[type[Resource], Kind] = {
    Function: kinds.FUNCTION,
    Deployment: kinds.DEPLOYMENT,
    Execution: kinds.EXECUTION,
    Runtime: kinds.RUNTIME,
}


async def find(reader: Reader, type_: type[R], key: Key) -> R | None:
    """Return the resource, None where there is none."""
    body = await reader.get(_TYPES[type_], key)
    return None if body is None else type_.parse(body)


async def find_runtime(deps: Dependencies, function: Function | None) -> Runtime | None:
    """Return the Runtime a Function names."""
    body = None if function is None else await deps.recall.get(deps, kinds.RUNTIME, Key("", function.spec.runtime))
    return None if body is None else Runtime.parse(body)


async def of_function(reader: Reader, type_: type[R], function: Key, *, labels: str = "", since: str = "") -> list[R]:
    """Return the resources of the namespace whose functionRef names the Function; `since`: see `Reader.list`."""
    fields = f"spec.functionRef.name={function.name}"
    bodies = await reader.list(_TYPES[type_], namespace=function.namespace, labels=labels, fields=fields, since=since)
    return [type_.parse(body) for body in bodies]


async def is_project(deps: Dependencies, namespace: str) -> bool:
    """Tell whether the namespace is a project, and stays one."""
    body = await deps.recall.get(deps, kinds.NAMESPACE, Key("", namespace))
    return body is not None and labelled_project(body)


def labelled_project(namespace: Json) -> bool:
    """Tell whether a namespace that was read is a project, and stays one."""
    metadata = namespace["metadata"]
    return not metadata.get("deletionTimestamp") and names.LABEL_PROJECT in (metadata.get("labels") or {})


async def architectures(reader: Reader, *, since: str = "") -> frozenset[str]:
    """Return the architectures of the cluster's nodes; `since`: see `Reader.list`."""
    nodes = await reader.list(kinds.NODE, since=since)
    labels = (node["metadata"].get("labels") or {} for node in nodes)
    return frozenset(str(entry[LABEL_NODE_ARCHITECTURE]) for entry in labels if LABEL_NODE_ARCHITECTURE in entry)
