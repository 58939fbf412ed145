"""The CronJob of a Function's schedule: each tick is one small pod that has one execution accepted."""

from typing import Any

from appfn import names
from appfn.api import kinds
from appfn.api.base import Json
from appfn.api.function import Function
from appfn.core.manifests.meta import child_labels, owner_reference
from appfn.core.manifests.pod import container_security, environment, pod_defaults, token_mount, token_volume
from appfn.core.schedule import START_DEADLINE, TRIGGER_DEADLINE, Schedule

_BACKOFF_LIMIT = 4
_KEEP_FINISHED_SECONDS = 600
_RESOURCES: Json = {
    "requests": {"cpu": "10m", "memory": "32Mi"},
    "limits": {"cpu": "500m", "memory": "96Mi"},
}


def cron_job(function: Function, schedule: Schedule, *, image: str, shim_url: str) -> Json:
    """Return the CronJob. It is suspended while the Function is disabled.

    Ticks may overlap: what they start is queued and runs by the function's own limits. Kubernetes names the Job of a
    tick after the minute it was due, and the shim takes that as idempotency key, so no tick
    runs twice.
    """
    metadata = function.metadata
    return {
        "apiVersion": kinds.CRON_JOB.api_version,
        "kind": kinds.CRON_JOB.name,
        "metadata": {
            "name": names.cron_job(metadata.name),
            "namespace": metadata.namespace,
            "labels": _labels(function),
            "ownerReferences": [owner_reference(kinds.FUNCTION, metadata)],
        },
        "spec": {
            "schedule": schedule.expression,
            "timeZone": schedule.zone.key,
            "suspend": not function.spec.enabled,
            "concurrencyPolicy": "Allow",
            "startingDeadlineSeconds": int(START_DEADLINE.total_seconds()),
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {"metadata": {"labels": _labels(function)}, "spec": _job(function, image, shim_url)},
        },
    }


def keeps_time(body: dict[str, Any], manifest: Json) -> bool:
    """Tell whether a CronJob that was read ticks when the manifest would: otherwise its schedule starts anew."""
    fields = ("schedule", "timeZone", "suspend")
    spec = body.get("spec", {})
    return all(spec.get(name) == manifest["spec"][name] for name in fields)


def _labels(function: Function) -> dict[str, str]:
    return child_labels(component=names.COMPONENT_SCHEDULE, function=function.metadata.name)


def _job(function: Function, image: str, shim_url: str) -> Json:
    return {
        "activeDeadlineSeconds": int(TRIGGER_DEADLINE.total_seconds()),
        "backoffLimit": _BACKOFF_LIMIT,
        "ttlSecondsAfterFinished": _KEEP_FINISHED_SECONDS,
        "template": {"metadata": {"labels": _labels(function)}, "spec": _pod(function, image, shim_url)},
    }


def _pod(function: Function, image: str, shim_url: str) -> Json:
    own = environment({"APPFN_SHIM_URL": shim_url, "APPFN_FUNCTION": function.metadata.name})
    job_name = {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}}
    container = {
        "name": "trigger",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "appfn", "trigger"],
        "env": [*own, {"name": "APPFN_JOB_NAME", "valueFrom": job_name}],
        "resources": _RESOURCES,
        "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [token_mount()],
    }
    return {
        **pod_defaults(service_account=names.SERVICE_ACCOUNT_TRIGGER),
        "restartPolicy": "OnFailure",
        "tolerations": [toleration.to_json() for toleration in function.spec.tolerations],
        "containers": [container],
        "volumes": [token_volume()],
    }
