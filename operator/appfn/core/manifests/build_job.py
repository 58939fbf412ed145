"""The Job that builds one deployment for one architecture: two containers that run at once.

`agent` runs appfn's code and holds the token: it fetches the source, lets `build` begin, waits for its end, stores
what was built. `build` runs the user's commands and holds nothing but the function's variables. They meet at two
FIFOs in the volume they share (see appfn.agent.command), so that neither looks for the other by the clock.
"""

import json
from dataclasses import dataclass
from typing import Any, Self

from appfn import names
from appfn.api import kinds
from appfn.api.base import Json
from appfn.api.deployment import Deployment
from appfn.api.function import Function, Variable
from appfn.api.runtime import Architecture, LoadMode, Runtime
from appfn.config import Config
from appfn.core import build_key
from appfn.core.manifests.meta import child_labels, owner_reference
from appfn.core.manifests.pod import (
    container_security,
    empty_dir,
    environment,
    literal,
    pod_defaults,
    scheduling,
    token_mount,
    token_volume,
)

AGENT = "agent"
BUILD = "build"
CONTAINERS = (AGENT, BUILD)
"""In the order the kubelet starts them: the agent fetches while the other one is made."""
MARGIN_SECONDS = 60
"""What a Job may take beyond the build's own time: scheduling, fetching, uploading."""
SALT_VARIABLE = "APPFN_BUILD_KEY_SALT"

_ROOT = "/appfn"
_IMPORT_CODE = f"{_ROOT}/code"
_EXEC_CODE = "/usr/code"
_GIT_DIRECTORY = "/etc/appfn-git"
_CA_DIRECTORY = "/etc/appfn-ca"
_WORK_SIZE = "2Gi"
_SCRATCH_SIZE = "512Mi"
_READ_BY_GROUP = 0o440
_AGENT_RESOURCES: Json = {
    "requests": {"cpu": "50m", "memory": "64Mi"},
    "limits": {"cpu": "1", "memory": "512Mi"},
}
_BUILD_REQUESTS = {"cpu": "100m", "memory": "128Mi"}
_GRACE_SECONDS = 1
"""Nothing in a build's pod is worth saving once it is stopped, and a shell that is process 1 ignores SIGTERM."""
_WRAPPER = f"""\
(umask 0; mkfifo {_ROOT}/build-start {_ROOT}/build-end 2>/dev/null)
exec 3<>{_ROOT}/build-end 4<>{_ROOT}/build-start
[ -e {_ROOT}/no-build ] && exit 0
read -r word <&4
[ "$word" = run ] || exit 0
exec 4<&-
cd "$APPFN_BUILD_FOLDER" || exit 1
set --
command -v timeout >/dev/null 2>&1 && set -- timeout "$APPFN_BUILD_SECONDS"
{{ "$@" sh -c "$APPFN_BUILD_COMMAND" 2>&1; echo $? >{_ROOT}/exit-code; }} 3>&- | tee {_ROOT}/build.log 3>&-
exit 0
"""
"""Process 1 of its container. Descriptor 3 is open as long as it lives: that it closes, by whatever end, is what the
agent waits for, and the kernel then kills what the command left behind. Opened for reading and writing, a FIFO keeps
nobody waiting for the other side. Succeeds after a failed command too: the agent judges by the exit code in the file.
The command comes by the environment: nothing to quote.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """What the installation decides about builds."""

    image: str
    """appfn's own image."""
    shim_url: str
    seconds: int
    memory: str
    cpu: str

    @classmethod
    def of(cls, config: Config) -> Self:
        """Return the settings of a configuration."""
        common, operator = config.common, config.operator
        return cls(
            image=common.image,
            shim_url=common.shim_url,
            seconds=operator.build_seconds,
            memory=operator.build_memory,
            cpu=operator.build_cpu,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One attempt of one build."""

    deployment: Deployment
    function: Function
    runtime: Runtime
    architecture: Architecture
    image: str
    """The runtime's image of that architecture."""
    attempt: int
    source: Json
    """APPFN_SOURCE: `{"artifact": …}`, `{"http": …}` or `{"git": …}`."""


def build_job(request: BuildRequest, settings: BuildSettings) -> Json:
    """Return the Job."""
    deployment = request.deployment.metadata
    labels = child_labels(
        component=names.COMPONENT_BUILD,
        function=request.function.metadata.name,
        deployment=deployment.name,
        architecture=request.architecture,
    )
    return {
        "apiVersion": kinds.JOB.api_version,
        "kind": kinds.JOB.name,
        "metadata": {
            "name": names.build_job(deployment.name, request.architecture, request.attempt),
            "namespace": deployment.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(kinds.DEPLOYMENT, deployment)],
        },
        "spec": {
            "activeDeadlineSeconds": settings.seconds + MARGIN_SECONDS,
            "backoffLimit": 0,
            # A drained or preempted node is not the build's fault: the Job makes another pod.
            "podFailurePolicy": {
                "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            "template": {"metadata": {"labels": labels}, "spec": _pod(request, settings)},
        },
    }


def salt_of(job: Json) -> str:
    """Return the salt of the build key a Job was made with: what was built, whatever the Function says by now."""
    containers: list[dict[str, Any]] = job["spec"]["template"]["spec"]["containers"]
    variables = next(container.get("env", []) for container in containers if container["name"] == AGENT)
    value = next(str(entry.get("value", "")) for entry in variables if entry["name"] == SALT_VARIABLE)
    return value.replace("$$", "$")


def _pod(request: BuildRequest, settings: BuildSettings) -> Json:
    spec = request.function.spec
    return {
        **pod_defaults(service_account=names.SERVICE_ACCOUNT_BUILD),
        **scheduling(architecture=request.architecture, node_selector=spec.node_selector, tolerations=spec.tolerations),
        "containers": [_agent(request, settings), _build(request, settings)],
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "volumes": _volumes(request.deployment),
    }


def _volumes(deployment: Deployment) -> list[Json]:
    volumes = [
        empty_dir("work", _WORK_SIZE),
        empty_dir("scratch", _SCRATCH_SIZE),
        {"name": "ca", "configMap": {"name": names.CONFIG_MAP_BUILD_CA, "optional": True}},
        token_volume(),
    ]
    git = deployment.spec.source.git
    if git is not None and git.secret_ref is not None:
        # Optional, so that the agent can say at once that it is missing; the kubelet would retry in silence.
        secret = {"secretName": git.secret_ref.name, "optional": True, "defaultMode": _READ_BY_GROUP}
        volumes.append({"name": "git", "secret": secret})
    return volumes


def _agent(request: BuildRequest, settings: BuildSettings) -> Json:
    """Return the container of appfn's own; only this one can read the token and the secret of a git source."""
    mounts = [
        {"name": "work", "mountPath": _ROOT},
        {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108 - a mount point
        {"name": "ca", "mountPath": _CA_DIRECTORY, "readOnly": True},
        token_mount(),
    ]
    git = request.deployment.spec.source.git
    if git is not None and git.secret_ref is not None:
        mounts.append({"name": "git", "mountPath": _GIT_DIRECTORY, "readOnly": True})
    return {
        "name": AGENT,
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "appfn", "agent", "build"],
        "env": environment(_agent_environment(request, settings)),
        "envFrom": _project_environment(),
        "resources": _AGENT_RESOURCES,
        "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _agent_environment(request: BuildRequest, settings: BuildSettings) -> dict[str, str]:
    deployment, runtime = request.deployment, request.runtime
    return {
        "APPFN_ARCHITECTURE": str(request.architecture),
        "APPFN_COMMANDS": deployment.spec.commands,
        SALT_VARIABLE: build_key.salt(deployment, request.function, runtime, request.architecture),
        "APPFN_DEPLOYMENT": deployment.metadata.name,
        "APPFN_ENTRYPOINT": build_key.entrypoint(deployment, runtime),
        "APPFN_LOAD_MODE": str(runtime.spec.load_mode),
        "APPFN_NAMESPACE": deployment.metadata.namespace,
        "APPFN_SHIM_URL": settings.shim_url,
        "APPFN_SOURCE": json.dumps(request.source, sort_keys=True, separators=(",", ":")),
        "HOME": "/tmp",  # noqa: S108 - the scratch volume
    }


def _build(request: BuildRequest, settings: BuildSettings) -> Json:
    runtime = request.runtime.spec
    limits = {"cpu": settings.cpu, "memory": settings.memory}
    return {
        "name": BUILD,
        "image": request.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", literal(_WRAPPER)],
        "env": _build_environment(request, settings),
        "envFrom": _project_environment(),
        "resources": {"requests": _BUILD_REQUESTS, "limits": limits},
        "securityContext": container_security(runtime.security_profile),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _build_mounts(runtime.load_mode),
    }


def _build_mounts(mode: LoadMode) -> list[Json]:
    mounts: list[Json] = [
        {"name": "work", "mountPath": _ROOT},
        {"name": "work", "mountPath": "/tmp", "subPath": "tmp"},  # noqa: S108 - where v2 images find code.tar.gz
        {"name": "ca", "mountPath": _CA_DIRECTORY, "readOnly": True},
    ]
    if mode is LoadMode.EXEC:
        mounts.append({"name": "work", "mountPath": _EXEC_CODE, "subPath": "code"})
    return mounts


def _build_environment(request: BuildRequest, settings: BuildSettings) -> list[Json]:
    """Return the user's variables and our own; ours win, except for HOME, which is only a default."""
    own = {
        "APPFN_BUILD_COMMAND": build_key.command(request.deployment, request.runtime),
        # Not the container's working directory: the agent puts the folder there while the container starts.
        "APPFN_BUILD_FOLDER": _IMPORT_CODE if request.runtime.spec.load_mode is LoadMode.IMPORT else ".",
        "APPFN_BUILD_SECONDS": str(settings.seconds),
        "INTERNAL_RUNTIME_ENTRYPOINT": build_key.entrypoint(request.deployment, request.runtime),
    }
    users = [variable for variable in request.function.spec.variables if variable.name not in own]
    home = [] if any(variable.name == "HOME" for variable in users) else environment({"HOME": "/tmp"})  # noqa: S108
    return [*home, *map(_variable, users), *environment(own)]


def _variable(variable: Variable) -> Json:
    if variable.value_from is None:
        return {"name": variable.name, "value": literal(variable.value or "")}
    return {"name": variable.name, "valueFrom": variable.value_from.to_json()}


def _project_environment() -> list[Json]:
    return [{"configMapRef": {"name": names.CONFIG_MAP_BUILD_ENV, "optional": True}}]
