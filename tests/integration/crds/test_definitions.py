"""The custom resources at a real API server: each bad sample is a good one with one thing changed."""

import copy
import re
import secrets
from typing import Any, NamedTuple

import pytest

from appfn import names
from appfn.api.base import Json
from appfn.api.deployment import Deployment
from appfn.api.execution import Execution
from appfn.api.function import Function
from appfn.api.kinds import DEPLOYMENT, EXECUTION, FUNCTION, RUNTIME, Key, Kind
from appfn.api.runtime import Runtime
from appfn.errors import RejectedError
from appfn.kube.client import KubeCluster
from appfn.kube.collection import path_of

SHA256 = "0123456789abcdef" * 4
REMOVED = object()
"""As the value of a change: the field is left out."""

GOOD: dict[str, Json] = {
    "Function": {
        "runtime": "node-20.0",
        "id": "Hello_World.1",
        "displayName": "Hello, Wörld!",
        "enabled": False,
        "execute": ["any", "guests", "users/verified", "user:a1/unverified", "team:a.b/owner", "member:m-1"],
        "events": [
            "users.*",
            "databases.*.collections.*.documents.*.create",
            "functions.f.deployments.d.update",
            "cloudevents.com.example.order.created",
        ],
        "schedule": "*/15 0-6,22 1 JAN-MAR MON",
        "timeZone": "America/Argentina/Buenos_Aires",
        "timeout": 900,
        "logging": False,
        "entrypoint": "src/index.js",
        "commands": "npm ci\nnpm run build",
        "variables": [
            {"name": "PLAIN", "value": "line one\nline two"},
            {"name": "_EMPTY", "value": ""},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "my.secret", "key": "API_KEY"}}},
            {"name": "APPWRITE_FUNCTION_ID", "valueFrom": {"configMapKeyRef": {"name": "config", "key": "a.b-c"}}},
        ],
        "deployment": "hello-v1",
        "architectures": ["amd64", "arm64"],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": 1, "memory": "0.5Gi"}},
        "scaling": {"minReplicas": 2, "maxReplicas": 2, "concurrency": 4, "idleSeconds": 1},
        "retry": {"maxAttempts": 3},
        "successfulExecutionsHistoryLimit": 0,
        "failedExecutionsHistoryLimit": 100,
        "nodeSelector": {"example.com/pool": "functions", "zone": ""},
        "tolerations": [
            {"operator": "Exists"},
            {"key": "example.com/dedicated", "value": "functions", "effect": "NoSchedule"},
            {"key": "down", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
        ],
        "runtimeClassName": "gvisor",
    },
    "Deployment": {
        "functionRef": {"name": "hello"},
        "id": "6012cc93d5a7b",
        "entrypoint": "src/@scope/my-index_1.js",
        "commands": "npm ci && npm run build",
        "activate": False,
        "source": {"inline": {"files": {"src/index.js": "module.exports = 1", ".npmrc": "", "a b.txt": "x"}}},
    },
    "Execution": {
        "functionRef": {"name": "hello"},
        "id": "65a1",
        "data": "d" * 131072,
        "headers": {"X-Trace-Id": "a\tb", "accept": "*/*"},
        "path": "/v1/things?x=ä&y=%20",
        "method": "GET",
        "ttlSecondsAfterFinished": 0,
    },
    "Runtime": {
        "language": "node",
        "version": "20.0",
        "displayName": "Node.js",
        "protocol": "v5",
        "loadMode": "Import",
        "enabled": True,
        "images": [
            {"architecture": "amd64", "image": "registry.example.com:5000/a/node:v2-20.0"},
            {"architecture": "arm64", "image": f"docker.io/a/node@sha256:{SHA256}"},
        ],
        "entrypoint": "index.js",
        "buildCommand": "/usr/local/src/build.sh",
        "startCommand": "/usr/local/src/start.sh",
        "agentCommand": "/usr/local/src/agent.sh",
        "concurrency": 64,
        "pool": 2,
        "resources": {"limits": {"memory": "512Mi"}},
        "securityProfile": "baseline",
    },
}
SOURCES: dict[str, Json] = {
    "configMapRef": {"name": "code"},
    "http": {"url": "https://example.com:8443/a/code.tar.gz?x=1", "sha256": SHA256},
    "git over https": {"url": "https://git.example.com/team/repo.git", "ref": "v1.0.0", "path": "functions/hello"},
    "git over ssh": {"url": "ssh://git@git.example.com:2222/~me/repo.git", "secretRef": {"name": "git"}},
    "artifact": {"digest": f"sha256:{SHA256}"},
}
KINDS = {kind.name: kind for kind in (FUNCTION, DEPLOYMENT, EXECUTION, RUNTIME)}
MODELS: dict[str, type[Function | Deployment | Execution | Runtime]] = {
    "Function": Function,
    "Deployment": Deployment,
    "Execution": Execution,
    "Runtime": Runtime,
}


class Bad(NamedTuple):
    """One change to the good sample of a kind, and what the refusal must say."""

    kind: str
    path: str
    """Of the field to change, its parts separated by dots."""
    value: object
    where: str
    """The path that the message must name."""
    says: str = ""
    """More of the message."""


HTTP: dict[str, object] = {"url": "https://example.com/x", "sha256": SHA256}
GIT: dict[str, object] = {"url": "https://example.com/x/y"}


def http(**change: object) -> Json:
    return {"http": {name: value for name, value in (HTTP | change).items() if value is not REMOVED}}


def git(**change: object) -> Json:
    return {"git": GIT | change}


def files(*named: str) -> Json:
    return {"inline": {"files": dict.fromkeys(named, "x")}}


BAD = [
    Bad("Function", "metadata.name", "hello.world", "metadata.name", "must be a DNS label"),
    Bad("Function", "metadata.name", "Hello", "metadata.name"),
    Bad("Function", "metadata.name", "a" * 64, "metadata.name", "63"),
    Bad("Function", "spec", REMOVED, "spec", "Required"),
    Bad("Function", "spec.runtime", REMOVED, "spec.runtime", "Required"),
    Bad("Function", "spec.runtime", "Node 20", "spec.runtime", "kubectl get runtimes"),
    Bad("Function", "spec.id", "", "spec.id"),
    Bad("Function", "spec.id", "a" * 37, "spec.id", "36"),
    Bad("Function", "spec.id", "-hello", "spec.id", "starts with a letter or digit"),
    Bad("Function", "spec.id", "a b", "spec.id", "letters, digits, dots"),
    Bad("Function", "spec.displayName", "a" * 129, "spec.displayName"),
    Bad("Function", "spec.displayName", "a\nb", "spec.displayName", "line breaks"),
    Bad("Function", "spec.enabled", "yes", "spec.enabled", "boolean"),
    Bad("Function", "spec.execute", ["any", "nobody"], "spec.execute[1]", "a role is any, guests"),
    Bad("Function", "spec.execute", ["role:all"], "spec.execute[0]", "a role is"),
    Bad("Function", "spec.execute", ["*"], "spec.execute[0]", "a role is"),
    Bad("Function", "spec.execute", ["any", "any"], "spec.execute[1]", "Duplicate"),
    Bad("Function", "spec.execute", [f"user:{number}" for number in range(101)], "spec.execute", "100"),
    Bad("Function", "spec.events", ["users"], "spec.events[0]", "2 to 7 parts"),
    Bad("Function", "spec.events", ["account.create"], "spec.events[0]", "starts with users"),
    Bad("Function", "spec.events", [f"databases{'.a' * 7}"], "spec.events[0]", "2 to 7 parts"),
    Bad("Function", "spec.events", ["users..create"], "spec.events[0]", "2 to 7 parts"),
    Bad("Function", "spec.events", ["users.*.frobnicate"], "spec.events[0]", "an action of Appwrite"),
    Bad("Function", "spec.schedule", "* * * *", "spec.schedule", "five fields"),
    Bad("Function", "spec.schedule", "@daily", "spec.schedule", "five fields"),
    Bad("Function", "spec.schedule", "TZ=UTC * * * * *", "spec.schedule", "spec.timeZone"),
    Bad("Function", "spec.timeZone", "Europe/Ber lin", "spec.timeZone", "Europe/Berlin"),
    Bad("Function", "spec.timeZone", "../etc/passwd", "spec.timeZone", "Europe/Berlin"),
    Bad("Function", "spec.timeout", 0, "spec.timeout", "greater than or equal to 1"),
    Bad("Function", "spec.entrypoint", "../x.js", "spec.entrypoint", "relative to the root"),
    Bad("Function", "spec.timeout", 901, "spec.timeout", "less than or equal to 900"),
    Bad("Function", "spec.timeout", "15", "spec.timeout", "integer"),
    Bad("Function", "spec.variables", [{"name": "A"}], "spec.variables[0]", "exactly one of value and valueFrom"),
    Bad(
        "Function",
        "spec.variables",
        [{"name": "A", "value": "", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "spec.variables[0]",
        "exactly one of value and valueFrom",
    ),
    Bad("Function", "spec.variables", [{"value": "a"}], "spec.variables[0].name", "Required"),
    Bad("Function", "spec.variables", [{"name": "1A", "value": ""}], "spec.variables[0].name", "start with a digit"),
    Bad("Function", "spec.variables", [{"name": "A-B", "value": ""}], "spec.variables[0].name", "underscores"),
    Bad("Function", "spec.variables", [{"name": "A", "value": "a" * 8193}], "spec.variables[0].value", "8192"),
    Bad("Function", "spec.variables", [{"name": "A", "value": "\0"}], "spec.variables[0].value", "NUL"),
    Bad("Function", "spec.variables", [{"name": "A", "value": "a"}] * 2, "spec.variables[1]", "Duplicate"),
    Bad(
        "Function",
        "spec.variables",
        [{"name": "A", "valueFrom": {}}],
        "spec.variables[0].valueFrom",
        "exactly one of secretKeyRef and configMapKeyRef",
    ),
    Bad(
        "Function",
        "spec.variables",
        [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a/b"}}}],
        "spec.variables[0].valueFrom.secretKeyRef.key",
    ),
    Bad("Function", "spec.deployment", "v1.0", "spec.deployment", "the name of a Deployment"),
    Bad("Function", "spec.architectures", ["riscv64"], "spec.architectures[0]", "amd64"),
    Bad("Function", "spec.architectures", ["amd64", "amd64"], "spec.architectures[1]", "Duplicate"),
    Bad("Function", "spec.resources.limits.memory", "lots", "spec.resources.limits.memory"),
    Bad("Function", "spec.resources.limits.cpu", -1, "spec.resources.limits.cpu"),
    Bad("Function", "spec.resources.requests.memory", "1Gi", "spec.resources", "larger than the limit"),
    Bad("Function", "spec.resources.requests.cpu", "1001m", "spec.resources", "larger than the limit"),
    Bad("Function", "spec.scaling.minReplicas", 3, "spec.scaling", "minReplicas can't be larger than maxReplicas"),
    Bad("Function", "spec.scaling", {"minReplicas": 11}, "spec.scaling", "minReplicas can't be larger"),
    Bad("Function", "spec.scaling.minReplicas", -1, "spec.scaling.minReplicas"),
    Bad("Function", "spec.scaling.maxReplicas", 1001, "spec.scaling.maxReplicas"),
    Bad("Function", "spec.scaling.concurrency", 0, "spec.scaling.concurrency"),
    Bad("Function", "spec.scaling.idleSeconds", 0, "spec.scaling.idleSeconds"),
    Bad("Function", "spec.retry.maxAttempts", 0, "spec.retry.maxAttempts"),
    Bad("Function", "spec.failedExecutionsHistoryLimit", -1, "spec.failedExecutionsHistoryLimit"),
    Bad("Function", "spec.nodeSelector", {"a b": "c"}, "spec.nodeSelector", "the key of a node label"),
    Bad("Function", "spec.nodeSelector", {"a": "b c"}, "spec.nodeSelector.a"),
    Bad("Function", "spec.tolerations", [{"effect": "NoSchedule"}], "spec.tolerations[0]", "needs operator Exists"),
    Bad("Function", "spec.tolerations", [{"operator": "Exists", "value": "a"}], "spec.tolerations[0]", "have a value"),
    Bad("Function", "spec.tolerations", [{"key": "a", "effect": "Never"}], "spec.tolerations[0].effect"),
    Bad("Function", "spec.tolerations", [{"key": "a", "tolerationSeconds": 1}], "spec.tolerations[0]", "NoExecute"),
    Bad("Function", "spec.tolerations", [{"key": "a b"}], "spec.tolerations[0].key", "the key of a taint"),
    Bad("Function", "spec.runtimeClassName", "g visor", "spec.runtimeClassName"),
    Bad("Deployment", "metadata.name", "v1.0", "metadata.name", "must be a DNS label"),
    Bad("Deployment", "spec.functionRef", REMOVED, "spec.functionRef", "Required"),
    Bad("Deployment", "spec.functionRef", {}, "spec.functionRef.name", "Required"),
    Bad("Deployment", "spec.functionRef.name", "Hello", "spec.functionRef.name", "the name of a Function"),
    Bad("Deployment", "spec.entrypoint", "../index.js", "spec.entrypoint", "relative to the root of the source"),
    Bad("Deployment", "spec.entrypoint", "/etc/passwd", "spec.entrypoint", "relative to the root of the source"),
    Bad("Deployment", "spec.entrypoint", "src/../../x", "spec.entrypoint", "without . and .."),
    Bad("Deployment", "spec.entrypoint", "./index.js", "spec.entrypoint", "without . and .."),
    Bad("Deployment", "spec.entrypoint", "a.js;reboot", "spec.entrypoint", "src/index.js"),
    Bad("Deployment", "spec.entrypoint", "$(id).js", "spec.entrypoint", "src/index.js"),
    Bad("Deployment", "spec.entrypoint", "a b.js", "spec.entrypoint", "src/index.js"),
    Bad("Deployment", "spec.entrypoint", "-e.js", "spec.entrypoint", "src/index.js"),
    Bad("Deployment", "spec.commands", "a\0b", "spec.commands", "NUL"),
    Bad("Deployment", "spec.source", REMOVED, "spec.source", "Required"),
    Bad("Deployment", "spec.source", {}, "spec.source", "exactly one of inline, configMapRef, http, git and artifact"),
    Bad("Deployment", "spec.source", git() | http(), "spec.source", "exactly one of inline"),
    Bad("Deployment", "spec.source", {"inline": {}}, "spec.source.inline.files", "Required"),
    Bad("Deployment", "spec.source", files(), "spec.source.inline.files"),
    Bad("Deployment", "spec.source", files(*map(str, range(51))), "spec.source.inline.files", "50"),
    Bad(
        "Deployment",
        "spec.source",
        {"inline": {"files": {"a": "x" * 300_000, "b": "x" * 300_000}}},
        "spec.source.inline.files",
        "larger than 512 KiB in all; use source.git",
    ),
    Bad("Deployment", "spec.source", files("../a"), "spec.source.inline.files", "must be a relative path"),
    Bad("Deployment", "spec.source", files("/a"), "spec.source.inline.files", "must be a relative path"),
    Bad("Deployment", "spec.source", files("a/"), "spec.source.inline.files", "must be a relative path"),
    Bad("Deployment", "spec.source", files("a//b"), "spec.source.inline.files", "must be a relative path"),
    Bad("Deployment", "spec.source", files("a/./b"), "spec.source.inline.files", "must be a relative path"),
    Bad("Deployment", "spec.source", files("a\\b"), "spec.source.inline.files", "must be a relative path"),
    Bad("Deployment", "spec.source", files("a\nb"), "spec.source.inline.files", "must be a relative path"),
    Bad("Deployment", "spec.source", files("a" * 256), "spec.source.inline.files", "255"),
    Bad("Deployment", "spec.source", files("a", "a/b"), "spec.source.inline.files", "a file and a folder at once"),
    Bad("Deployment", "spec.source", {"configMapRef": {}}, "spec.source.configMapRef.name", "Required"),
    Bad("Deployment", "spec.source", http(sha256=REMOVED), "spec.source.http.sha256", "Required"),
    Bad("Deployment", "spec.source", http(sha256=SHA256[1:]), "spec.source.http.sha256", "64 lower-case"),
    Bad("Deployment", "spec.source", http(sha256=SHA256.upper()), "spec.source.http.sha256", "64 lower-case"),
    Bad("Deployment", "spec.source", http(url="ftp://example.com/x"), "spec.source.http.url", "https or http"),
    Bad("Deployment", "spec.source", http(url="file:///etc/passwd"), "spec.source.http.url", "https or http"),
    Bad("Deployment", "spec.source", http(url="https://a:b@example.com/"), "spec.source.http.url", "without user"),
    Bad("Deployment", "spec.source", http(url="https://a b/"), "spec.source.http.url", "https or http"),
    Bad("Deployment", "spec.source", {"git": {}}, "spec.source.git.url", "Required"),
    Bad("Deployment", "spec.source", git(url="http://example.com/x"), "spec.source.git.url", "https://host/path"),
    Bad("Deployment", "spec.source", git(url="git@example.com:x/y"), "spec.source.git.url", "not git@host:path"),
    Bad("Deployment", "spec.source", git(url="https://a:b@example.com/x"), "spec.source.git.url", "without user"),
    Bad("Deployment", "spec.source", git(url="ext::sh -c id"), "spec.source.git.url", "https://host/path"),
    Bad("Deployment", "spec.source", git(url="ssh://-oProxyCommand=id/x"), "spec.source.git.url", "https://host/path"),
    Bad("Deployment", "spec.source", git(ref="--upload-pack=id"), "spec.source.git.ref", "leading dashes"),
    Bad("Deployment", "spec.source", git(ref="a..b"), "spec.source.git.ref", "branch, tag or commit"),
    Bad("Deployment", "spec.source", git(path="a/../.."), "spec.source.git.path", "without .."),
    Bad("Deployment", "spec.source", git(path="/a"), "spec.source.git.path", "relative to the root"),
    Bad("Deployment", "spec.source", git(secretRef={}), "spec.source.git.secretRef.name", "Required"),
    Bad(
        "Deployment", "spec.source", {"artifact": {"digest": f"md5:{SHA256}"}}, "spec.source.artifact.digest", "sha256:"
    ),
    Bad("Execution", "metadata.name", "a.b", "metadata.name", "must be a DNS label"),
    Bad("Execution", "spec.functionRef", REMOVED, "spec.functionRef", "Required"),
    Bad("Execution", "spec.id", "a" * 37, "spec.id"),
    Bad("Execution", "spec.data", "d" * 131073, "spec.data", "131072"),
    Bad("Execution", "spec.headers", {"X Y": "a"}, "spec.headers", "the name of a header"),
    Bad("Execution", "spec.headers", {"": "a"}, "spec.headers", "the name of a header"),
    Bad("Execution", "spec.headers", {"X": "a\r\nSet-Cookie: b"}, "spec.headers[X]", "line breaks"),
    Bad("Execution", "spec.headers", {"X": "a\0"}, "spec.headers[X]", "control characters"),
    Bad("Execution", "spec.headers", {str(number): "" for number in range(101)}, "spec.headers", "100"),
    Bad("Execution", "spec.path", "things", "spec.path", "must start with /"),
    Bad("Execution", "spec.path", "/a b", "spec.path", "no spaces"),
    Bad("Execution", "spec.path", "/a\r\nHost: b", "spec.path", "control characters"),
    Bad("Execution", "spec.method", "FETCH", "spec.method", "POST"),
    Bad("Execution", "spec.ttlSecondsAfterFinished", -1, "spec.ttlSecondsAfterFinished"),
    Bad("Runtime", "metadata.name", "node-", "metadata.name"),
    Bad("Runtime", "metadata.name", "a" * 64, "metadata.name", "63"),
    Bad("Runtime", "spec.language", REMOVED, "spec.language", "Required"),
    Bad("Runtime", "spec.version", 20.0, "spec.version", "string"),
    Bad("Runtime", "spec.images", [], "spec.images", "at least 1"),
    Bad("Runtime", "spec.images", [{"architecture": "amd64", "image": "a"}] * 2, "spec.images[1]", "Duplicate"),
    Bad("Runtime", "spec.images", [{"architecture": "s390x", "image": "a"}], "spec.images[0].architecture", "amd64"),
    Bad("Runtime", "spec.images", [{"architecture": "amd64", "image": "a b"}], "spec.images[0].image", "an image"),
    Bad("Runtime", "spec.protocol", "v1", "spec.protocol", "v2"),
    Bad("Runtime", "spec.loadMode", "exec", "spec.loadMode", "Exec"),
    Bad("Runtime", "spec.entrypoint", "../x", "spec.entrypoint", "without . and .."),
    Bad("Runtime", "spec.buildCommand", REMOVED, "spec.buildCommand", "Required"),
    Bad("Runtime", "spec.startCommand", "", "spec.startCommand"),
    Bad("Runtime", "spec.agentCommand", "a" * 8193, "spec.agentCommand", "8192"),
    Bad("Runtime", "spec.agentCommand", "a\0b", "spec.agentCommand", "NUL"),
    Bad("Runtime", "spec.loadMode", "Exec", "spec.agentCommand", "only where loadMode is Import"),
    Bad("Runtime", "spec.loadMode", REMOVED, "spec.agentCommand", "only where loadMode is Import"),
    Bad("Runtime", "spec.concurrency", 0, "spec.concurrency"),
    Bad("Runtime", "spec.pool", -1, "spec.pool"),
    Bad("Runtime", "spec.securityProfile", "privileged", "spec.securityProfile", "restricted"),
]


def sample(kind: str, *, namespace: str = "default", **spec: object) -> Json:
    """Return the good sample of a kind under a fresh name, with parts of the spec replaced."""
    metadata = {"name": f"sample-{secrets.token_hex(4)}", "namespace": namespace}
    if not KINDS[kind].namespaced:
        del metadata["namespace"]
    return {
        "apiVersion": names.API_VERSION,
        "kind": kind,
        "metadata": metadata,
        "spec": copy.deepcopy(GOOD[kind]) | spec,
    }


def changed(manifest: Json, path: str, value: object) -> Json:
    """Set one field of a manifest, or remove it, and return the manifest."""
    *parents, last = path.split(".")
    target: Any = manifest
    for part in parents:
        target = target[part]
    if value is REMOVED:
        del target[last]
    else:
        target[last] = value
    return manifest


async def refusal(cluster: KubeCluster, kind: Kind, manifest: Json) -> str:
    """Return why the API server refuses a manifest."""
    with pytest.raises(RejectedError) as caught:
        await cluster.create(kind, manifest)
    return str(caught.value)


@pytest.mark.parametrize(
    "bad", [pytest.param(bad, id=f"{number}-{bad.kind}-{bad.path}") for number, bad in enumerate(BAD)]
)
async def test_a_bad_resource_is_refused_and_told_where_and_why(cluster: KubeCluster, bad: Bad) -> None:
    message = await refusal(cluster, KINDS[bad.kind], changed(sample(bad.kind), bad.path, bad.value))

    assert re.search(rf"(: |\[|, ){re.escape(bad.where)}: ", message), message
    assert bad.says in message


@pytest.mark.parametrize("kind", GOOD)
async def test_a_good_resource_is_kept_as_it_was_sent(cluster: KubeCluster, namespace: str, kind: str) -> None:
    manifest = sample(kind, namespace=namespace)

    made = await cluster.create(KINDS[kind], manifest)

    assert MODELS[kind].parse(made).spec == MODELS[kind].parse(manifest).spec
    await cluster.delete(KINDS[kind], MODELS[kind].parse(made).metadata.key)


@pytest.mark.parametrize("source", SOURCES)
async def test_every_kind_of_source_is_taken(cluster: KubeCluster, namespace: str, source: str) -> None:
    manifest = sample("Deployment", namespace=namespace, source={source.partition(" ")[0]: SOURCES[source]})

    made = await cluster.create(DEPLOYMENT, manifest)

    assert Deployment.parse(made).spec == Deployment.parse(manifest).spec


async def test_files_of_512_kib_in_all_are_taken(cluster: KubeCluster, namespace: str) -> None:
    half = "x" * (256 * 1024)

    await cluster.create(
        DEPLOYMENT, sample("Deployment", namespace=namespace, source={"inline": {"files": {"a": half, "b": half}}})
    )


@pytest.mark.parametrize(
    ("kind", "sent", "kept"),
    [
        pytest.param(
            FUNCTION,
            {"runtime": "node-20.0"},
            {
                "runtime": "node-20.0",
                "enabled": True,
                "timeZone": "Etc/UTC",
                "timeout": 15,
                "logging": True,
                "scaling": {"minReplicas": 0, "maxReplicas": 10, "idleSeconds": 60},
                "retry": {"maxAttempts": 1},
                "successfulExecutionsHistoryLimit": 3,
                "failedExecutionsHistoryLimit": 1,
            },
            id="Function",
        ),
        pytest.param(
            DEPLOYMENT,
            {"functionRef": {"name": "hello"}, "source": {"git": {"url": "https://example.com/x/y"}}},
            {
                "functionRef": {"name": "hello"},
                "source": {"git": {"url": "https://example.com/x/y", "ref": "HEAD", "path": "."}},
                "activate": True,
            },
            id="Deployment",
        ),
        pytest.param(
            EXECUTION,
            {"functionRef": {"name": "hello"}},
            {"functionRef": {"name": "hello"}, "path": "/", "method": "POST"},
            id="Execution",
        ),
    ],
)
async def test_a_short_resource_gets_the_defaults(
    cluster: KubeCluster, namespace: str, kind: Kind, sent: Json, kept: Json
) -> None:
    made = await cluster.create(kind, sample(kind.name, namespace=namespace) | {"spec": sent})

    assert made["spec"] == kept


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        (DEPLOYMENT, {"activate": True}, "spec: Invalid value"),
        (DEPLOYMENT, {"activate": True}, "create a new Deployment for the new version"),
        (DEPLOYMENT, {"source": {"inline": {"files": {"src/index.js": "other"}}}}, "can't be changed"),
        (EXECUTION, {"data": "other"}, "create a new Execution to run the function again"),
        (FUNCTION, {"id": "other"}, "spec.id: Invalid value"),
        (FUNCTION, {"id": None}, "callers know the function by it"),
    ],
)
async def test_what_is_immutable_stays(
    cluster: KubeCluster, namespace: str, kind: Kind, change: Json, says: str
) -> None:
    made = await cluster.create(kind, sample(kind.name, namespace=namespace))

    with pytest.raises(RejectedError, match=re.escape(says)):
        await cluster.merge_patch(kind, Key(namespace, made["metadata"]["name"]), {"spec": change}, manager="test")


async def test_everything_else_of_a_function_can_be_changed(cluster: KubeCluster, namespace: str) -> None:
    made = await cluster.create(FUNCTION, sample("Function", namespace=namespace))
    change = {"spec": {"runtime": "python-3.13", "timeout": 1, "schedule": "", "variables": [], "execute": None}}

    after = await cluster.merge_patch(FUNCTION, Key(namespace, made["metadata"]["name"]), change, manager="test")

    assert after is not None
    assert (after["spec"]["runtime"], after["metadata"]["generation"]) == ("python-3.13", 2)


@pytest.mark.parametrize(
    "field", ["hostNetwork", "privileged", "securityContext", "serviceAccountName", "volumes", "podTemplate"]
)
async def test_a_tenant_cannot_ask_for_privileges(cluster: KubeCluster, namespace: str, field: str) -> None:
    manifest = sample("Function", namespace=namespace, **{field: {}})
    path = path_of(FUNCTION, namespace=namespace)

    with pytest.raises(RejectedError, match=f'unknown field "spec.{field}"'):  # as kubectl asks
        await cluster._rest.json("POST", path, query={"fieldValidation": "Strict"}, body=manifest)
    assert field not in (await cluster.create(FUNCTION, manifest))["spec"]


async def test_a_status_is_written_apart_from_the_spec(cluster: KubeCluster, namespace: str) -> None:
    manifest = sample("Function", namespace=namespace) | {"status": {"activeDeployment": "forged"}}

    made = await cluster.create(FUNCTION, manifest)
    written = await cluster.apply_status(
        FUNCTION,
        {"metadata": made["metadata"], "spec": {"timeout": 1}, "status": {"activeDeployment": "hello-v1"}},
        manager=names.FIELD_MANAGER_FUNCTION,
    )

    assert "status" not in made
    assert written["status"] == {"activeDeployment": "hello-v1"}
    assert written["spec"] == made["spec"]


@pytest.mark.parametrize(
    ("kind", "status", "where"),
    [
        (FUNCTION, {"conditions": [{"type": "Ready", "status": "True"}]}, "status.conditions[0].reason"),
        (DEPLOYMENT, {"phase": "done"}, "status.phase"),
        (DEPLOYMENT, {"builds": [{"architecture": "amd64"}]}, "status.builds[0].phase"),
        (EXECUTION, {"status": "lost"}, "status.status"),
        (EXECUTION, {"response": "x" * 262145}, "status.response"),
    ],
)
async def test_a_bad_status_is_refused(
    cluster: KubeCluster, namespace: str, kind: Kind, status: Json, where: str
) -> None:
    made = await cluster.create(kind, sample(kind.name, namespace=namespace))

    with pytest.raises(RejectedError, match=re.escape(where)):
        await cluster.apply_status(kind, {"metadata": made["metadata"], "status": status}, manager="test")


async def test_resources_are_found_by_what_they_refer_to(cluster: KubeCluster, namespace: str) -> None:
    mine = await cluster.create(DEPLOYMENT, sample("Deployment", namespace=namespace))
    await cluster.create(DEPLOYMENT, sample("Deployment", namespace=namespace, functionRef={"name": "other"}))
    run = await cluster.create(EXECUTION, sample("Execution", namespace=namespace))
    function = await cluster.create(FUNCTION, sample("Function", namespace=namespace))

    async def found(kind: Kind, fields: str) -> list[str]:
        return [item["metadata"]["uid"] for item in await cluster.list(kind, namespace=namespace, fields=fields)]

    assert await found(DEPLOYMENT, "spec.functionRef.name=hello") == [mine["metadata"]["uid"]]
    assert await found(EXECUTION, "spec.functionRef.name=hello") == [run["metadata"]["uid"]]
    assert await found(FUNCTION, "spec.runtime=node-20.0") == [function["metadata"]["uid"]]
    assert await found(FUNCTION, "spec.runtime=php-8.0") == []
