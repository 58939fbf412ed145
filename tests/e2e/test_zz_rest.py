"""At the end: deletion leaves nothing, and a system at rest is silent. Runs last, when nothing else is under way."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from support.kubectl import Json, Kubectl
from support.polling import wait_for

CODE = "def main(req, res):\n    return res.send('ok')\n"
REST_SECONDS = 60


def test_deleting_a_function_removes_all_that_it_made(project: Kubectl, deploy: Callable[..., Json]) -> None:
    deploy("short-lived", {"main.py": CODE}, schedule="0 5 * * *", scaling={"minReplicas": 1})
    selector = ("-l", "appfn.dev/function=short-lived")
    wait_for(
        lambda: project.list("pods", *selector, "-l", "appfn.dev/component=runtime,appfn.dev/function=short-lived"),
        within=30,
    )

    project("delete", "fn", "short-lived")

    for kind in ("jobs", "cronjobs", "pods", "fdep"):
        wait_for(lambda kind=kind: not owned(project, kind, "short-lived"), within=60)  # type: ignore[misc]


def owned(project: Kubectl, kind: str, function: str) -> list[Json]:
    def belongs(item: Json) -> bool:
        labelled = item["metadata"].get("labels", {}).get("appfn.dev/function") == function
        referring = item.get("spec", {}).get("functionRef", {}).get("name") == function
        return bool(labelled or referring)

    return [item for item in project.list(kind) if belongs(item)]


def test_a_system_at_rest_writes_nothing(project: Kubectl) -> None:
    if "APPFN_E2E_AUDIT_LOG" not in os.environ:
        pytest.skip("this cluster's audit log is not ours to read")
    audit = Path(os.environ["APPFN_E2E_AUDIT_LOG"])
    wait_for(lambda: not idle_pods(project), within=180)
    quiet(audit)

    begun = audit.stat().st_size
    threading.Event().wait(REST_SECONDS)

    assert writes(audit, begun) == []


def idle_pods(project: Kubectl) -> list[Json]:
    """Return the pods of all projects that run code: without work they are removed after `idleSeconds`; pools stay."""
    return project.list("pods", "--all-namespaces", "-l", "appfn.dev/component=runtime,!appfn.dev/pool")


def quiet(audit: Path) -> None:
    """Wait until what the other tests left behind has settled: ten seconds without a write."""

    def settled() -> bool:
        begun = audit.stat().st_size
        threading.Event().wait(10)
        return not writes(audit, begun)

    wait_for(settled, within=180)


def writes(audit: Path, offset: int) -> list[str]:
    """Return the writes of operator and shim since `offset`; renewing a Lease is how a leader lives, not a write."""
    with audit.open() as log:
        log.seek(offset)
        events = [json.loads(line) for line in log if line.endswith("\n")]
    return [
        f"{event['user']['username']} {event['verb']} {event['requestURI']}"
        for event in events
        if event["user"]["username"].startswith("system:serviceaccount:appfn-system:")
        and event["verb"] in {"create", "update", "patch", "delete", "deletecollection"}
        and event.get("objectRef", {}).get("resource") not in {"leases", "tokenreviews", "subjectaccessreviews"}
        and event["stage"] == "ResponseComplete"
    ]
