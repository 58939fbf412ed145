"""Which executions made over HTTP, by events or by schedules are shown as Execution resources: the newest few.

Only resources that carry the label of a mirror are ever deleted here; what a user applied is the user's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from appfn import names
from appfn.api import kinds
from appfn.api.base import Json
from appfn.api.execution import Execution, ExecutionPhase
from appfn.api.function import Function
from appfn.core.execution import mirrored
from appfn.core.manifests.meta import owner_reference
from appfn.core.observed import ObservedExecution
from appfn.core.records import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Execution resources to create and to delete; their status is the Execution controller's."""

    create: tuple[Json, ...] = ()
    delete: tuple[Execution, ...] = ()


def decide(function: Function, recent: Sequence[ObservedExecution], present: Sequence[Execution]) -> Plan:
    """Compare the newest finished executions (newest first) with the mirrors there are."""
    shown = [record for record in recent if record.origin is not Origin.RESOURCE]
    limits = {
        ExecutionPhase.COMPLETED: function.spec.successful_executions_history_limit,
        ExecutionPhase.FAILED: function.spec.failed_executions_history_limit,
    }
    wanted: dict[str, ObservedExecution] = {}
    for phase, limit in limits.items():
        newest = [record for record in shown if record.status is phase][:limit]
        wanted |= {names.mirrored_execution(function.metadata.name, record.id): record for record in newest}
    existing = {item.metadata.name for item in present}
    return Plan(
        create=tuple(_mirror(function, name, record) for name, record in wanted.items() if name not in existing),
        delete=tuple(item for item in present if mirrored(item) and item.metadata.name not in wanted),
    )


def _mirror(function: Function, name: str, record: ObservedExecution) -> Json:
    """Return the resource, without data and headers: they may hold what only caller and function are to see."""
    metadata = function.metadata
    annotations = {names.ANNOTATION_REPLAY_OF: record.replay_of} if record.replay_of else {}
    return {
        "apiVersion": kinds.EXECUTION.api_version,
        "kind": kinds.EXECUTION.name,
        "metadata": {
            "name": name,
            "namespace": metadata.namespace,
            "labels": {
                names.MANAGED_BY: names.MANAGER,
                names.LABEL_FUNCTION: metadata.name,
                names.LABEL_MIRRORED: "true",
            },
            "annotations": annotations,
            "ownerReferences": [owner_reference(kinds.FUNCTION, metadata)],
        },
        "spec": {
            "functionRef": {"name": metadata.name},
            "id": record.id,
            "path": record.path,
            "method": record.method,
        },
    }
