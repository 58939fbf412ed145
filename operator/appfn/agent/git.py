"""Fetching a folder of a git repository, without running anything that the repository brings."""

import os
import shutil
import stat
import subprocess
import tempfile
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appfn.agent.build_settings import GitSource
from appfn.agent.certificates import merged_bundle
from appfn.agent.download import public_url
from appfn.agent.failure import AgentError, Reason
from appfn.agent.retry import Patience

CREDENTIALS = Path("/etc/appfn-git")
PROTOCOLS = ("https", "ssh")
"""A redirect is held to them too: a commit proves nothing where its name was read from an open wire."""
COMMAND_SECONDS = 600.0
_SAFE_CONFIGURATION = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "submodule.recurse=false",
    "credential.helper=",
    "advice.detachedHead=false",
    "init.defaultBranch=main",
    "gc.auto=0",
)
_REFUSED = (
    "authentication failed",
    "could not read username",
    "could not read password",
    "permission denied",
    "returned error: 401",
    "returned error: 403",
    "access denied",
    "http basic: access denied",
)
_NOT_THERE = ("repository not found", "does not appear to be a git repository", "returned error: 404", "not found")
_NO_REF = ("couldn't find remote ref", "not our ref", "no such remote ref", "unadvertised object")
_ASKPASS = """#!/bin/sh
case "$1" in
  Username*) cat "$APPFN_GIT_CREDENTIALS/username" ;;
  *) cat "$APPFN_GIT_CREDENTIALS/password" ;;
esac
"""


def fetch_folder(
    source: GitSource,
    workspace: Path,
    *,
    say: Callable[[str], None],
    patience: Patience,
    credentials: Path = CREDENTIALS,
    protocols: Sequence[str] = PROTOCOLS,
) -> Path:
    """Check out the source below `workspace` (an empty folder) and return the folder that holds the code.

    Raises:
        AgentError: SourceUnavailable, saying whether repository, ref, folder or credentials are at fault.
    """
    _check(source)
    repository = workspace / "repository"
    with tempfile.TemporaryDirectory(dir=workspace) as private:
        git = _Git(repository, _environment(Path(private), credentials, protocols))
        try:
            git.run("init", "--quiet", str(repository))
            _fetch(git, source, patience)
            git.run("checkout", "--quiet", "--force", "FETCH_HEAD")
            commit = git.run("rev-parse", "HEAD").strip()
        except _GitError as error:
            message = f"{_shown(source.url)} cannot be checked out: {_last_line(error.output, source)}"
            raise AgentError(Reason.SOURCE_UNAVAILABLE, message) from error
    shutil.rmtree(repository / ".git")
    say(f"Fetched {_shown(source.url)} at {source.ref} (commit {commit})")
    return _folder(repository, source)


def _check(source: GitSource) -> None:
    parts = urllib.parse.urlsplit(source.url)
    if parts.password or (parts.scheme in {"http", "https"} and parts.username):
        message = "spec.source.git.url has a user or password in it; put them in a Secret and name it in secretRef"
        raise AgentError(Reason.SOURCE_UNAVAILABLE, message)
    if not source.ref or source.ref.startswith(("-", "+")) or any(c in " :^~?*[\\" or c < " " for c in source.ref):
        message = f"spec.source.git.ref {source.ref!r} is no name of a branch or tag, and no commit"
        raise AgentError(Reason.SOURCE_UNAVAILABLE, message)


def _fetch(git: "_Git", source: GitSource, patience: Patience) -> None:
    for _ in patience.attempts():
        try:
            git.run(
                "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", source.url, source.ref
            )
        except _GitError as error:
            output = error.output
        else:
            return
        if (message := _explain(output, source)) is not None:
            raise AgentError(Reason.SOURCE_UNAVAILABLE, message)
    message = f"{_shown(source.url)} cannot be fetched: {_last_line(output, source)}"
    raise AgentError(Reason.SOURCE_UNAVAILABLE, message)


def _explain(output: str, source: GitSource) -> str | None:
    """Return what a person has to mend, or None where another attempt may succeed."""
    lower, shown = output.lower(), _shown(source.url)
    if any(phrase in lower for phrase in _NO_REF):
        return f"{shown} has no branch, tag or commit '{source.ref}' (a commit needs all 40 digits)"
    if "not allowed" in lower and "transport" in lower:
        return f"{shown}: only {', '.join(PROTOCOLS)} can be fetched"
    if any(phrase in lower for phrase in _REFUSED):
        return f"{shown} refuses the credentials, or wants some: check the Secret of spec.source.git.secretRef"
    if any(phrase in lower for phrase in _NOT_THERE):
        return f"{shown} does not exist, or needs credentials (spec.source.git.secretRef)"
    return None


def _last_line(output: str, source: GitSource) -> str:
    lines = [line for line in output.replace(source.url, _shown(source.url)).splitlines() if line.strip()]
    return lines[-1] if lines else "git said nothing"


def _shown(url: str) -> str:
    return public_url(url) if "://" in url else url


def _folder(repository: Path, source: GitSource) -> Path:
    folder = repository
    for part in Path(source.path).parts:
        folder = folder / part
        if part in {"..", "/"} or not _is_real_folder(folder):
            top = ", ".join(sorted(path.name for path in repository.iterdir())[:20])
            message = f"the repository has no folder '{source.path}' at {source.ref}; at its top are: {top}"
            raise AgentError(Reason.SOURCE_UNAVAILABLE, message)
    return folder


def _is_real_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _environment(private: Path, credentials: Path, protocols: Sequence[str]) -> dict[str, str]:
    """Return git's whole environment: no configuration but ours, no questions, nothing to find in our home."""
    environment = {
        **{key: value for key, value in os.environ.items() if key.lower().endswith("_proxy") or key == "PATH"},
        "HOME": str(private),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": ":".join(protocols),
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_SSH_COMMAND": _ssh_command(private, credentials),
    }
    if bundle := merged_bundle(private / "ca.crt"):
        environment["GIT_SSL_CAINFO"] = str(bundle)
    if (credentials / "password").is_file():
        askpass = private / "askpass"
        askpass.write_text(_ASKPASS)
        askpass.chmod(0o700)
        environment["GIT_ASKPASS"] = str(askpass)
        environment["APPFN_GIT_CREDENTIALS"] = str(credentials)
        # a server that redirects would be asked for, and given, the same password
        environment |= {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "http.followRedirects",
            "GIT_CONFIG_VALUE_0": "false",
        }
    return environment


def _ssh_command(private: Path, credentials: Path) -> str:
    options = ["ssh", "-F", "/dev/null", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30"]
    known_hosts = credentials / "known_hosts"
    if known_hosts.is_file():
        options += ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={known_hosts}"]
    else:
        options += ["-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={private}/known_hosts"]
    key = credentials / "ssh-privatekey"
    if key.is_file():
        copy = private / "key"  # ssh refuses the mode that Secrets are mounted with
        copy.touch(mode=0o600)
        copy.write_bytes(key.read_bytes().rstrip() + b"\n")
        options += ["-i", str(copy), "-o", "IdentitiesOnly=yes"]
    return " ".join(options)


class _GitError(Exception):
    """A git command failed; `output` is what it printed."""

    def __init__(self, output: str) -> None:
        super().__init__(output)
        self.output = output


@dataclass(frozen=True, slots=True)
class _Git:
    repository: Path
    environment: dict[str, str]

    def run(self, command: str, *arguments: str) -> str:
        """Run a git command in the repository and return its standard output."""
        configuration = [part for setting in _SAFE_CONFIGURATION for part in ("-c", setting)]
        folder = [] if command == "init" else ["-C", str(self.repository)]
        try:
            done = subprocess.run(
                ["git", *configuration, *folder, command, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _GitError(f"git {command} took longer than {COMMAND_SECONDS:g} s") from error
        if done.returncode:
            raise _GitError(done.stderr)
        return done.stdout
