"""Execution resources of executions that are deleted by the API: they show nothing any more."""

import logging

from appfn import names
from appfn.api.kinds import EXECUTION, Key
from appfn.core.records import ExecutionRequest, Origin
from appfn.errors import AppfnError
from appfn.shim.ports import ShimCluster

_logger = logging.getLogger(__name__)


async def remove(cluster: ShimCluster, request: ExecutionRequest) -> None:
    """Delete the Execution resource that shows an execution or that it was made of, if there is one.

    What fails is logged: the execution itself is gone already, and the operator deletes mirrors of what is no more.
    """
    try:
        if (found := await _find(cluster, request)) is not None:
            key, uid = found
            await cluster.delete(EXECUTION, key, uid=uid)
    except AppfnError as error:
        _logger.warning("Execution left", extra={"execution": request.id, "error": str(error)})


async def _find(cluster: ShimCluster, request: ExecutionRequest) -> tuple[Key, str] | None:
    namespace = request.namespace
    if request.origin is Origin.RESOURCE:  # its id is the resource's uid, which no selector takes
        fields = f"spec.functionRef.name={request.function}"
        bodies = await cluster.list(EXECUTION, namespace=namespace, labels=f"!{names.LABEL_MIRRORED}", fields=fields)
        found = [body["metadata"]["name"] for body in bodies if body["metadata"]["uid"] == request.id]
        return (Key(namespace, found[0]), request.id) if found else None
    key = Key(namespace, names.mirrored_execution(request.function, request.id))
    body = await cluster.get(EXECUTION, key)
    if body is None or body["spec"].get("id") != request.id:
        return None
    labelled = names.LABEL_MIRRORED in (body["metadata"].get("labels") or {})
    return (key, str(body["metadata"]["uid"])) if labelled else None
