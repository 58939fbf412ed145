"""Every command of the README works as pasted."""

import os
import re
import subprocess

import pytest

from support.e2e import ROOT
from support.kubectl import Kubectl, KubectlError

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def paste(script: str) -> str:
    """Run what a reader pastes into one shell; return what it prints."""
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "KUBECONFIG"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def pasted(admin: Kubectl) -> str:
    clear_away(admin)
    return paste("\n".join(BLOCKS))


def clear_away(admin: Kubectl) -> None:
    """Remove what an earlier run of the README left, as its names are fixed."""
    try:
        admin.within("demo")("delete", "fn/greet", "--ignore-not-found", "--wait")
    except KubectlError as error:
        assert "not found" in str(error)  # noqa: PT017 - the project need not exist yet


def test_make_up_ends_with_the_answers_the_readme_shows() -> None:
    said = paste("make up")

    for function in ("hello-node", "hello-python"):
        answer = said.split(f"{function} answered\n", 1)[1].splitlines()[0]
        assert '"message":"Hello from Appwrite!","payload":"from make up"' in answer
        assert f"{function} answered" in README


def test_the_first_function_by_hand_answers_by_resource_and_by_http(pasted: str) -> None:
    assert "Good morning, Ada!" in pasted
    assert '"responseBody":"Good morning, Grace!"' in pasted.replace('": "', '":"')


def test_every_make_target_of_the_readme_exists() -> None:
    listed = paste("make help")

    for target in set(re.findall(r"`make (\w+)`|^    make (\w+)$", README, flags=re.MULTILINE)):
        name = target[0] or target[1]
        assert name == "help" or f"make {name} " in listed


def test_the_columns_of_the_readme_are_the_short_names(admin: Kubectl) -> None:
    served = admin("api-resources", "--api-group=appfn.dev")

    for kind, short in re.findall(r"^\| (\w+) \| `(\w+)` \|", README, flags=re.MULTILINE):
        assert re.search(rf"\b{short}\b.*\b{kind}\b", served)
