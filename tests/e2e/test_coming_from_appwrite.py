"""Every snippet of docs/coming-from-appwrite.md works as it stands there, with the releases it names."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from support.clients.released import ALL, Kind, install
from support.e2e import ROOT
from support.kubectl import Kubectl

PAGE = (ROOT / "docs" / "coming-from-appwrite.md").read_text()
BLOCK = re.compile(r"^```(\w+)(?: ([^\n]+))?\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def pasted(admin: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the page's commands print, pasted one after the other into one shell beside the page's files."""
    admin("delete", "namespace", "shop", "--ignore-not-found", timeout=120)
    folder = tmp_path_factory.mktemp("page")
    script = ["trap 'kill $(jobs -p)' EXIT"]
    for language, about, text in BLOCK.findall(PAGE):
        if language == "sh":
            script.append(f"use {about}\n{text}" if about else text)
        else:
            (folder / about).parent.mkdir(parents=True, exist_ok=True)
            (folder / about).write_text(text)
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", "\n".join([programs(folder), *script])],
        cwd=folder,
        env=environment(admin, folder),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def programs(folder: Path) -> str:
    """Return a shell function that chooses a release of the CLI."""
    cases = [
        f'{release.folder.name}) PATH="{install(release)}/node_modules/.bin:$PATH" ;;'
        for release in ALL
        if release.kind is Kind.CLI
    ]
    return "use() { case $1 in\n" + "\n".join(cases) + "\nesac; }"


def environment(admin: Kubectl, folder: Path) -> dict[str, str]:
    """Return what the reader has: the cluster, the SDKs installed, and a home without settings of the CLI."""
    newest = {release.kind: install(release) for release in ALL}
    return {
        "HOME": str(folder),
        "PATH": f"{Path(admin.program).parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(admin.kubeconfig),
        "APPFN": str(ROOT),
        "NODE_PATH": str(newest[Kind.NODE] / "node_modules"),
        "PYTHONPATH": str(newest[Kind.PYTHON] / "packages"),
    }


@pytest.mark.parametrize(
    "said",
    [
        "Good morning, Ada!",
        "Good evening, Grace!",
        "Good morning, Lin! greeting Lin",
        "Good morning, Mary! greeting Mary",
        "function.appfn.dev/greet-again",
        "let the API win in future",
        "by-git may take 30 s",
    ],
)
def test_the_page_on_coming_from_appwrite_works_as_pasted(pasted: str, said: str) -> None:
    assert said in pasted
