"""Typed resources and children's JSON for tests: each builder makes a valid object, arguments say what matters."""

from datetime import UTC, datetime, timedelta
from typing import Any

from appfn import names
from appfn.api.base import Json
from appfn.api.deployment import Deployment
from appfn.api.execution import Execution
from appfn.api.function import Function
from appfn.api.runtime import Runtime
from appfn.core.manifests.build_job import BuildSettings

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NAMESPACE = "shop"
DIGEST = "sha256:" + "a" * 64
SETTINGS = BuildSettings(image="appfn/appfn:1", shim_url="http://shim", seconds=900, memory="1Gi", cpu="1")


def stamp(time: datetime) -> str:
    """Return a time as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def ago(seconds: float) -> str:
    """Return the time so many seconds before NOW."""
    return stamp(NOW - timedelta(seconds=seconds))


def metadata(name: str, **extra: Any) -> Json:
    """Return metadata of an object in NAMESPACE, made a minute before NOW."""
    return {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"uid-{name}",
        "generation": 1,
        "resourceVersion": "1",
        "creationTimestamp": ago(60),
        **extra,
    }


def function(name: str = "hello", *, status: Json | None = None, meta: Json | None = None, **spec: Any) -> Function:
    """Return a Function of runtime node-20.0."""
    body = {"metadata": metadata(name, **(meta or {})), "spec": {"runtime": "node-20.0", **spec}}
    return Function.parse(body | ({"status": status} if status else {}))


def runtime(name: str = "node-20.0", **spec: Any) -> Runtime:
    """Return an enabled Runtime with an amd64 image that imports code."""
    default = {
        "language": "node",
        "version": "20.0",
        "displayName": "Node.js",
        "loadMode": "Import",
        "enabled": True,
        "images": [{"architecture": "amd64", "image": "runtime-node:20.0"}],
        "entrypoint": "index.js",
        "buildCommand": "build.sh",
        "startCommand": "start.sh",
    }
    return Runtime.parse({"metadata": {"name": name, "generation": 1, "uid": f"uid-{name}"}, "spec": default | spec})


def deployment(
    name: str = "hello-v1",
    *,
    status: Json | None = None,
    meta: Json | None = None,
    source: Json | None = None,
    **spec: Any,
) -> Deployment:
    """Return a Deployment of the Function `hello`, from an artifact unless a source is given."""
    default = {"functionRef": {"name": "hello"}, "source": source or {"artifact": {"digest": DIGEST}}}
    body = {"metadata": metadata(name, **(meta or {})), "spec": default | spec}
    return Deployment.parse(body | ({"status": status} if status else {}))


def ready_deployment(name: str = "hello-v1", *, age: float = 60, **spec: Any) -> Deployment:
    """Return a Deployment whose build is ready."""
    status = {"phase": "ready", "conditions": [{"type": "Ready", "status": "True", "reason": "BuildReady"}]}
    return deployment(name, status=status, meta={"creationTimestamp": ago(age)}, **spec)


def execution(name: str = "run", *, status: Json | None = None, meta: Json | None = None, **spec: Any) -> Execution:
    """Return an Execution of the Function `hello`."""
    body = {"metadata": metadata(name, **(meta or {})), "spec": {"functionRef": {"name": "hello"}, **spec}}
    return Execution.parse(body | ({"status": status} if status else {}))


def job(name: str = "hello-v1-build-amd64-1", *, owner: str = "uid-hello-v1", **status: Any) -> Json:
    """Return a build Job as the API server shows it."""
    reference = {
        "apiVersion": names.API_VERSION,
        "kind": "Deployment",
        "name": "hello-v1",
        "uid": owner,
        "controller": True,
    }
    return {
        "metadata": metadata(name, ownerReferences=[reference]),
        "spec": {"activeDeadlineSeconds": 960},
        "status": status,
    }


def pod(name: str = "hello-v1-build-amd64-1-x", *, phase: str = "Pending", **status: Any) -> Json:
    """Return a build's pod."""
    return {"metadata": metadata(name), "status": {"phase": phase, "startTime": ago(60), **status}}


def container(name: str, **state: Json) -> Json:
    """Return a container's status; the one keyword is its state, such as `terminated={…}`."""
    return {"name": name, "image": "some-image", "state": state}
