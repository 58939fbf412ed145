"""A pod made for a call, and the Secret by which it announces itself where it is one container.

The kubelet takes 0.3 s to see that a pod's volumes are mounted, whatever they are, and starts one container after the
other. Where the image brings the agent, such a pod has one container and no volume. Its agent proves which Deployment's
pod it is by a token that all pods of the Deployment share: user code may read it, and has no use for it.
"""

import base64
from dataclasses import dataclass

from appfn import names
from appfn.api.base import Json, ObjectMeta
from appfn.api.kinds import DEPLOYMENT, POD, SECRET
from appfn.api.pods import ResourceRequirements
from appfn.api.runtime import Architecture, LoadMode
from appfn.core.manifests.meta import child_labels, owner_reference
from appfn.core.manifests.pod import container_security
from appfn.core.manifests.runtime_pod import (
    AGENT_PORT,
    AGENT_READINESS,
    RUNTIME_CONTAINER,
    RUNTIME_PORT,
    AgentSettings,
    RuntimePodTemplate,
    agent_environment,
    pod_frame,
    pod_spec,
    template_digest,
)
from appfn.core.quantity import mebibytes

_TOKEN_VARIABLE = "APPFN_ANNOUNCE_TOKEN"  # noqa: S105 - the name of a variable
_TOKEN_KEY = "token"  # noqa: S105 - a key in a Secret
_STORAGE = "ephemeral-storage"
_STORAGE_REQUEST = "16Mi"
"""Said, as it would be the limit otherwise."""
_STORAGE_LIMIT = "1280Mi"
"""As the volumes of a pod of two containers may hold together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodIdentity:
    """What one pod has for itself."""

    name: str
    deployment: ObjectMeta
    """Of the Deployment resource it runs; it owns the pod."""
    architecture: Architecture
    shim: str
    """Replica of the shim that uses the pod."""
    agent_image: str
    announce_url: str
    """Base URL of that replica."""
    load_token_hash: str
    """sha256 (hex) of the token a load must bring."""


def runtime_pod(template: RuntimePodTemplate, identity: PodIdentity) -> Json:
    """Return the manifest of one pod.

    Raises:
        KeyError: the template has no image of the architecture.
    """
    labels = child_labels(
        component=names.COMPONENT_RUNTIME,
        function=template.function,
        deployment=identity.deployment.name,
        architecture=identity.architecture,
        runtime=template.runtime,
        shim=identity.shim,
    )
    return {
        "apiVersion": POD.api_version,
        "kind": POD.name,
        "metadata": {
            "name": identity.name,
            "namespace": template.namespace,
            "labels": labels,
            "annotations": {names.ANNOTATION_TEMPLATE: template_digest(template, identity.architecture)},
            "ownerReferences": [owner_reference(DEPLOYMENT, identity.deployment)],
        },
        "spec": _spec(template, identity),
    }


def is_one_container(template: RuntimePodTemplate) -> bool:
    """Tell whether pods made for a call are one container; these need the Secret of their Deployment."""
    return template.load_mode is LoadMode.IMPORT and bool(template.agent_command)


def announce_secret(template: RuntimePodTemplate, deployment: ObjectMeta, *, token: str) -> Json:
    """Return the Secret with the token by which pods made for a Deployment announce themselves; it goes with that."""
    return {
        "apiVersion": SECRET.api_version,
        "kind": SECRET.name,
        "metadata": {
            "name": names.announce_secret(deployment.name, deployment.uid),
            "namespace": template.namespace,
            "labels": child_labels(
                component=names.COMPONENT_RUNTIME, function=template.function, deployment=deployment.name
            ),
            "ownerReferences": [owner_reference(DEPLOYMENT, deployment)],
        },
        "type": "Opaque",
        "data": {_TOKEN_KEY: base64.b64encode(token.encode()).decode()},
    }


def _spec(template: RuntimePodTemplate, identity: PodIdentity) -> Json:
    agent = AgentSettings(
        image=identity.agent_image,
        announce_url=identity.announce_url,
        load_token_hash=identity.load_token_hash,
    )
    if not is_one_container(template):
        return pod_spec(template, identity.architecture, agent)
    frame = pod_frame(template, identity.architecture)
    return {**frame, "containers": [_container(template, identity, agent)]}


def _container(template: RuntimePodTemplate, identity: PodIdentity, agent: AgentSettings) -> Json:
    """Return the container of runtime and agent. Its root is writable: code and /tmp lie there, bounded as a whole."""
    variables = [
        *agent_environment(template, agent, {"APPFN_ANNOUNCE_AS": _speaks_for(template, identity)}),
        _token(identity.deployment),
    ]
    return {
        "name": RUNTIME_CONTAINER,
        "image": template.images[identity.architecture],
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", _start(template, variables)],
        "env": variables,
        "readinessProbe": AGENT_READINESS,
        "ports": [
            {"name": "runtime", "containerPort": RUNTIME_PORT},
            {"name": "agent", "containerPort": AGENT_PORT},
        ],
        "resources": _bounded(template.resources),
        "securityContext": container_security(template.security_profile, read_only_root=False),
    }


def _speaks_for(template: RuntimePodTemplate, identity: PodIdentity) -> str:
    return f"{template.namespace}/{identity.deployment.name}/{identity.name}"


def _token(deployment: ObjectMeta) -> Json:
    reference = {"name": names.announce_secret(deployment.name, deployment.uid), "key": _TOKEN_KEY}
    return {"name": _TOKEN_VARIABLE, "valueFrom": {"secretKeyRef": reference}}


def _start(template: RuntimePodTemplate, variables: list[Json]) -> str:
    """Return the command that starts both; user code inherits nothing of what the agent is told.

    Its lines are the agent's own: its command may end in a comment, or in another line, as one of YAML does.
    """
    told = " ".join(variable["name"] for variable in variables)
    return f"(\n{template.agent_command}\n) & unset {told}; exec {template.start_command}"


def _bounded(resources: ResourceRequirements) -> Json:
    """Return the resources with a bound on what the container may write, unless they have a limit themselves."""
    requests, limits = dict(resources.requests), dict(resources.limits)
    if _STORAGE not in limits:
        asked = requests.setdefault(_STORAGE, _STORAGE_REQUEST)
        limits[_STORAGE] = max(asked, _STORAGE_LIMIT, key=mebibytes)  # a limit below its request is refused
    return {"requests": requests, "limits": limits}
