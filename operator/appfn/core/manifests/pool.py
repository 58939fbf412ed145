"""A pool: an apps/v1 Deployment of runtime pods that no function owns yet, and the patch by which a shim claims one.

A claim takes the pod out of the selector of its ReplicaSet, which makes another in its place: nobody has to refill.
"""

from dataclasses import dataclass

from appfn import names
from appfn.api.base import Json, ObjectMeta
from appfn.api.kinds import DEPLOYMENT, POOL, RUNTIME
from appfn.api.runtime import Architecture, Runtime
from appfn.core.manifests.meta import child_labels, owner_reference
from appfn.core.manifests.runtime_pod import AgentSettings, RuntimePodTemplate, pod_spec, template_digest

_POD_TEMPLATE_HASH = "pod-template-hash"
"""By this label, and the selector, a ReplicaSet knows its pods."""
_PROGRESS_SECONDS = 300
"""After so long, as for an image that can't be pulled, the Deployment's condition Progressing says that it is stuck."""
_STRATEGY: Json = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "50%", "maxSurge": "50%"}}
"""Half of a pool stays until new pods are ready: a new image doesn't empty it, nor does one that can't be pulled.

The other half goes at once and makes room for the new, so that a quota that is used up doesn't stop the change. A pool
of one is replaced by surge alone.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """Which pool, and how large."""

    namespace: str
    architecture: Architecture
    size: int
    """Pods that wait, at least 1."""
    agent_image: str
    announce_url: str
    """Base URL of the shim as pods reach it."""


def pool_deployment(runtime: Runtime, settings: PoolSettings) -> Json:
    """Return the Deployment of a pool. It goes with its Runtime.

    Raises:
        KeyError: the Runtime has no image of the architecture.
    """
    return {
        "apiVersion": POOL.api_version,
        "kind": POOL.name,
        "metadata": {
            "name": names.pool(runtime.metadata.name, settings.architecture),
            "namespace": settings.namespace,
            "labels": child_labels(
                component=names.COMPONENT_POOL,
                runtime=runtime.metadata.name,
                architecture=settings.architecture,
            ),
            "ownerReferences": [owner_reference(RUNTIME, runtime.metadata)],
        },
        "spec": {
            "replicas": settings.size,
            "revisionHistoryLimit": 0,
            "progressDeadlineSeconds": _PROGRESS_SECONDS,
            "strategy": _STRATEGY,
            "selector": {"matchLabels": _selected(runtime, settings.architecture)},
            "template": _template(runtime, settings),
        },
    }


def claim_patch(*, pod: Json, function: str, deployment: ObjectMeta, shim: str) -> Json:
    """Return the JSON merge patch that makes an observed pod of a pool one of a deployment, owned by a shim replica.

    Its resourceVersion is the precondition that nobody has claimed the pod since.
    """
    return {
        "metadata": {
            "resourceVersion": pod["metadata"]["resourceVersion"],
            "labels": {
                names.LABEL_POOL: None,
                _POD_TEMPLATE_HASH: None,
                names.LABEL_FUNCTION: function,
                names.LABEL_DEPLOYMENT: deployment.name,
                names.LABEL_SHIM: shim,
            },
            "ownerReferences": [owner_reference(DEPLOYMENT, deployment)],
        },
    }


def _selected(runtime: Runtime, architecture: Architecture) -> dict[str, str]:
    """Return the labels that a pod loses, one of them at least, when it is claimed."""
    return {
        names.LABEL_COMPONENT: names.COMPONENT_RUNTIME,
        names.LABEL_RUNTIME: runtime.metadata.name,
        names.LABEL_ARCHITECTURE: str(architecture),
        names.LABEL_POOL: names.pool(runtime.metadata.name, architecture),
    }


def _template(runtime: Runtime, settings: PoolSettings) -> Json:
    template = RuntimePodTemplate.of_pool(settings.namespace, runtime)
    agent = AgentSettings(image=settings.agent_image, announce_url=settings.announce_url)
    return {
        "metadata": {
            "labels": {names.MANAGED_BY: names.MANAGER, **_selected(runtime, settings.architecture)},
            "annotations": {names.ANNOTATION_TEMPLATE: template_digest(template, settings.architecture)},
        },
        # A Deployment takes no other policy.
        "spec": {**pod_spec(template, settings.architecture, agent), "restartPolicy": "Always"},
    }
