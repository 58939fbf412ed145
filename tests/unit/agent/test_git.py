"""Fetching from git, from a repository of this machine (`file:` is allowed here alone)."""

import os
import subprocess
from pathlib import Path

import pytest

from appfn.agent.build_settings import GitSource
from appfn.agent.failure import AgentError, Reason
from appfn.agent.git import PROTOCOLS, fetch_folder
from unit.agent.http_server import Reply, web
from unit.agent.patience import quick

LOCAL = ("file",)


def git(folder: Path, *arguments: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "functions" / "hello").mkdir(parents=True)
    (folder / "functions" / "hello" / "index.js").write_text("first")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    git(folder, "tag", "v1")
    (folder / "functions" / "hello" / "index.js").write_text("second")
    (folder / "link").symlink_to("functions")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "second")
    git(folder, "branch", "feature/x")
    return folder


def fetch(
    tmp_path: Path, url: str, *, ref: str = "HEAD", path: str = ".", protocols: tuple[str, ...] = LOCAL
) -> tuple[Path, list[str]]:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    lines: list[str] = []
    folder = fetch_folder(
        GitSource(url=url, ref=ref, path=path),
        workspace,
        say=lines.append,
        patience=quick(1.0),
        credentials=tmp_path / "credentials",
        protocols=protocols,
    )
    return folder, lines


def failure(tmp_path: Path, url: str, *, ref: str = "HEAD", path: str = ".", protocols: tuple[str, ...] = LOCAL) -> str:
    with pytest.raises(AgentError) as error:
        fetch(tmp_path, url, ref=ref, path=path, protocols=protocols)
    assert error.value.reason is Reason.SOURCE_UNAVAILABLE
    return error.value.message


@pytest.mark.parametrize(
    ("ref", "text"),
    [("HEAD", "second"), ("main", "second"), ("feature/x", "second"), ("v1", "first"), ("refs/tags/v1", "first")],
)
def test_branch_or_tag_is_checked_out(tmp_path: Path, repository: Path, ref: str, text: str) -> None:
    folder, lines = fetch(tmp_path, f"file://{repository}", ref=ref, path="functions/hello")

    assert (folder / "index.js").read_text() == text
    assert lines[0].startswith(f"Fetched file://{repository} at {ref} (commit ")


def test_full_commit_is_checked_out(tmp_path: Path, repository: Path) -> None:
    commit = git(repository, "rev-parse", "v1")

    folder, _ = fetch(tmp_path, f"file://{repository}", ref=commit)

    assert (folder / "functions/hello/index.js").read_text() == "first"
    assert not (folder / ".git").exists()


def test_ref_that_is_not_there_is_named(tmp_path: Path, repository: Path) -> None:
    message = failure(tmp_path, f"file://{repository}", ref="absent")

    assert "has no branch, tag or commit 'absent'" in message


@pytest.mark.parametrize("ref", ["--upload-pack=touch x", "main:refs/heads/x", "+main", "", "a b", "a^"])
def test_ref_that_is_something_else_to_git_is_refused(tmp_path: Path, repository: Path, ref: str) -> None:
    assert "spec.source.git.ref" in failure(tmp_path, f"file://{repository}", ref=ref)


def test_folder_that_is_not_there_is_named_with_what_is(tmp_path: Path, repository: Path) -> None:
    message = failure(tmp_path, f"file://{repository}", path="functions/absent")

    assert message == "the repository has no folder 'functions/absent' at HEAD; at its top are: functions, link"


@pytest.mark.parametrize("path", ["..", "functions/../../x", "/etc", "link/hello", "functions/hello/index.js"])
def test_folder_outside_or_behind_a_link_is_refused(tmp_path: Path, repository: Path, path: str) -> None:
    assert "has no folder" in failure(tmp_path, f"file://{repository}", path=path)


@pytest.mark.parametrize("url", ["file:///tmp/x", "/tmp/x", "ext::sh -c id", "git://host/x", "http://127.0.0.1:9/x"])
def test_transports_that_are_not_for_production_are_refused(tmp_path: Path, url: str) -> None:
    assert "only https, ssh can be fetched" in failure(tmp_path, url, protocols=PROTOCOLS)


def test_url_that_looks_like_an_option_is_none(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    assert "cannot be fetched" in failure(tmp_path, f"--upload-pack=touch {marker}", protocols=PROTOCOLS)
    assert not marker.exists()


def test_credentials_in_the_url_are_refused_and_not_shown(tmp_path: Path) -> None:
    message = failure(tmp_path, "https://user:hidden@example.com/x.git", protocols=PROTOCOLS)

    assert "secretRef" in message
    assert "hidden" not in message


def test_hooks_and_submodules_of_a_repository_are_left_alone(tmp_path: Path, repository: Path) -> None:
    marker = tmp_path / "ran"
    (repository / ".githooks").mkdir()
    hook = repository / ".githooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
    hook.chmod(0o755)
    (repository / ".gitattributes").write_text("* filter=evil\n")
    (repository / ".gitmodules").write_text(f'[submodule "s"]\n  path = s\n  url = file://{repository}\n')
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "third")

    folder, _ = fetch(tmp_path, f"file://{repository}")

    assert (folder / ".githooks").is_dir()
    assert not marker.exists()
    assert not (folder / "s").exists()


def test_refused_credentials_are_said_to_be_refused(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "username").write_text("name")
    (credentials / "password").write_text("hidden-password")
    challenge = Reply(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
    with web(lambda _: challenge) as server:
        message = failure(tmp_path, f"{server.url}/x.git", protocols=("http",))

    assert message == (
        f"{server.url}/x.git refuses the credentials, or wants some: check the Secret of spec.source.git.secretRef"
    )
    assert any("Authorization" in request.headers for request in server.requests)


def test_credentials_do_not_follow_a_redirect(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "username").write_text("name")
    (credentials / "password").write_text("hidden-password")
    challenge = Reply(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
    with (
        web(lambda _: challenge) as other,
        web(lambda r: Reply(status=302, headers={"Location": f"{other.url}{r.path}"})) as first,
    ):
        failure(tmp_path, f"{first.url}/x.git", protocols=("http",))

    assert not any("Authorization" in request.headers for request in other.requests)


def test_repository_that_is_not_there_is_named(tmp_path: Path) -> None:
    with web(lambda _: Reply(status=404)) as server:
        message = failure(tmp_path, f"{server.url}/x.git", protocols=("http",))

    assert message == f"{server.url}/x.git does not exist, or needs credentials (spec.source.git.secretRef)"
