"""Builds that fail say why; builds that were made are not made again."""

import base64
import hashlib
import io
import json
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.e2e import deployment, function, new_project
from support.gitserver import start_git_server
from support.kubectl import Json, Kubectl, KubectlError, condition
from support.ledger import SECURITY
from support.polling import wait_for
from support.shim import ShimDoor

CODE = "def main(req, res):\n    return res.send('ok')\n"


@pytest.fixture(scope="module")
def target(project: Kubectl) -> str:
    project.apply(function("sources"))
    return "sources"


BAD = {
    "an http source that nobody serves": (
        {"http": {"url": "http://nobody.invalid/code.tar.gz", "sha256": "0" * 64}},
        "SourceUnavailable",
        "nobody.invalid",
    ),
    "a git repository that nobody serves": (
        {"git": {"url": "https://nobody.invalid/code.git"}},
        "SourceUnavailable",
        "nobody.invalid",
    ),
    "a ConfigMap that is missing": ({"configMapRef": {"name": "no-such-map"}}, None, "no-such-map"),
    "an artifact that was never uploaded": (
        {"artifact": {"digest": "sha256:" + "0" * 64}},
        None,
        "0000000",
    ),
    "inline files without the entrypoint": (
        {"inline": {"files": {"other.py": CODE}}},
        "EntrypointMissing",
        "main.py",
    ),
    "a requirement that does not exist": (
        {"inline": {"files": {"main.py": CODE, "requirements.txt": "appfn-no-such-package==9.9.9\n"}}},
        "BuildFailed",
        "",
    ),
}


@pytest.mark.parametrize(("source", "reason", "words"), BAD.values(), ids=BAD)
def test_bad_sources_say_what_is_wrong(
    project: Kubectl, target: str, source: Json, reason: str | None, words: str
) -> None:
    name = "bad-" + hashlib.sha256(json.dumps(source).encode()).hexdigest()[:8]
    project.apply(deployment(target, source, name=name))

    failed = project.wait_condition("fdep", name, "Ready=False", within=90)

    def said() -> Json | None:
        ready = condition(project.get("fdep", name), "Ready")
        assert reason is None or ready["reason"] == reason, ready
        assert words in ready["message"], ready
        return ready

    wait_for(said, within=90)
    assert failed["metadata"]["name"] == name


def test_a_failed_build_shows_the_end_of_its_log(project: Kubectl, target: str) -> None:
    files = {"main.py": CODE, "requirements.txt": "appfn-no-such-package==9.9.9\n"}
    project.apply(deployment(target, {"inline": {"files": files}}, name="failing"))

    failed = project.wait_condition("fdep", "failing", "Ready=False:BuildFailed", within=90)

    build = failed["status"]["builds"][0]
    assert failed["status"]["phase"] == "failed"
    assert "No matching distribution found for appfn-no-such-package" in build["logTail"]
    assert build["log"]["size"] > 0
    assert condition(failed, "Stalled")["status"] == "True"


def test_a_failed_build_runs_again_on_request(project: Kubectl, target: str) -> None:
    project("annotate", "--overwrite", "fdep", "failing", "appfn.dev/retry=again")

    def second() -> bool:
        build = project.get("fdep", "failing")["status"]["builds"][0]
        return bool(build["attempt"] == 2 and build["phase"] == "failed")

    assert wait_for(second, within=90)


def test_a_build_that_takes_too_much_memory_says_so_and_keeps_its_log(project: Kubectl, target: str) -> None:
    commands = "echo hungry; python3 -c 'b\"x\" * (8 << 30)'"
    project.apply(deployment(target, {"inline": {"files": {"main.py": CODE}}}, name="hungry", commands=commands))

    failed = project.wait_condition("fdep", "hungry", "Ready=False:OutOfMemory", within=60)

    assert "APPFN_BUILD_MEMORY" in condition(failed, "Ready")["message"]
    assert "hungry" in failed["status"]["builds"][0]["logTail"]


def test_what_a_command_leaves_running_neither_delays_nor_outlives_its_build(project: Kubectl, target: str) -> None:
    commands = "(trap '' TERM; while :; do date >>left.txt; sleep 0.1; done) >/dev/null 2>&1 & sleep 1"
    project.apply(deployment(target, {"inline": {"files": {"main.py": CODE}}}, name="leaving", commands=commands))

    project.wait_condition("fdep", "leaving", "Ready=True", within=60)

    project("wait", "job/leaving-build-amd64-1", "--for=condition=Complete", "--timeout=30s")


def test_a_build_beyond_its_deadline_is_ended_and_says_so(project: Kubectl, target: str) -> None:
    source = {"inline": {"files": {"main.py": CODE}}}
    project.apply(deployment(target, source, name="endless", commands="trap '' TERM; while :; do sleep 1; done"))

    def building() -> bool:
        return bool(project.get("fdep", "endless").get("status", {}).get("phase") == "building")

    wait_for(building, within=60)
    project("patch", "job", "endless-build-amd64-1", "--type=merge", "-p", '{"spec":{"activeDeadlineSeconds":1}}')

    project.wait_condition("fdep", "endless", "Ready=False:DeadlineExceeded", within=20)


def test_an_unchanged_source_is_not_built_again(project: Kubectl, deploy: Callable[..., Json]) -> None:
    deploy("twice", {"main.py": CODE})
    project.apply(deployment("twice", {"inline": {"files": {"main.py": CODE}}}, name="twice-v2"))

    project.wait_condition("fdep", "twice-v2", "Ready=True", within=60)

    first = project.get("fdep", "twice-v1")["status"]["builds"][0]
    second = project.get("fdep", "twice-v2")["status"]["builds"][0]
    assert second["artifact"] == first["artifact"]
    assert not project.list("jobs", "-l", "appfn.dev/deployment=twice-v2")


def test_an_architecture_no_node_has_is_named(project: Kubectl) -> None:
    project.apply(
        function("foreign", architectures=["arm64"]),
        deployment("foreign", {"inline": {"files": {"main.py": CODE}}}),
    )

    waiting = project.wait_condition("fdep", "foreign-v1", "Ready=False:NoNodeForArchitecture", within=30)

    assert "arm64" in condition(waiting, "Ready")["message"]


def tarball(files: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return packed.getvalue()


@pytest.fixture(scope="module")
def file_server(project: Kubectl) -> Iterator[tuple[str, str]]:
    """An HTTP server in the cluster; yields the URL and the sha256 of a tarball."""
    packed = tarball({"main.py": CODE})
    binary = {"code.tar.gz": base64.b64encode(packed).decode()}
    labels = {"app": "files"}
    container = {
        "name": "files",
        "image": "appfn/appfn:0.1.0",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", "http.server", "--directory", "/srv", "8000"],
        "volumeMounts": [{"name": "files", "mountPath": "/srv"}],
        "securityContext": SECURITY,
    }
    project.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "binaryData": binary},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "files", "labels": labels},
            "spec": {
                "automountServiceAccountToken": False,
                "containers": [container],
                "volumes": [{"name": "files", "configMap": {"name": "files"}}],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "files"},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8000}]},
        },
    )
    project("wait", "pod/files", "--for=condition=Ready", "--timeout=60s")
    url = f"http://files.{project.namespace}.svc/code.tar.gz"
    fetch = f"import urllib.request; urllib.request.urlopen({url!r}, timeout=2); print('served')"

    def served() -> bool:  # a Service that is new may lead nowhere for a moment, or where one led that is gone
        with suppress(KubectlError):
            return bool(project("exec", "files", "--", "python3", "-c", fetch))
        return False

    wait_for(served, within=60)
    yield url, hashlib.sha256(packed).hexdigest()
    project("delete", "pod/files", "service/files", "configmap/files", "--wait=false")


def test_an_http_source_is_fetched_and_its_digest_checked(
    project: Kubectl, target: str, file_server: tuple[str, str]
) -> None:
    url, digest = file_server
    project.apply(deployment(target, {"http": {"url": url, "sha256": digest}}, name="http-good"))
    project.apply(deployment(target, {"http": {"url": url, "sha256": "f" * 64}}, name="http-bad"))

    project.wait_condition("fdep", "http-good", "Ready=True", within=60)
    refused = project.wait_condition("fdep", "http-bad", "Ready=False:DigestMismatch", within=60)
    assert "f" * 64 in condition(refused, "Ready")["message"]


def test_a_config_map_is_a_source(project: Kubectl, target: str) -> None:
    project.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code"}, "data": {"main.py": CODE}},
        deployment(target, {"configMapRef": {"name": "code"}}, name="from-map"),
    )

    project.wait_condition("fdep", "from-map", "Ready=True", within=60)


def test_a_folder_of_a_git_repository_is_a_source(admin: Kubectl, tmp_path: Path) -> None:
    with new_project(admin) as company:
        url = start_git_server(company, tmp_path, {"functions/hello/main.py": CODE, "README.md": "not code"})
        source = {"git": {"url": url, "ref": "main", "path": "functions/hello"}}
        missing = {"git": {"url": url, "ref": "no-such-branch"}}
        company.apply(
            function("hello"),
            deployment("hello", source, name="right"),
            deployment("hello", missing, name="wrong"),
        )

        company.wait_condition("fdep", "right", "Ready=True", within=60)
        refused = company.wait_condition("fdep", "wrong", "Ready=False:SourceUnavailable", within=60)
        assert "no-such-branch" in condition(refused, "Ready")["message"]


def test_an_uploaded_artifact_is_a_source(project: Kubectl, system: Kubectl, target: str, door: ShimDoor) -> None:
    packed = tarball({"main.py": CODE})
    token = system("create", "token", "appfn-operator", "--audience", "appfn").strip()
    upload = urllib.request.Request(  # noqa: S310 - http to our own port
        f"{door.url()}/internal/v1/artifacts/{project.namespace}",
        data=packed,
        method="PUT",
        headers={"Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(upload, timeout=30) as response:  # noqa: S310 - likewise
        stored = json.loads(response.read())
    assert stored["digest"] == "sha256:" + hashlib.sha256(packed).hexdigest()

    project.apply(deployment(target, {"artifact": {"digest": stored["digest"]}}, name="uploaded"))

    project.wait_condition("fdep", "uploaded", "Ready=True", within=60)
