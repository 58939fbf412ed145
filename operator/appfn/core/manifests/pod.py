"""Pieces every pod of appfn shares: security contexts, scheduling, volumes.

Pod Security `restricted` is stated per container, so that one runtime that needs `baseline` lowers itself alone.
"""

from collections.abc import Iterable, Mapping
from typing import assert_never

from appfn import names
from appfn.api.base import Json
from appfn.api.pods import Toleration
from appfn.api.runtime import Architecture, SecurityProfile

USER = 65532
"""User and group that appfn's images run as, and the group that owns a pod's volumes."""
LABEL_NODE_ARCHITECTURE = "kubernetes.io/arch"
TOKEN_VOLUME = "token"  # noqa: S105 - the name of a volume
TOKEN_DIRECTORY = "/var/run/secrets/appfn"  # noqa: S105 - a path
TOKEN_FILE = "token"  # noqa: S105 - a file name
TOKEN_SECONDS = 3600
"""Lifetime of a projected token; the kubelet renews it at 80 %."""
_BASELINE_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]
"""What package managers running as root need; all of them within Pod Security `baseline`."""


def pod_security() -> Json:
    """Return the pod's securityContext, valid for both profiles."""
    return {"fsGroup": USER, "seccompProfile": {"type": "RuntimeDefault"}}


def container_security(profile: SecurityProfile = SecurityProfile.RESTRICTED, *, read_only_root: bool = True) -> Json:
    """Return a container's securityContext. `baseline` runs as the image's user, which may be root."""
    common: Json = {"allowPrivilegeEscalation": False, "seccompProfile": {"type": "RuntimeDefault"}}
    match profile:
        case SecurityProfile.RESTRICTED:
            return common | {
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": read_only_root,
                "runAsGroup": USER,
                "runAsNonRoot": True,
                "runAsUser": USER,
            }
        case SecurityProfile.BASELINE:
            return common | {"capabilities": {"drop": ["ALL"], "add": _BASELINE_CAPABILITIES}}
        case _:
            assert_never(profile)


def pod_defaults(*, service_account: str) -> Json:
    """Return the fields every pod spec of appfn starts from: an identity, and nothing mounted or injected unasked."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "securityContext": pod_security(),
        "serviceAccountName": service_account,
    }


def scheduling(
    *,
    architecture: Architecture,
    node_selector: Mapping[str, str],
    tolerations: Iterable[Toleration],
) -> Json:
    """Return nodeSelector and tolerations; the architecture wins over the user's selector."""
    return {
        "nodeSelector": {**node_selector, LABEL_NODE_ARCHITECTURE: str(architecture)},
        "tolerations": [toleration.to_json() for toleration in tolerations],
    }


def token_volume() -> Json:
    """Return the volume that holds the pod's ServiceAccount token for the shim (file `token`)."""
    projection = {"audience": names.AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": TOKEN_FILE}
    return {"name": TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": projection}]}}


def token_mount() -> Json:
    """Return the mount of `token_volume`."""
    return {"name": TOKEN_VOLUME, "mountPath": TOKEN_DIRECTORY, "readOnly": True}


def empty_dir(name: str, size_limit: str) -> Json:
    """Return an emptyDir volume bounded to a Kubernetes quantity."""
    return {"name": name, "emptyDir": {"sizeLimit": size_limit}}


def literal(value: str) -> str:
    """Return a value as `env`, `command` and `args` must spell it: Kubernetes expands `$(X)` and reads `$$` as `$`."""
    return value.replace("$", "$$")


def environment(values: Mapping[str, str]) -> list[Json]:
    """Return the `env` list of values that are meant literally."""
    return [{"name": name, "value": literal(value)} for name, value in values.items()]
