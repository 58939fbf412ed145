"""The fast path on real pods: claims, refills, takeovers, and what happens when pools or pods give out."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from support.appwrite import Answer, Appwrite
from support.e2e import deployment, function
from support.kubectl import Json, Kubectl
from support.polling import wait_for

ECHO = "def main(req, res):\n    return res.send('{word}:' + req.payload)\n"
HANGS = """
import time

hanging = []


def main(req, res):
    if req.payload == "hang":
        hanging.append(req)
        time.sleep(60)
    return res.send(str(len(hanging)))
"""
NODE = "module.exports = async (req, res) => res.send('node:' + req.payload);\n"


def pool_pods(project: Kubectl, runtime: str) -> list[Json]:
    """Return the pods that can be claimed now."""
    pods = project.list("pods", "-l", f"appfn.dev/pool,appfn.dev/runtime={runtime}")
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"] and is_ready(pod)]


def is_ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def full(project: Kubectl, runtime: str) -> list[str]:
    """Return the names of a pool's pods once all it should have are ready."""
    size = json.loads(project("get", "runtime", runtime, "-o", "json"))["spec"]["pool"]

    def probe() -> list[Json] | None:
        pods = pool_pods(project, runtime)
        return pods if len(pods) == size else None

    return [pod["metadata"]["name"] for pod in wait_for(probe, within=90)]


def pods_of(project: Kubectl, name: str) -> list[Json]:
    pods = project.list("pods", "-l", f"appfn.dev/component=runtime,appfn.dev/function={name}")
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


@pytest.mark.parametrize(
    ("runtime", "file", "code"),
    [("node-20.0", "index.js", NODE), ("python-3.13", "main.py", ECHO.format(word="python"))],
)
def test_a_first_call_takes_a_warm_pod_and_the_pool_is_refilled(
    api: Appwrite, project: Kubectl, deploy: Callable[..., Json], runtime: str, file: str, code: str
) -> None:
    language = runtime.split("-", maxsplit=1)[0]
    name = f"fresh-{language}"
    deploy(name, {file: code}, runtime=runtime)
    before = full(project, runtime)

    answer = api.execute(name, data="first")

    assert (answer.status, answer.body["response"]) == (201, f"{language}:first"), answer
    assert "cold" in answer.headers["Server-Timing"]
    [used] = wait_for(lambda: pods_of(project, name), within=10)
    assert used["metadata"]["name"] in before
    assert "appfn.dev/pool" not in used["metadata"]["labels"]
    assert [owner["name"] for owner in used["metadata"]["ownerReferences"]] == [f"{name}-v1"]
    after = full(project, runtime)
    assert used["metadata"]["name"] not in after


@pytest.mark.parametrize(
    ("runtime", "file", "code"),
    [("node-20.0", "index.js", NODE), ("python-3.13", "main.py", ECHO.format(word="python"))],
)
def test_a_function_with_resources_of_its_own_is_answered_by_one_container_without_volumes(
    api: Appwrite, project: Kubectl, deploy: Callable[..., Json], runtime: str, file: str, code: str
) -> None:
    language = runtime.split("-", maxsplit=1)[0]
    name = f"own-{language}"
    # Little is requested: what is not would be as much as the limits, and the node has two processors.
    resources = {"requests": {"cpu": "60m", "memory": "72Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
    deploy(name, {file: code}, runtime=runtime, resources=resources)

    answer = api.execute(name, data="first")

    assert (answer.status, answer.body["response"]) == (201, f"{language}:first"), answer
    assert "cold" in answer.headers["Server-Timing"]
    [pod] = pods_of(project, name)
    [container] = pod["spec"]["containers"]
    assert "volumes" not in pod["spec"]
    assert "volumeMounts" not in container
    assert "initContainers" not in pod["spec"]
    [owner] = secret_of(project, container)["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Deployment", f"{name}-v1")


def secret_of(project: Kubectl, container: Json) -> Json:
    """Return the Secret that a container's token is from."""
    [source] = [item["valueFrom"] for item in container["env"] if item["name"] == "APPFN_ANNOUNCE_TOKEN"]
    return project.get("secret", source["secretKeyRef"]["name"])


def test_a_new_deployment_takes_over_under_load_without_a_failed_or_a_cold_call(
    api: Appwrite, project: Kubectl, deploy: Callable[..., Json]
) -> None:
    deploy("rolling", {"main.py": ECHO.format(word="one")}, scaling={"minReplicas": 1})
    wait_for(lambda: api.execute("rolling").body.get("response") == "one:", within=60)
    with under_load(api, "rolling") as answers:
        source = {"inline": {"files": {"main.py": ECHO.format(word="two")}}}
        project.apply(deployment("rolling", source, name="rolling-v2"))

        def taken_over() -> bool:
            return bool(answers) and answers[-1].body["response"] == "two:"

        wait_for(taken_over, within=90)

    assert {answer.status for answer in answers} == {201}
    words = [answer.body["response"] for answer in answers]
    assert set(words) == {"one:", "two:"}
    assert words == sorted(words), "there is no way back"
    assert [answer.headers["Server-Timing"] for answer in answers if "cold" in answer.headers["Server-Timing"]] == []
    project("delete", "fn", "rolling", "--wait=false")  # its pod would be kept


@contextmanager
def under_load(api: Appwrite, name: str) -> Iterator[list[Answer]]:
    """Call a function again and again; yield the answers as they come."""
    answers: list[Answer] = []
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            answers.append(api.execute(name))

    caller = threading.Thread(target=call)
    caller.start()
    try:
        yield answers
    finally:
        over.set()
        caller.join()


def test_a_call_whose_pod_is_killed_fails_by_name_and_the_next_one_works(
    api: Appwrite, project: Kubectl, deploy: Callable[..., Json]
) -> None:
    deploy("mortal", {"main.py": HANGS}, timeout=60)
    assert api.execute("mortal").body["response"] == "0"
    [pod] = wait_for(lambda: pods_of(project, "mortal"), within=10)

    with ThreadPoolExecutor(1) as executor:
        call = executor.submit(api.execute, "mortal", data="hang")
        wait_for(lambda: api.execute("mortal").body["response"] == "1", within=30)
        project("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force", "--wait=false")
        answer = call.result(timeout=60)

    assert answer.body["status"] == "failed"
    assert "was lost during the call" in answer.body["stderr"]
    assert "unknown" in answer.body["stderr"]
    assert api.execute("mortal").body["response"] == "0"


def test_a_burst_of_fifty_functions_empties_the_pools_and_all_answer(api: Appwrite, project: Kubectl) -> None:
    names = [f"burst-{number}" for number in range(50)]
    source = {"inline": {"files": {"main.py": ECHO.format(word="burst")}}}
    for name in names:  # one artifact serves all: the source is the same
        project.apply(function(name, scaling={"idleSeconds": 1}), deployment(name, source))
    for name in names:
        project.wait_condition("fn", name, "Ready=True", within=240)
    full(project, "python-3.13")

    with ThreadPoolExecutor(50) as executor:
        answers = list(executor.map(api.execute, names))

    assert {(answer.status, answer.body.get("response")) for answer in answers} == {(201, "burst:")}
    project("delete", "fn", *names, "--wait=false")
