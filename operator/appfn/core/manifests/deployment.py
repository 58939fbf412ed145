"""The Deployment that Appwrite's API makes."""

from dataclasses import dataclass

from appfn import names
from appfn.api import kinds
from appfn.api.base import Json
from appfn.api.function import Function
from appfn.core.manifests.meta import owner_reference


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDeployment:
    """What a client asked for."""

    id: str
    """Appwrite's."""
    source: Json
    """`spec.source`."""
    entrypoint: str = ""
    commands: str = ""
    activate: bool = False
    turn: str = ""
    """Of `activation.next_turn`, where it is to be activated."""


def api_deployment(function: Function, new: NewDeployment) -> Json:
    """Return the Deployment. Its name follows from its id: whoever makes it a second time finds it there."""
    metadata: Json = {
        "name": names.api_deployment(function.metadata.name, new.id),
        "namespace": function.metadata.namespace,
        "labels": {names.MANAGED_BY: names.MANAGER},
        "ownerReferences": [owner_reference(kinds.FUNCTION, function.metadata, controller=False)],
    }
    if new.activate:
        metadata["annotations"] = {names.ANNOTATION_ACTIVATED: new.turn}
    return {
        "apiVersion": kinds.DEPLOYMENT.api_version,
        "kind": kinds.DEPLOYMENT.name,
        "metadata": metadata,
        "spec": {
            "id": new.id,
            "functionRef": {"name": function.metadata.name},
            "entrypoint": new.entrypoint,
            "commands": new.commands,
            "activate": new.activate,
            "source": new.source,
        },
    }
