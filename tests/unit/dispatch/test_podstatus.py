from typing import Any

import pytest

from appfn.dispatch.podstatus import is_ready, read_status


def a_body(status: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {"metadata": metadata, "status": status} if status is not None else {"metadata": metadata}


def container(state: dict[str, Any], *, name: str = "runtime") -> dict[str, Any]:
    return {"phase": "Pending", "containerStatuses": [{"name": name, "state": state}]}


def waiting(reason: str, message: str = "", *, name: str = "runtime") -> dict[str, Any]:
    return container({"waiting": {"reason": reason, "message": message}}, name=name)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (waiting("ImagePullBackOff", "no such image"), "container runtime: ImagePullBackOff: no such image"),
        (waiting("CreateContainerError", "bad"), "container runtime: CreateContainerError: bad"),
        (waiting("CrashLoopBackOff", name="agent"), "container agent: CrashLoopBackOff"),
        (waiting("ContainerCreating"), "its containers are being created"),
        ({"phase": "Running"}, ""),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1"}]},
            "Unschedulable: 0/1",
        ),
        ({"conditions": [{"type": "PodScheduled", "status": "True"}]}, ""),
    ],
)
def test_a_pod_that_is_not_up_says_why_but_may_still_come(status: dict[str, Any], says: str) -> None:
    seen = read_status(a_body(status))
    assert (seen.address, seen.waiting, seen.ended, seen.restarts) == ("", says, "", 0)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (a_body(waiting("InvalidImageName", "oh!")), "container runtime: InvalidImageName: oh!"),
        (a_body(waiting("ErrImageNeverPull", name="agent")), "container agent: ErrImageNeverPull"),
        (
            a_body(container({"terminated": {"reason": "OOMKilled", "exitCode": 137}})),
            "its container ended: OOMKilled (it used more memory than its limit)",
        ),
        (a_body(container({"terminated": {"exitCode": 3}})), "its container ended: Error (exit code 3)"),
        (a_body({"phase": "Failed", "reason": "Evicted", "message": "disk"}), "Evicted: disk"),
        (a_body({"phase": "Succeeded"}), "Succeeded"),
        (a_body({"phase": "Running"}, deletionTimestamp="2030-01-01T00:00:00Z"), "it was deleted"),
    ],
)
def test_a_pod_that_is_over_says_why(body: dict[str, Any], says: str) -> None:
    assert read_status(body).ended == says


def test_the_agents_own_end_is_not_the_pods() -> None:
    status = {"initContainerStatuses": [{"name": "agent", "state": {"terminated": {"exitCode": 1}}}]}
    assert read_status(a_body(status)).ended == ""


def test_what_the_kubelets_message_says_is_bounded_and_user_codes_is_not_quoted() -> None:
    assert len(read_status(a_body(waiting("ErrImagePull", "x" * 10_000))).waiting) < 500
    ended = read_status(a_body(container({"terminated": {"exitCode": 1, "message": "secret"}}))).ended
    assert "secret" not in ended


def test_the_address_is_taken_as_soon_as_it_shows() -> None:
    assert read_status(a_body({"podIP": "10.0.0.7"})).address == "10.0.0.7"
    assert read_status(a_body()).address == ""


def test_a_runtime_that_was_started_again_says_why() -> None:
    last = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    seen = read_status(a_body({"containerStatuses": [{"name": "runtime", "restartCount": 2, "lastState": last}]}))
    assert seen.restarts == 2
    assert "OOMKilled" in seen.last_end


@pytest.mark.parametrize(("status", "ready"), [("True", True), ("False", False), ("Unknown", False), (None, False)])
def test_a_pod_is_ready_by_its_condition(status: str | None, ready: bool) -> None:  # noqa: FBT001 - pytest passes it by name
    conditions = [{"type": "PodScheduled", "status": "True"}]
    conditions += [{"type": "Ready", "status": status}] if status else []
    assert is_ready(a_body({"conditions": conditions})) is ready
