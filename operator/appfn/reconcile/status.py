"""Writing status: once per reconcile, and only when it changes."""

import logging

from appfn.api.base import Json, Model, ObjectMeta
from appfn.api.kinds import Kind
from appfn.reconcile.dependencies import Dependencies

logger = logging.getLogger(__name__)


async def write_status(
    deps: Dependencies,
    kind: Kind,
    metadata: ObjectMeta,
    *,
    old: Model,
    new: Model,
    manager: str,
) -> bool:
    """Apply `new` where it differs from `old`; return whether it did.

    The resourceVersion is the precondition that what was decided upon is still what is there: ConflictError otherwise,
    and the next reconcile decides again.
    """
    if new == old:
        return False
    manifest: Json = {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": {"name": metadata.name, "resourceVersion": metadata.resource_version},
        "status": new.to_json(),
    }
    if metadata.namespace:
        manifest["metadata"]["namespace"] = metadata.namespace
    written = await deps.cluster.apply_status(kind, manifest, manager=manager)
    deps.written.note(kind, written["metadata"]["resourceVersion"])
    logger.info("status written", extra={"kind": kind.name, "object": str(metadata.key)})
    return True


async def take_ownership(
    deps: Dependencies, kind: Kind, metadata: ObjectMeta, *, manifest: Json | None, manager: str
) -> ObjectMeta:
    """Apply a manifest of ownership, if there is one; return the metadata to go on with."""
    if manifest is None:
        return metadata
    written = await deps.cluster.apply(kind, manifest, manager=manager)
    deps.written.note(kind, written["metadata"]["resourceVersion"])
    return ObjectMeta.model_validate(written["metadata"])
