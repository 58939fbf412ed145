"""Metadata of what appfn makes: labels and owners."""

from collections.abc import Mapping
from typing import Any

from appfn import names
from appfn.api.base import Json, ObjectMeta
from appfn.api.kinds import Kind
from appfn.api.runtime import Architecture


def child_labels(
    *,
    component: str,
    function: str = "",
    deployment: str = "",
    architecture: Architecture | None = None,
    runtime: str = "",
    shim: str = "",
    pool: str = "",
) -> dict[str, str]:
    """Return the labels of a child; those whose value is empty are left out."""
    labels = {
        names.MANAGED_BY: names.MANAGER,
        names.LABEL_COMPONENT: component,
        names.LABEL_FUNCTION: function,
        names.LABEL_DEPLOYMENT: deployment,
        names.LABEL_ARCHITECTURE: architecture or "",
        names.LABEL_RUNTIME: runtime,
        names.LABEL_SHIM: shim,
        names.LABEL_POOL: pool,
    }
    return {name: str(value) for name, value in labels.items() if value}


def selector(labels: Mapping[str, str]) -> str:
    """Return the label selector that matches objects with all of these labels."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


def owner_reference(kind: Kind, owner: ObjectMeta, *, controller: bool = True) -> Json:
    """Return the entry of `metadata.ownerReferences` that makes an object go with its owner.

    `blockOwnerDeletion` stays unset: it would ask for rights on finalizers and only matters for foreground deletion.
    """
    reference: Json = {"apiVersion": kind.api_version, "kind": kind.name, "name": owner.name, "uid": owner.uid}
    return {**reference, "controller": True} if controller else reference


def ownership(kind: Kind, child: ObjectMeta, owner_kind: Kind, owner: ObjectMeta) -> Json:
    """Return what to apply to an existing object to make it go with its owner.

    The resourceVersion in it keeps server-side apply from creating the object, or adopting its successor, where it is
    gone.
    """
    references = [owner_reference(owner_kind, owner, controller=False)]
    identity = {"name": child.name, "namespace": child.namespace, "resourceVersion": child.resource_version}
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": {**identity, "ownerReferences": references},
    }


def controller_uid(body: Mapping[str, Any]) -> str:
    """Return the uid of the object's controller, empty where it has none."""
    references = body.get("metadata", {}).get("ownerReferences") or []
    return next((str(entry["uid"]) for entry in references if entry.get("controller")), "")
