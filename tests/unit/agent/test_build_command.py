"""A build as it runs: the agent and the shell that is the build container's first process, over real FIFOs."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from appfn.api.runtime import Architecture
from appfn.core.manifests.build_job import BuildRequest, build_job
from support.objects import SETTINGS, deployment, function, runtime
from support.polling import wait_for
from unit.agent.http_server import Reply, Request, Web, web
from unit.agent.tarballs import file, zipped

SOURCE = zipped(file("index.js", b"code"))
SLOW = "sha256:slow"
"""An artifact that comes when the test is over."""
DIGEST = f"sha256:{hashlib.sha256(SOURCE).hexdigest()}"
OPERATOR = Path(__file__).parents[3] / "operator"
AGENT = """
import json, os, sys
from pathlib import Path
from appfn.agent.build import build
from appfn.agent.build_settings import BuildSettings
from appfn.agent.fetch import FetchStep
from appfn.agent.layout import Layout
from appfn.agent.retry import Patience
from appfn.agent.shim import ShimClient

root = Path(sys.argv[1])
settings = BuildSettings.read(os.environ)
shim = ShimClient(url=settings.shim_url, token_path=root.parent / "token", patience=Patience(seconds=1.0))
report = build(FetchStep(settings=settings, layout=Layout(root), shim=shim))
(root.parent / "report").write_text(json.dumps(report.to_json()))
"""


def wrapper() -> list[str]:
    """Return the command of the build container."""
    request = BuildRequest(
        deployment=deployment(),
        function=function(),
        runtime=runtime(),
        architecture=Architecture.AMD64,
        image="i",
        attempt=1,
        source={},
    )
    containers = build_job(request, SETTINGS)["spec"]["template"]["spec"]["containers"]
    return [part.replace("$$", "$") for part in next(c["command"] for c in containers if c["name"] == "build")]


@dataclass
class Pod:
    """The two containers of a build, as processes that share a folder."""

    folder: Path
    shim: Web
    stored: dict[str, bytes]
    known_builds: dict[str, Any]
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.folder / "appfn"

    def agent(self, *, digest: str = DIGEST, salt: str = "", entrypoint: str = "index.js") -> subprocess.Popen[str]:
        environment = {
            "APPFN_SHIM_URL": self.shim.url,
            "APPFN_NAMESPACE": "ns",
            "APPFN_DEPLOYMENT": "d",
            "APPFN_LOAD_MODE": "Import",
            "APPFN_SOURCE": json.dumps({"artifact": {"digest": digest}}),
            "APPFN_ENTRYPOINT": entrypoint,
            "APPFN_BUILD_KEY_SALT": salt,
            "PYTHONPATH": str(OPERATOR),
        }
        return self._start([sys.executable, "-c", AGENT, str(self.root)], environment)

    def build(
        self, command: str, *, seconds: str = "30", alone: bool = False, program: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        """Start the build container; `alone`: as the first process of its own, as in a container."""
        environment = {
            "APPFN_BUILD_COMMAND": command,
            "APPFN_BUILD_FOLDER": str(self.root / "code"),
            "APPFN_BUILD_SECONDS": seconds,
            "ROOT": str(self.root),
        }
        script = [part.replace("/appfn/", f"{self.root}/") for part in program or wrapper()]
        isolation = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"] if alone else []
        return self._start([*isolation, *script], environment)

    def report(self, agent: subprocess.Popen[str]) -> Any:
        """Return what the agent reports when it has ended."""
        assert agent.wait(timeout=20) == 0
        return json.loads((self.folder / "report").read_text())

    def log(self, report: Any) -> str:
        return self.stored[report["log"]["digest"]].decode()

    def artifact(self, report: Any) -> dict[str, bytes]:
        with tarfile.open(fileobj=BytesIO(self.stored[report["artifact"]["digest"]])) as tar:
            found = {name: tar.extractfile(name) for name in tar.getnames()}
            return {name: content.read() for name, content in found.items() if content is not None}

    def end(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=10)

    def _start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"]} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    stored = {DIGEST: SOURCE}
    builds: dict[str, Any] = {}
    over = threading.Event()

    def answer(request: Request) -> Reply:
        if request.method == "PUT":
            digest = f"sha256:{hashlib.sha256(request.body).hexdigest()}"
            stored[digest] = request.body
            return Reply(status=201, body=json.dumps({"digest": digest, "size": len(request.body)}).encode())
        name = request.path.rsplit("/", 1)[1]
        if "/builds/" in request.path:
            return Reply(body=json.dumps(builds["any"]).encode()) if builds else Reply(status=404)
        if name == SLOW:
            over.wait(60)
        return Reply(body=stored[name]) if name in stored else Reply(status=404)

    with web(answer) as shim:
        (tmp_path / "token").write_text("token")
        (tmp_path / "appfn").mkdir()
        started = Pod(folder=tmp_path, shim=shim, stored=stored, known_builds=builds)
        try:
            yield started
        finally:
            over.set()
            started.end()


@pytest.mark.parametrize("first", ["agent", "build"])
def test_the_command_runs_on_the_fetched_code_and_what_it_leaves_is_stored(pod: Pod, first: str) -> None:
    command = "echo installing; cat index.js; cp index.js copy.js"
    if first == "build":
        build = pod.build(command)
        wait_for((pod.root / "build-start").exists, within=10, pause=0.01)
        agent = pod.agent()
    else:
        agent = pod.agent()
        wait_for((pod.root / "code" / "index.js").exists, within=10, pause=0.01)
        build = pod.build(command)

    report = pod.report(agent)

    assert (report["reason"], report["sourceDigest"]) == ("", DIGEST)
    assert pod.artifact(report) == {"index.js": b"code", "copy.js": b"code"}
    assert [line for line in pod.log(report).splitlines() if "installing" in line] == ["installing"]
    assert pod.log(report).index("Unpacked") < pod.log(report).index("installing") < pod.log(report).index("Packed")
    assert build.wait(timeout=10) == 0


def test_the_output_of_the_command_is_the_containers_log_too(pod: Pod) -> None:
    agent, build = pod.agent(), pod.build("echo out; echo err >&2")
    pod.report(agent)

    assert build.communicate(timeout=10)[0] == (pod.root / "build.log").read_text() == "out\nerr\n"


@pytest.mark.parametrize("first", ["agent", "build"])
@pytest.mark.parametrize(
    ("source", "reason"),
    [({"digest": "sha256:absent"}, "ArtifactUnavailable"), ({"entrypoint": "main.js"}, "EntrypointMissing")],
)
def test_the_command_never_runs_if_the_source_is_no_good(
    pod: Pod, source: dict[str, str], reason: str, first: str
) -> None:
    command = "touch $ROOT/ran"
    if first == "build":
        build = pod.build(command)
        wait_for((pod.root / "build-start").exists, within=10, pause=0.01)
        report = pod.report(pod.agent(**source))
    else:
        report = pod.report(pod.agent(**source))
        build = pod.build(command)

    assert report["reason"] == reason
    assert build.wait(timeout=10) == 0
    assert not (pod.root / "ran").exists()


@pytest.mark.parametrize("good", [True, False])
def test_a_good_report_is_told_to_the_shim_too_and_a_failure_is_not(pod: Pod, good: bool) -> None:  # noqa: FBT001 - pytest's
    agent = pod.agent()
    pod.build("exit 0" if good else "exit 1")

    report = pod.report(agent)

    told = [json.loads(request.body) for request in pod.shim.requests if request.method == "POST"]
    assert told == ([report] if good else [])


def test_the_command_does_not_run_where_an_earlier_build_was_found(pod: Pod) -> None:
    pod.known_builds["any"] = {"artifact": {"digest": "sha256:built", "size": 7}, "log": None}
    build = pod.build("touch $ROOT/ran")

    report = pod.report(pod.agent(salt="{}"))

    assert (report["artifact"]["digest"], report["cached"]) == ("sha256:built", True)
    assert build.wait(timeout=10) == 0
    assert not (pod.root / "ran").exists()


def test_a_command_that_fails_is_reported_with_its_exit_code_and_its_container_ends_well(pod: Pod) -> None:
    agent, build = pod.agent(), pod.build("echo no such package; exit 3")

    report = pod.report(agent)

    assert (report["reason"], report["exitCode"], report["artifact"]) == ("BuildFailed", 3, None)
    assert report["message"].endswith("failed with exit code 3: no such package")
    assert "no such package" in pod.log(report)
    assert build.wait(timeout=10) == 0


def test_a_command_that_takes_too_long_is_stopped(pod: Pod) -> None:
    agent = pod.agent()
    pod.build("echo slow; sleep 60", seconds="0.2")

    report = pod.report(agent)

    assert (report["reason"], report["exitCode"]) == ("BuildFailed", 124)


def test_a_container_that_is_killed_is_noticed_at_once_and_its_log_is_kept(pod: Pod) -> None:
    agent, build = pod.agent(), pod.build("echo installing; sleep 60")
    wait_for(lambda: "installing" in read(pod.root / "build.log"), within=10, pause=0.01)

    os.killpg(build.pid, signal.SIGKILL)
    report = pod.report(agent)

    assert report["reason"] == "BuildFailed"
    assert "stopped for lack of memory" in report["message"]
    assert "installing" in pod.log(report)


def test_a_container_that_is_killed_before_it_was_told_to_begin_is_noticed(pod: Pod) -> None:
    build = pod.build("true", program=["sh", "-c", wrapper()[2].replace("read -r word", "sleep 60")])
    agent = pod.agent()
    wait_for((pod.root / "code" / "index.js").exists, within=10, pause=0.01)

    os.killpg(build.pid, signal.SIGKILL)

    assert pod.report(agent)["reason"] == "BuildFailed"


def test_nothing_is_stored_while_the_command_runs(pod: Pod) -> None:
    agent = pod.agent()
    pod.build("touch $ROOT/begun; until [ -e $ROOT/go ]; do sleep 0.01; done; echo late >late.js")
    wait_for((pod.root / "begun").exists, within=10, pause=0.01)
    requests_before = [request.method for request in pod.shim.requests]

    (pod.root / "go").touch()
    report = pod.report(agent)

    assert "PUT" not in requests_before
    assert "late.js" in pod.artifact(report)


@pytest.mark.parametrize(
    "tampering",
    [
        "echo junk >$ROOT/build-end; echo no >$ROOT/build-start",
        "rm $ROOT/build-end $ROOT/build-start",
        'echo \'{"artifact":{"digest":"sha256:f","size":1},"log":null}\' >$ROOT/cached',
        'echo \'{"sourceDigest":"sha256:f"}\' >$ROOT/fetched.json; touch $ROOT/no-build',
    ],
)
def test_a_command_cannot_speak_for_the_agent_by_the_shared_folder(pod: Pod, tampering: str) -> None:
    agent = pod.agent()
    pod.build(f"{tampering}; sleep 0.3; echo done >done.js")

    report = pod.report(agent)

    assert (report["reason"], report["sourceDigest"], report["cached"]) == ("", DIGEST, False)
    assert set(pod.artifact(report)) == {"index.js", "done.js"}


def test_an_agent_that_dies_while_it_fetches_leaves_the_command_unbegun(pod: Pod) -> None:
    agent, build = pod.agent(digest=SLOW), pod.build("touch $ROOT/ran")
    wait_for((pod.root / "tmp").exists, within=10, pause=0.01)

    os.killpg(agent.pid, signal.SIGKILL)
    agent.wait(timeout=10)

    with pytest.raises(subprocess.TimeoutExpired):
        build.wait(timeout=0.3)  # until the operator deletes the Job
    assert not (pod.root / "ran").exists()


def can_unshare() -> bool:
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="needs unshare(1) and user namespaces")
@pytest.mark.parametrize("holds", ["", "exec 9>$ROOT/build-end; "], ids=["plain", "holding the FIFO open"])
def test_what_a_command_leaves_running_ends_with_it_and_delays_nothing(pod: Pod, holds: str) -> None:
    agent = pod.agent()
    left = "trap '' HUP TERM; while :; do date >>left.js; sleep 0.01; done"
    command = f"{holds}({left}) >/dev/null 2>&1 & until [ -s left.js ]; do sleep 0.01; done"
    build = pod.build(command, alone=True)

    report = pod.report(agent)

    assert report["reason"] == ""
    assert pod.artifact(report)["left.js"] == (pod.root / "code" / "left.js").read_bytes()
    assert build.wait(timeout=10) == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(build.pid, 0)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
