"""Fetch and upload: what they lay out, report and refuse, against a shim that answers over HTTP."""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from appfn.agent.build_key import build_key
from appfn.agent.build_log import BuildLog
from appfn.agent.build_settings import BuildSettings
from appfn.agent.failure import AgentError, Reason
from appfn.agent.fetch import FetchStep
from appfn.agent.layout import Layout
from appfn.agent.report import Report
from appfn.agent.shim import ShimClient, StoredFile
from appfn.agent.upload import UploadStep
from unit.agent.http_server import Reply, Request, web
from unit.agent.patience import quick
from unit.agent.tarballs import file, header, zipped
from unit.agent.test_git import git

SOURCE = zipped(file("index.js", b"code"), file("lib/a.js", b"lib"))


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Store:
    """What the shim holds."""

    artifacts: dict[str, bytes] = field(default_factory=dict)
    builds: dict[str, Any] = field(default_factory=dict)
    full: bool = False

    def put(self, data: bytes) -> str:
        self.artifacts[digest_of(data)] = data
        return digest_of(data)

    def answer(self, request: Request) -> Reply:
        name = request.path.rsplit("/", 1)[1]
        if request.method == "PUT" and self.full:
            return Reply(status=413, body=b'{"message": "too large"}')
        if request.method == "PUT":
            digest = self.put(request.body)
            assert request.headers["X-Appfn-Digest"] == digest
            return Reply(status=201, body=json.dumps({"digest": digest, "size": len(request.body)}).encode())
        if "/builds/" in request.path:
            found = self.builds.get(name)
            return Reply(body=json.dumps(found).encode()) if found else Reply(status=404)
        return Reply(body=self.artifacts[name]) if name in self.artifacts else Reply(status=404)


class Build:
    """The volume of one build and the steps run on it."""

    def __init__(self, folder: Path, url: str, store: Store) -> None:
        self.store = store
        self.layout = Layout(folder / "appfn")
        self.layout.root.mkdir()
        token = folder / "token"
        token.write_text("token")
        self._shim = ShimClient(url=url, token_path=token, patience=quick(1.0))
        self._log = BuildLog()

    def settings(self, source: dict[str, Any], **changes: str) -> BuildSettings:
        environ = {
            "APPFN_SHIM_URL": "http://shim",
            "APPFN_NAMESPACE": "ns",
            "APPFN_DEPLOYMENT": "d",
            "APPFN_LOAD_MODE": "Import",
            "APPFN_SOURCE": json.dumps(source),
            "APPFN_ENTRYPOINT": "index.js",
        }
        return BuildSettings.read(environ | changes)

    def fetch(self, source: dict[str, Any] | None = None, **changes: str) -> Report:
        source = source or {"artifact": {"digest": self.store.put(SOURCE)}}
        step = FetchStep(
            settings=self.settings(source, **changes),
            layout=self.layout,
            shim=self._shim,
            patience=quick(1.0),
            git_protocols=("file",),
        )
        self._log = step.log
        return step.run()

    def built(self, *, exit_code: str | None = "0", log: str = "installing\n") -> None:
        self.layout.build_log.write_text(log)
        if exit_code is not None:
            self.layout.exit_code.write_text(f"{exit_code}\n")

    def upload(self, **changes: str) -> Report:
        settings = self.settings({"artifact": {"digest": "x"}}, **changes)
        fetched = self._log.encode()
        return UploadStep(settings=settings, layout=self.layout, shim=self._shim, fetched=fetched).run()

    def stored(self, stored: StoredFile | None) -> bytes:
        assert stored is not None
        data = self.store.artifacts[stored.digest]
        assert stored.size == len(data)
        return data


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    store = Store()
    with web(store.answer) as server:
        yield Build(tmp_path, server.url, store)


def test_artifact_is_unpacked_for_an_import(build: Build) -> None:
    assert build.fetch() == Report(source_digest=digest_of(SOURCE))

    assert (build.layout.code / "index.js").read_text() == "code"
    assert {path.name for path in build.layout.root.iterdir()} == {"code", "tmp"}


def test_artifact_is_repacked_for_an_image_that_unpacks_itself(build: Build) -> None:
    assert build.fetch(APPFN_LOAD_MODE="Exec", APPFN_ENTRYPOINT="").reason == ""

    with tarfile.open(build.layout.tarball) as tar:
        assert sorted(tar.getnames()) == ["index.js", "lib", "lib/a.js"]
    assert build.layout.code.stat().st_mode & 0o777 == 0o777
    assert not list(build.layout.code.iterdir())


def test_tarball_over_http_is_fetched(build: Build) -> None:
    with web(lambda _: Reply(body=SOURCE)) as server:
        source = {"http": {"url": f"{server.url}/a.tar.gz", "sha256": hashlib.sha256(SOURCE).hexdigest().upper()}}
        assert build.fetch(source).reason == ""

    assert (build.layout.code / "lib/a.js").read_text() == "lib"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "fn").mkdir(parents=True)
    (folder / "fn" / "index.js").write_text("code")
    (folder / "other").write_text("")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "all")
    return folder


def test_folder_of_a_repository_is_the_source(build: Build, repository: Path) -> None:
    report = build.fetch({"git": {"url": f"file://{repository}", "ref": "main", "path": "fn"}})

    assert [path.name for path in build.layout.code.iterdir()] == ["index.js"]
    assert re.fullmatch("sha256:[0-9a-f]{64}", report.source_digest)


def test_link_that_leaves_the_folder_of_a_repository_is_refused(build: Build, repository: Path) -> None:
    (repository / "fn" / "link").symlink_to("../other")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "link")

    report = build.fetch({"git": {"url": f"file://{repository}", "path": "fn"}})

    assert (report.reason, report.message) == (
        "InvalidArchive",
        "'link' is a symbolic link that leads out of the folder; put a copy there",
    )


def test_repository_that_was_built_before_is_not_built_again(build: Build, repository: Path) -> None:
    salt = {"entrypoint": "index.js", "image": "i"}
    source = {"git": {"url": f"file://{repository}", "path": "fn"}}
    digest = build.fetch(source).source_digest
    artifact = {"digest": "sha256:built", "size": 7}
    build.store.builds[build_key(json.dumps(salt), digest)] = {"artifact": artifact, "log": None}

    report = build.fetch(source, APPFN_BUILD_KEY_SALT=json.dumps(salt))

    assert report == Report(artifact=StoredFile(digest="sha256:built", size=7), cached=True, source_digest=digest)


def test_build_key_is_that_of_the_canonical_json() -> None:
    salt = '{ "image": "i", "entrypoint": "e" }'

    canonical = b'{"entrypoint":"e","image":"i","source":"sha256:s"}'
    assert build_key(salt, "sha256:s") == hashlib.sha256(canonical).hexdigest()


def test_missing_artifact_is_reported(build: Build) -> None:
    report = build.fetch({"artifact": {"digest": "sha256:absent"}})

    assert (report.reason, report.exit_code, report.artifact) == ("ArtifactUnavailable", 1, None)
    assert "sha256:absent" in report.message
    assert b"ArtifactUnavailable" in build.stored(report.log)


def test_archive_with_a_link_is_reported(build: Build) -> None:
    digest = build.store.put(zipped(header(b"l", kind=b"2", link=b"/etc/passwd")))

    report = build.fetch({"artifact": {"digest": digest}})

    assert report.reason == "InvalidArchive"
    assert "'l' is a symbolic link" in report.message


@pytest.mark.parametrize("mode", ["Import", "Exec"])
def test_missing_entrypoint_is_reported_with_what_there_is(build: Build, mode: str) -> None:
    report = build.fetch(APPFN_ENTRYPOINT="main.js", APPFN_LOAD_MODE=mode)

    assert report.reason == "EntrypointMissing"
    assert report.message == "there is no file 'main.js' in the code; at its top are: index.js, lib/"


@pytest.mark.parametrize("entrypoint", ["../index.js", "/index.js", "lib"])
def test_entrypoint_that_is_no_file_of_the_code_is_reported(build: Build, entrypoint: str) -> None:
    report = build.fetch(APPFN_ENTRYPOINT=entrypoint)

    assert report.reason == "EntrypointMissing"


def test_entrypoint_may_be_made_by_commands_of_the_deployment(build: Build) -> None:
    changes = {"APPFN_ENTRYPOINT": "dist/index.js", "APPFN_COMMANDS": "npm install && npm run build"}
    assert build.fetch(None, **changes).reason == ""
    build.built()
    assert build.upload(**changes).reason == "EntrypointMissing"

    (build.layout.code / "dist").mkdir()
    (build.layout.code / "dist" / "index.js").write_text("built")
    assert build.upload(**changes).artifact is not None


def test_built_code_and_the_whole_log_are_stored(build: Build) -> None:
    build.fetch()
    (build.layout.code / "node_modules").mkdir()
    (build.layout.code / "node_modules" / "dep.js").write_text("dep")
    build.built()

    report = build.upload()

    with tarfile.open(fileobj=io.BytesIO(build.stored(report.artifact))) as tar:
        assert sorted(tar.getnames()) == ["index.js", "lib", "lib/a.js", "node_modules", "node_modules/dep.js"]
    log = build.stored(report.log).decode().splitlines()
    assert log[0].startswith("Fetched source sha256:")
    assert log[1:3] == ["Unpacked 2 files", "installing"]
    assert log[3].startswith("Packed 3 files")
    assert (report.reason, report.exit_code) == ("", 0)


@pytest.mark.parametrize(
    ("exit_code", "message", "code"),
    [
        ("1", "the build command failed with exit code 1: npm ERR! no such package", 1),
        ("124", "the build command took too long and was stopped (exit code 124)", 124),
        ("137", "the build command was killed (exit code 137), most likely for lack of memory", 137),
        (None, "the build ended without a result; its container was probably stopped for lack of memory", 1),
    ],
)
def test_failed_build_is_reported_with_its_log(build: Build, exit_code: str | None, message: str, code: int) -> None:
    build.fetch()
    build.built(exit_code=exit_code, log="installing\nnpm ERR! no such package\n\n")

    report = build.upload()

    assert (report.reason, report.message, report.exit_code) == ("BuildFailed", message, code)
    assert b"npm ERR!" in build.stored(report.log)


def test_exec_build_hands_in_the_tarball_it_left(build: Build) -> None:
    build.fetch(APPFN_LOAD_MODE="Exec")
    build.layout.built_tarball.write_bytes(SOURCE)
    build.built()

    report = build.upload(APPFN_LOAD_MODE="Exec")

    assert build.stored(report.artifact) == SOURCE


def test_exec_build_that_left_nothing_is_reported(build: Build) -> None:
    build.fetch(APPFN_LOAD_MODE="Exec")
    build.built()

    assert build.upload(APPFN_LOAD_MODE="Exec").reason == "OutputMissing"


@pytest.mark.parametrize("content", [b"", b"text", SOURCE[:-9]], ids=["empty", "text", "cut off"])
def test_exec_build_that_left_no_whole_tarball_is_reported(build: Build, content: bytes) -> None:
    build.fetch(APPFN_LOAD_MODE="Exec")
    build.layout.built_tarball.write_bytes(content)
    build.built()

    assert build.upload(APPFN_LOAD_MODE="Exec").reason == "OutputInvalid"


def test_store_that_refuses_the_artifact_is_reported(build: Build) -> None:
    build.fetch()
    build.built()
    build.store.full = True

    report = build.upload()

    assert report.reason == "UploadFailed"
    assert "too large" in report.message
    assert report.log is None


def secret_outside(build: Build) -> Path:
    secret = build.layout.root.parent / "secret"
    secret.write_text("the agent's token")
    return secret


def assert_not_leaked(build: Build, report: Report) -> None:
    assert not any(b"token" in data for data in build.store.artifacts.values())
    assert "token" not in report.message


@pytest.mark.parametrize("name", ["build.log", "exit-code"])
def test_link_that_a_build_left_in_place_of_our_files_is_not_followed(build: Build, name: str) -> None:
    build.fetch()
    build.built()
    (build.layout.root / name).unlink(missing_ok=True)
    (build.layout.root / name).symlink_to(secret_outside(build))

    assert_not_leaked(build, build.upload())


def test_fifo_that_a_build_left_in_place_of_its_log_does_not_block(build: Build) -> None:
    build.fetch()
    build.built()
    build.layout.build_log.unlink()
    os.mkfifo(build.layout.build_log)

    assert build.upload().artifact is not None


@pytest.mark.parametrize("mode", ["Import", "Exec"])
@pytest.mark.parametrize("place", ["file", "folder"])
def test_link_that_a_build_left_in_its_output_does_not_publish_secrets(build: Build, mode: str, place: str) -> None:
    build.fetch(APPFN_LOAD_MODE=mode)
    build.built()
    secret = secret_outside(build)
    if place == "folder":
        build.layout.code.rename(build.layout.root / "moved")
        build.layout.code.symlink_to(secret.parent)
    else:
        (build.layout.code / "code.tar.gz").symlink_to(secret)
        (build.layout.code / "index.js").unlink(missing_ok=True)
        (build.layout.code / "index.js").symlink_to(secret)

    report = build.upload(APPFN_LOAD_MODE=mode, APPFN_ENTRYPOINT="")

    assert report.reason in {"OutputInvalid", "OutputMissing"}
    assert_not_leaked(build, report)


def test_long_log_keeps_its_beginning_and_its_end(build: Build) -> None:
    build.fetch()
    build.built(log="first line\n" + "x" * (9 << 20) + "\nlast line\n")

    log = build.stored(build.upload().log)

    assert len(log) < (9 << 20)
    assert b"first line" in log
    assert b"last line" in log
    assert b"bytes are left out here" in log


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"APPFN_LOAD_MODE": "Copy"}, "'Copy' is not a valid LoadMode"),
        ({"APPFN_SOURCE": "{}"}, "names no known source"),
        ({"APPFN_SOURCE": "{"}, "JSONDecodeError"),
    ],
)
def test_environment_that_makes_no_sense_is_reported(build: Build, changes: dict[str, str], words: str) -> None:
    with pytest.raises(AgentError, match=words) as error:
        build.settings({}, **changes)

    assert error.value.reason is Reason.INTERNAL_ERROR


@pytest.mark.parametrize("text", ["x" * 10_000, "é" * 10_000, '"' * 10_000, "\n" * 10_000])
def test_termination_message_fits_kubernetes_limit(tmp_path: Path, text: str) -> None:
    path = tmp_path / "termination-log"

    Report(reason="BuildFailed", message=text, source_digest="sha256:" + "0" * 64).write(path)

    document = json.loads(path.read_bytes())
    assert path.stat().st_size <= 4096
    assert document["message"].endswith("…")
    assert document.keys() == {"artifact", "log", "exitCode", "reason", "message", "sourceDigest", "cached"}
