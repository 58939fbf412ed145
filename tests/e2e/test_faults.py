"""Killed at any moment, nothing that was accepted is lost and nothing runs twice."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.appwrite import Answer, Appwrite
from support.e2e import deployment, finished, function
from support.kubectl import Json, Kubectl
from support.ledger import read_ledger, start_ledger
from support.polling import wait_for

BURST = 200

TELLING = """
import os
import urllib.request


def main(req, res):
    urllib.request.urlopen(os.environ["LEDGER"] + req.payload, timeout=10).read()
    return res.send(req.payload)
"""


def kill(system: Kubectl, app: str) -> None:
    """SIGKILL without grace, as a node's death would."""
    system("delete", "pod", "-l", f"app.kubernetes.io/name=appfn-{app}", "--grace-period=0", "--force", "--wait=false")


@pytest.fixture(scope="module")
def telling(project: Kubectl, deploy: Callable[..., Json]) -> str:
    url = start_ledger(project)
    deploy("telling", {"main.py": TELLING}, variables=[{"name": "LEDGER", "value": url}], timeout=30)
    return "telling"


def test_a_burst_survives_the_death_of_shim_and_operator(
    api: Appwrite, project: Kubectl, system: Kubectl, telling: str
) -> None:
    assert api.execute(telling, data="warm").body["status"] == "completed"
    accepted: dict[str, str] = {}

    def submit(number: int) -> None:
        word = f"n{number}"

        def accept() -> Answer | None:
            try:
                answer = api.execute(telling, data=word, asynchronous=True, Idempotency_Key=f"burst-{number}")
            except OSError:
                return None
            return answer if answer.status == 202 else None

        accepted[word] = wait_for(accept, within=120).body["$id"]

    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(submit, range(BURST // 2)))
        kill(system, "operator")
        kill(system, "shim")
        rest = list(pool.map(submit, range(BURST // 2, BURST)))
    assert len(first) + len(rest) == len(accepted) == BURST

    ends = {word: finished(api, telling, execution, within=180) for word, execution in accepted.items()}
    told = read_ledger(project)

    assert {end["status"] for end in ends.values()} <= {"completed", "failed"}
    assert [word for word, times in told.items() if times > 1] == []
    lost = {word: end for word, end in ends.items() if end["status"] == "failed"}
    # What ExecutorLost reads like in this response format, which shows no reasons.
    assert [end["stderr"] for end in lost.values() if "is unknown" not in end["stderr"]] == []
    assert set(told) - {"warm"} >= {word for word, end in ends.items() if end["status"] == "completed"}


def test_a_build_survives_the_death_of_the_operator(project: Kubectl, system: Kubectl) -> None:
    files = {"main.py": "def main(req, res):\n    return res.send('ok')\n"}
    project.apply(
        function("survivor"),
        deployment("survivor", {"inline": {"files": files}}, commands="sleep 6; echo built"),
    )

    def building() -> bool:
        status = project.get("fdep", "survivor-v1").get("status", {})
        return bool(status.get("phase") == "building")

    wait_for(building, within=30)
    kill(system, "operator")

    project.wait_condition("fn", "survivor", "Ready=True", within=120)
    assert len(project.list("jobs", "-l", "appfn.dev/deployment=survivor-v1")) == 1
