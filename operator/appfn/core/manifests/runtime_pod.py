"""What runtime pods have in common, and the pod of two containers: the runtime, and the agent that is given the code.

The agent alone holds the pod's token, by which it announces itself to a shim; user code never sees it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self, assert_never

from appfn import names
from appfn.api.base import Json
from appfn.api.function import Function
from appfn.api.pods import ResourceRequirements, Toleration
from appfn.api.runtime import Architecture, LoadMode, Runtime, SecurityProfile
from appfn.core.manifests.pod import (
    TOKEN_DIRECTORY,
    TOKEN_FILE,
    container_security,
    empty_dir,
    environment,
    pod_defaults,
    scheduling,
    token_mount,
    token_volume,
)

RUNTIME_CONTAINER = "runtime"
AGENT_CONTAINER = "agent"
RUNTIME_PORT = 3000
AGENT_PORT = 3001

AGENT_READINESS: Json = {
    "httpGet": {"path": "/readyz", "port": AGENT_PORT},
    "periodSeconds": 1,
    "failureThreshold": 1,
}
"""A pod is ready once it can be given its code, so one of a pool that is Ready is one that can be claimed."""

_GRACE_SECONDS = 1
_SHARED = "shared"
_SHARED_PATH = "/appfn"
_START_FIFO = f"{_SHARED_PATH}/start"
_TMP = "tmp"
_TMP_PATH = "/tmp"  # noqa: S108 - a path inside the pod
_SHARED_LIMIT = "1Gi"
_TMP_LIMIT = "256Mi"
_DIGEST = 16
_AGENT_RESOURCES: Json = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}}
"""No CPU limit: unpacking is on the path of a cold call, and idles ever after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimePodTemplate:
    """What all pods of a function, or of a pool, have in common.

    Pods of unequal templates cannot stand in for each other.
    """

    namespace: str
    function: str
    """Empty in a pool."""
    runtime: str
    """Resource name of the Runtime."""
    images: Mapping[Architecture, str]
    start_command: str
    agent_command: str
    """Empty: the image has no agent. Makes no difference to a function, nor to a pool."""
    load_mode: LoadMode
    security_profile: SecurityProfile
    resources: ResourceRequirements
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    runtime_class_name: str | None = None

    @classmethod
    def of(cls, function: Function, runtime: Runtime) -> Self:
        """Return the template a function asks for; its resources replace the runtime's as a whole."""
        return replace(
            cls.of_pool(function.metadata.namespace, runtime),
            function=function.metadata.name,
            resources=function.spec.resources or runtime.spec.resources,
            node_selector=function.spec.node_selector,
            tolerations=tuple(function.spec.tolerations),
            runtime_class_name=function.spec.runtime_class_name,
        )

    @classmethod
    def of_pool(cls, namespace: str, runtime: Runtime) -> Self:
        """Return the template of pods for any function that asks for nothing of its own."""
        return cls(
            namespace=namespace,
            function="",
            runtime=runtime.metadata.name,
            images={entry.architecture: entry.image for entry in runtime.spec.images},
            start_command=runtime.spec.start_command,
            agent_command=runtime.spec.agent_command,
            load_mode=runtime.spec.load_mode,
            security_profile=runtime.spec.security_profile,
            resources=runtime.spec.resources,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """What the agent of a pod is told."""

    image: str
    announce_url: str
    """Base URL of the shim that the agent announces itself to."""
    load_token_hash: str = ""
    """sha256 (hex) of the token a load must bring; empty: the pod is of a pool, and the shim's answer says."""


def template_digest(template: RuntimePodTemplate, architecture: Architecture) -> str:
    """Return what a pod's annotation ANNOTATION_TEMPLATE says: equal for pods that can stand in for each other.

    Another agent image, or the address it announces itself to, makes no difference to a function. A function that asks
    for nothing of its own has the digest of its Runtime's pool.

    Raises:
        KeyError: the template has no image of the architecture.
    """
    offered = [
        str(template.load_mode),
        runtime_container(template, architecture),
        dict(template.node_selector),
        [toleration.to_json() for toleration in template.tolerations],
        template.runtime_class_name,
    ]
    return hashlib.sha256(json.dumps(offered, sort_keys=True).encode()).hexdigest()[:_DIGEST]


def pod_spec(template: RuntimePodTemplate, architecture: Architecture, agent: AgentSettings) -> Json:
    """Return the spec of a pod of two containers, whoever makes it.

    Raises:
        KeyError: the template has no image of the architecture.
    """
    return {
        **pod_frame(template, architecture),
        # Side by side: of a sidecar among the init containers the kubelet waits to see that it runs, up to a second.
        "containers": [runtime_container(template, architecture), _agent(template, agent)],
        "volumes": [empty_dir(_SHARED, _SHARED_LIMIT), *_own_volumes(template.load_mode), token_volume()],
    }


def pod_frame(template: RuntimePodTemplate, architecture: Architecture) -> Json:
    """Return what a pod's spec says besides its containers."""
    frame: Json = {
        **pod_defaults(service_account=names.SERVICE_ACCOUNT_RUNTIME),
        **scheduling(
            architecture=architecture,
            node_selector=template.node_selector,
            tolerations=template.tolerations,
        ),
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
    }
    if template.runtime_class_name is not None:
        frame["runtimeClassName"] = template.runtime_class_name
    return frame


def _agent(template: RuntimePodTemplate, agent: AgentSettings) -> Json:
    """Return the agent, which runs beside the runtime; neither minds which comes first."""
    return {
        "name": AGENT_CONTAINER,
        "image": agent.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "appfn", "agent", "serve"],
        "env": agent_environment(template, agent, {"APPFN_TOKEN_FILE": f"{TOKEN_DIRECTORY}/{TOKEN_FILE}"}),
        "readinessProbe": AGENT_READINESS,
        "ports": [{"name": "agent", "containerPort": AGENT_PORT}],
        "resources": _AGENT_RESOURCES,
        "securityContext": container_security(),
        "volumeMounts": [{"name": _SHARED, "mountPath": _SHARED_PATH}, token_mount()],
    }


def agent_environment(template: RuntimePodTemplate, agent: AgentSettings, proof: Mapping[str, str]) -> list[Json]:
    """Return the agent's variables; `proof` are those by which it shows who it is."""
    values = {
        "APPFN_AGENT_PORT": str(AGENT_PORT),
        "APPFN_LOAD_MODE": str(template.load_mode),
        "APPFN_ANNOUNCE_URL": agent.announce_url,
        **proof,
    }
    own = {"APPFN_LOAD_TOKEN_SHA256": agent.load_token_hash} if agent.load_token_hash else {"APPFN_POOL": "1"}
    address = {"name": "APPFN_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    return [*environment(values | own), address]


def runtime_container(template: RuntimePodTemplate, architecture: Architecture) -> Json:
    """Return the container that runs the code.

    Raises:
        KeyError: the template has no image of the architecture.
    """
    # An image that isn't ours writes all over its root; ours needs only /tmp.
    read_only = template.load_mode is LoadMode.IMPORT
    return {
        "name": RUNTIME_CONTAINER,
        "image": template.images[architecture],
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", _start(template)],
        "ports": [{"name": "runtime", "containerPort": RUNTIME_PORT}],
        "resources": template.resources.to_json(),
        "securityContext": container_security(template.security_profile, read_only_root=read_only),
        "volumeMounts": [
            {"name": _SHARED, "mountPath": _SHARED_PATH, "readOnly": True},
            _tmp_mount(template.load_mode),
        ],
    }


def _start(template: RuntimePodTemplate) -> str:
    match template.load_mode:
        case LoadMode.IMPORT:
            return f"exec {template.start_command}"
        case LoadMode.EXEC:
            # The agent makes the FIFO as its first act, but its process may be a moment younger than ours.
            wait = f"until [ -p {_START_FIFO} ]; do sleep 0.01; done"
            return f"{wait}; . {_START_FIFO} && exec {template.start_command}"
        case _:
            assert_never(template.load_mode)


def _tmp_mount(load_mode: LoadMode) -> Json:
    """Return /tmp of the runtime: where an EXEC image looks for the tarball, else plain scratch space."""
    match load_mode:
        case LoadMode.IMPORT:
            return {"name": _TMP, "mountPath": _TMP_PATH}
        case LoadMode.EXEC:
            return {"name": _SHARED, "mountPath": _TMP_PATH, "subPath": _TMP}
        case _:
            assert_never(load_mode)


def _own_volumes(load_mode: LoadMode) -> list[Json]:
    return [empty_dir(_TMP, _TMP_LIMIT)] if load_mode is LoadMode.IMPORT else []
