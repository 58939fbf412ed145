"""Every name appfn gives to something: group, labels, annotations, field managers, children.

One room for all of them, so that a label is spelled once and a selector cannot drift from the manifest it selects.
"""

import hashlib
import re

GROUP = "appfn.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "appfn"

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "appfn"

LABEL_PROJECT = f"{GROUP}/project"
"""On a Namespace: the Appwrite project id this namespace is."""
LABEL_COMPONENT = f"{GROUP}/component"
LABEL_FUNCTION = f"{GROUP}/function"
LABEL_DEPLOYMENT = f"{GROUP}/deployment"
LABEL_RUNTIME = f"{GROUP}/runtime"
LABEL_ARCHITECTURE = f"{GROUP}/architecture"
LABEL_SHIM = f"{GROUP}/shim"
"""On a runtime Pod: the shim replica that owns it."""
LABEL_POOL = f"{GROUP}/pool"
"""On a runtime Pod that nobody has claimed: the pool it waits in."""
LABEL_MIRRORED = f"{GROUP}/mirrored"
"""On an Execution: it shows a call made over HTTP and is never submitted."""
LABEL_API_KEY = f"{GROUP}/api-key"

LABEL_WEBHOOK = f"{GROUP}/webhook"
"""On a Secret: it holds what the webhook of that id, one of an Appwrite's, signs with."""

COMPONENT_BUILD = "build"
COMPONENT_POOL = "pool"
"""Of the apps/v1 Deployment of a pool; its pods are of COMPONENT_RUNTIME, as all that run code."""
COMPONENT_RUNTIME = "runtime"
COMPONENT_SCHEDULE = "schedule"

ANNOTATION_RETRY = f"{GROUP}/retry"
"""On a Deployment: any new value builds a failed deployment again."""
ANNOTATION_REPLAY = f"{GROUP}/replay"
"""On an Execution that has ended: any new value runs it again, as an Execution of its own."""
ANNOTATION_REPLAY_OF = f"{GROUP}/replay-of"
"""On an Execution: id of the execution whose stored request it runs again; data, headers, path and method are its."""
ANNOTATION_CANCEL = f"{GROUP}/cancel"
"""On a Deployment, with any value: builds that have not ended are canceled."""
ANNOTATION_ACTIVATED = f"{GROUP}/activated"
"""On a Deployment: when it was made the active one by the API, instead of when it was created. RFC 3339."""
ANNOTATION_BUILD_REPORT = f"{GROUP}/build-report"
"""On a build's pod: what its agent reported to the shim, ahead of its termination message."""
ANNOTATION_POOL_PREFIX = f"pool.{GROUP}/"
"""On a Namespace, a Runtime's name behind it: the size of that Runtime's pools there, instead of the Runtime's own."""
ANNOTATION_ORIGINS = f"{GROUP}/origins"
"""On a Namespace: hosts whose web pages may use the project, separated by commas; `*` for all."""
ANNOTATION_TEMPLATE = f"{GROUP}/template"
"""On a pod of a pool: digest of what it offers, to tell it from one made before its Runtime was changed."""

ANNOTATION_APPWRITE = f"{GROUP}/appwrite"
"""On a Function, JSON: what Appwrite's API was given that means nothing here, and has to give back."""
ANNOTATION_VARIABLES = f"{GROUP}/variables"
"""On a Function, JSON: what Appwrite's API knows of each variable it made, beside name and value."""
ANNOTATION_API_WRITES = f"{GROUP}/api-writes"
"""On a Function: `force` lets Appwrite's API change what others manage."""
API_WRITES_FORCE = "force"

FIELD_MANAGER_FUNCTION = "appfn-function"
FIELD_MANAGER_DEPLOYMENT = "appfn-deployment"
FIELD_MANAGER_EXECUTION = "appfn-execution"
FIELD_MANAGER_RUNTIME = "appfn-runtime"
FIELD_MANAGER_HISTORY = "appfn-history"
FIELD_MANAGER_POOL = "appfn-pool"
FIELD_MANAGER_OPERATOR = "appfn-operator"
FIELD_MANAGER_SHIM = "appfn-shim"
FIELD_MANAGER_API = "appfn-api"
"""Of what Appwrite's API writes: who else owns a field is told, not overruled."""

SERVICE_ACCOUNT_BUILD = "appfn-build"
"""In a project: identity of the agent containers of a build, without any right in the cluster."""
SERVICE_ACCOUNT_TRIGGER = "appfn-trigger"
"""In a project: identity of the pods of schedules, without any right in the cluster."""
SERVICE_ACCOUNT_RUNTIME = "appfn-runtime"
"""In a project: what runtime pods run as; their agents prove by its token who they are. No right in the cluster."""
CONFIG_MAP_BUILD_ENV = "appfn-build-env"
"""In a project, optional: environment of build commands (package mirrors, proxies)."""
CONFIG_MAP_ISSUERS = "appfn-issuers"
"""In a project, optional: the OpenID Connect issuers whose users are users of the project."""
ISSUERS_FILE = "issuers.yaml"
"""Key in that ConfigMap."""
CONFIG_MAP_BUILD_CA = "appfn-build-ca"
"""In a project, optional: key `ca-certificates.crt`, trusted by builds that point their tools at it."""
SECRET_MASTER_KEY = "appfn-keys"  # noqa: S105 - the name of a Secret, not its content
"""In the system namespace: the key that runtime and load tokens are derived from."""
LEASE_OPERATOR = "appfn-operator"
"""In the system namespace: the Lease that one operator holds."""
AUDIENCE = "appfn"
"""Audience of the ServiceAccount tokens the shim accepts."""

MAX_NAME = 63
_HASH = 8
_LONG_HASH = 24
"""Hex digits that nobody finds a second name for."""
_POD_SUFFIX = 10
_UNSAFE = re.compile(r"[^a-z0-9]+")
_SUFFIX = re.compile(rf"[0-9a-f]{{{_POD_SUFFIX}}}")


def child_name(*parts: str, limit: int = MAX_NAME) -> str:
    """Join parts with dashes into a DNS label of at most `limit` characters.

    What does not fit is cut and replaced by a hash of the whole, so that two long names never meet.
    """
    joined = "-".join(parts)
    if len(joined) <= limit:
        return joined
    digest = hashlib.sha256(joined.encode()).hexdigest()[:_HASH]
    return f"{joined[: limit - _HASH - 1].rstrip('-.')}-{digest}"


def resource_name(appwrite_id: str) -> str:
    """Return the Kubernetes name of a resource whose Appwrite id is given (36 characters: letters, digits, `._-`).

    The id itself where it already is a DNS label, else a lower-cased form with a hash of the id behind it.
    """
    safe = _UNSAFE.sub("-", appwrite_id.lower()).strip("-") or "x"
    if safe == appwrite_id:
        return safe
    digest = hashlib.sha256(appwrite_id.encode()).hexdigest()[:_HASH]
    return child_name(safe, digest)


def build_job(deployment: str, architecture: str, attempt: int) -> str:
    """Name of the Job of one build attempt (counted from 1)."""
    return child_name(deployment, "build", architecture, str(attempt))


def api_deployment(function: str, deployment_id: str) -> str:
    """Name of the Deployment that the API makes for a Function, by the Appwrite id it gave it."""
    return child_name(function, resource_name(deployment_id))


def cron_job(function: str) -> str:
    """Name of a Function's CronJob: 52 characters at most, as Kubernetes adds 11 for the Job of a tick."""
    return child_name(function, "schedule", limit=52)


def runtime_pod(deployment: str, suffix: str) -> str:
    """Name of a pod made for one deployment; `suffix` is random, 10 hex digits."""
    return f"{_pod_stem(deployment)}{suffix}"


def is_runtime_pod(pod: str, deployment: str) -> bool:
    """Tell whether `runtime_pod` makes this name for that deployment; it makes it for no other one then."""
    stem = _pod_stem(deployment)
    return pod.startswith(stem) and _SUFFIX.fullmatch(pod.removeprefix(stem)) is not None


def _pod_stem(deployment: str) -> str:
    """Return what is before the suffix: it ends in a dash or, of a long name, in a hex digit, so these never meet."""
    room = MAX_NAME - _POD_SUFFIX
    if len(deployment) < room:
        return f"{deployment}-"
    digest = hashlib.sha256(deployment.encode()).hexdigest()[:_LONG_HASH]
    return f"{deployment[: room - _LONG_HASH - 1].rstrip('-')}-{digest}"


def announce_secret(deployment: str, uid: str) -> str:
    """Name of the Secret by which pods made for a deployment announce themselves; another one for a later namesake."""
    return child_name(deployment, "announce", uid[:_HASH])


def pool(runtime: str, architecture: str) -> str:
    """Name of the pool of a Runtime: 40 characters at most, as Kubernetes adds 17 for its pods."""
    return child_name("appfn-pool", resource_name(runtime), architecture, limit=40)


def shim_replica(pod: str, process: int) -> str:
    """Name of one of several processes of a shim's pod, as runtime pods carry it."""
    return child_name(pod, str(process))


def mirrored_execution(function: str, execution_id: str) -> str:
    """Name of the Execution that shows an execution made over HTTP."""
    return child_name(function, resource_name(execution_id))


def replay(execution: str, token: str) -> str:
    """Name of the Execution that runs another one again; `token`: what the annotation of that one says."""
    return child_name(execution, "replay", hashlib.sha256(token.encode()).hexdigest()[:_HASH])


def variables_secret(function: str, uid: str) -> str:
    """Name of the Secret with the variables that Appwrite's API gave a Function; another one for a later namesake."""
    return child_name(function, "variables", uid[:_HASH])


def api_key_secret(key_id: str) -> str:
    """Name of the Secret that holds the hash of an API key."""
    return child_name("appfn-key", key_id)


def webhook_secret(webhook_id: str) -> str:
    """Name of the Secret that holds what a webhook of Appwrite signs with."""
    return child_name("appfn-webhook", webhook_id)
