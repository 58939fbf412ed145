"""What a Job and its pod say, in every state they can be in."""

import json
from typing import Any

import pytest

from appfn import names
from appfn.api.base import Json
from appfn.core.build_progress import JobState, Progress, progress
from appfn.core.problem import BuildReason
from support.objects import DIGEST, NOW, ago, container, job, pod

ARTIFACT = {"digest": DIGEST, "size": 3}


def report(**fields: Any) -> str:
    return json.dumps({"artifact": None, "log": None, "exitCode": 0, "reason": "", "message": "", **fields})


def ended(name: str, *, code: int = 0, message: str = "", reason: str = "") -> Json:
    return container(name, terminated={"exitCode": code, "message": message, "reason": reason, "finishedAt": ago(30)})


def waiting(name: str, reason: str, message: str = "") -> Json:
    return container(name, waiting={"reason": reason, "message": message})


def look(*pods: Json, job_body: Json | None = None, notes: tuple[str, ...] = ()) -> Progress:
    return progress(job_body or job(), pods, notes=notes, now=NOW)


def failed_job(reason: str) -> Json:
    return job(conditions=[{"type": "Failed", "status": "True", "reason": reason}])


def test_a_job_without_a_pod_is_pending_and_looked_at_again() -> None:
    seen = look()

    assert seen.state is JobState.PENDING
    assert seen.look_again is not None


def test_a_pod_that_is_refused_says_why_and_what_to_do() -> None:
    seen = look(notes=("old", 'pods "x" is forbidden: exceeded quota: small'))

    assert (seen.state, seen.reason) == (JobState.PENDING, BuildReason.FORBIDDEN)
    assert "exceeded quota: small" in seen.message
    assert "manifests/project" in seen.message


def test_a_pod_without_a_node_says_what_the_scheduler_said() -> None:
    condition = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient memory"}

    seen = look(pod(conditions=[condition]))

    assert (seen.state, seen.reason) == (JobState.PENDING, BuildReason.UNSCHEDULABLE)
    assert "Insufficient memory" in seen.message


def running(name: str, *, since: float = 1) -> Json:
    return container(name, running={"startedAt": ago(since)})


def built(agent: Json, *, build: Json | None = None, **status: Any) -> Json:
    """Return a pod whose build command's container ended well, unless another one is given."""
    return pod(containerStatuses=[agent, ended("build") if build is None else build], **status)


@pytest.mark.parametrize("name", ["agent", "build"])
def test_a_started_container_means_building(name: str) -> None:
    seen = look(pod(containerStatuses=[running(name)]))

    assert seen.state is JobState.RUNNING


def test_the_report_of_a_good_build_is_the_result_before_the_job_knows() -> None:
    agent = ended("agent", message=report(artifact=ARTIFACT, log=ARTIFACT, sourceDigest=DIGEST))

    seen = look(built(agent, phase="Running"))

    assert seen.state is JobState.SUCCEEDED
    assert seen.report is not None
    assert seen.report.artifact is not None
    assert seen.report.artifact.digest == seen.report.source_digest == DIGEST


def test_a_build_is_over_when_its_agent_has_ended_whatever_the_kubelet_knows_of_the_command() -> None:
    agent = ended("agent", message=report(artifact=ARTIFACT))

    assert look(built(agent, build=running("build"))).state is JobState.SUCCEEDED


def annotated(body: Json, text: str) -> Json:
    body["metadata"]["annotations"] = {names.ANNOTATION_BUILD_REPORT: text}
    return body


def test_a_good_report_that_the_shim_wrote_on_the_pod_is_the_result_before_the_kubelet_knows() -> None:
    seen = look(annotated(built(running("agent"), build=running("build")), report(artifact=ARTIFACT)))

    assert seen.state is JobState.SUCCEEDED
    assert seen.report is not None
    assert seen.report.artifact is not None


@pytest.mark.parametrize("told", [report(reason="BuildFailed", artifact=ARTIFACT), report(), "junk", ""])
def test_on_the_pod_nothing_but_a_good_report_is_read(told: str) -> None:
    assert look(annotated(built(running("agent")), told)).state is JobState.RUNNING


def test_what_the_agent_ended_with_counts_more_than_what_is_written_on_the_pod() -> None:
    failed = built(ended("agent", code=1, message=report(reason="UploadFailed")))

    seen = look(annotated(failed, report(artifact=ARTIFACT)))

    assert (seen.state, seen.reason) == (JobState.FAILED, "UploadFailed")


def test_a_build_whose_command_ended_well_is_not_over() -> None:
    assert look(built(running("agent"))).state is JobState.RUNNING


@pytest.mark.parametrize("message", ["", "not json", "[]", "{}", report(), '{"artifact":{"digest":1}}'])
def test_a_good_end_without_a_report_fails_and_says_how_to_retry(message: str) -> None:
    seen = look(built(ended("agent", message=message)))

    assert (seen.state, seen.reason) == (JobState.FAILED, BuildReason.REPORT_MISSING)
    assert "appfn.dev/retry" in seen.message


ELSEWHERE = "../../changes?after=0&"
"""What a client would take for another address, if it came to be part of one."""


@pytest.mark.parametrize(
    "forged",
    [{"digest": ELSEWHERE, "size": 3}, {"digest": f"{DIGEST}/..", "size": 3}, {"digest": DIGEST, "size": -1}],
)
@pytest.mark.parametrize("file", ["artifact", "log"])
def test_a_report_with_a_forged_file_is_not_believed(file: str, forged: Json) -> None:
    message = report(**{"artifact": ARTIFACT, "log": ARTIFACT, file: forged})

    seen = look(built(ended("agent", message=message)))

    assert (seen.state, seen.reason, seen.report) == (JobState.FAILED, BuildReason.REPORT_MISSING, None)


FORGED = [
    report(artifact=ARTIFACT, log=ARTIFACT, sourceDigest=DIGEST),
    report(reason="not a reason!", message="forged", log=ARTIFACT),
]


@pytest.mark.parametrize("told", FORGED, ids=["success", "failure"])
@pytest.mark.parametrize("code", [0, 1])
def test_a_users_command_can_not_speak_for_the_agent(told: str, code: int) -> None:
    forged = ended("build", code=code, message=told)

    under_way = look(built(running("agent"), build=forged, phase="Running"))
    over = look(built(ended("agent", code=1), build=forged, phase="Failed"))

    assert (under_way.state, under_way.report) == (JobState.RUNNING, None)
    assert (over.state, over.reason, over.report) == (JobState.FAILED, BuildReason.AGENT_FAILED, None)


def test_a_users_command_changes_nothing_of_what_the_agent_reported() -> None:
    told = report(artifact=ARTIFACT, sourceDigest=DIGEST)
    forged = report(artifact=ARTIFACT, sourceDigest="sha256:" + "f" * 64)

    seen = look(built(ended("agent", message=told), build=ended("build", message=forged)))

    assert seen.report is not None
    assert seen.report.source_digest == DIGEST


def test_a_failed_agent_speaks_for_itself() -> None:
    told = report(reason="DigestMismatch", message="the file has another sha256", exitCode=1)

    seen = look(built(ended("agent", code=1, message=told), phase="Failed"))

    assert (seen.state, seen.reason, seen.message) == (JobState.FAILED, "DigestMismatch", "the file has another sha256")
    assert not seen.stop


def test_a_job_whose_agent_failed_is_stopped_where_the_other_container_would_wait_for_ever() -> None:
    told = ended("agent", code=1, message=report(reason="DigestMismatch"))
    dead = ended("agent", code=137, reason="Error")

    assert look(built(told, build=waiting("build", "ImagePullBackOff"))).stop
    assert look(built(dead, build=running("build"))).stop
    assert not look(built(told, build=running("build"))).stop
    assert not look(built(dead)).stop


def test_an_agent_without_words_is_named_with_its_exit_code() -> None:
    seen = look(built(ended("agent", code=137, reason="Error", message="Traceback …")))

    assert (seen.state, seen.reason) == (JobState.FAILED, BuildReason.AGENT_FAILED)
    assert seen.message == "the container agent ended with exit code 137: Traceback …"


@pytest.mark.parametrize("told", [report(reason="BuildFailed", log=ARTIFACT), ""], ids=["reported", "unreported"])
def test_too_much_memory_is_told_with_the_remedy(told: str) -> None:
    killed = ended("build", code=137, reason="OOMKilled")

    seen = look(built(ended("agent", code=1, message=told), build=killed))

    assert (seen.state, seen.reason) == (JobState.FAILED, BuildReason.OUT_OF_MEMORY)
    assert "APPFN_BUILD_MEMORY" in seen.message
    assert (seen.report is not None) == bool(told)


def test_a_command_that_survived_a_lack_of_memory_is_judged_by_its_result() -> None:
    survived = ended("build", reason="OOMKilled")

    good = look(built(ended("agent", message=report(artifact=ARTIFACT)), build=survived))
    other = look(built(ended("agent", code=1, message=report(reason="EntrypointMissing")), build=survived))

    assert good.state is JobState.SUCCEEDED
    assert other.reason == "EntrypointMissing"


def test_a_container_that_failed_is_told_of_by_the_agent_and_given_up_after_a_minute() -> None:
    def killed(seconds: float) -> Json:
        state = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": ago(seconds)}
        return built(running("agent"), build=container("build", terminated=state))

    patient, over = look(killed(59)), look(killed(60))

    assert (patient.state, patient.look_again) == (JobState.RUNNING, 2)
    assert (over.state, over.reason, over.stop) == (JobState.FAILED, BuildReason.OUT_OF_MEMORY, True)


def test_a_command_whose_shell_is_missing_fails_at_once() -> None:
    missing = ended("build", code=128, reason="StartError", message='exec: "sh": not found')

    seen = look(built(running("agent"), build=missing))

    assert (seen.state, seen.reason, seen.stop) == (JobState.FAILED, BuildReason.AGENT_FAILED, True)
    assert 'exec: "sh": not found' in seen.message


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("ErrImagePull", BuildReason.IMAGE_PULL_FAILED),
        ("ImagePullBackOff", BuildReason.IMAGE_PULL_FAILED),
        ("InvalidImageName", BuildReason.IMAGE_PULL_FAILED),
        ("CreateContainerConfigError", BuildReason.CONTAINER_START_FAILED),
    ],
)
def test_a_container_that_cannot_start_is_given_a_minute_and_then_given_up(reason: str, expected: str) -> None:
    stuck = [running("agent", since=60), waiting("build", reason, 'secret "db" not found')]

    patient = look(pod(containerStatuses=stuck, startTime=ago(59)))
    over = look(pod(containerStatuses=stuck, startTime=ago(60)))

    assert (patient.state, patient.reason, patient.stop) == (JobState.PENDING, expected, False)
    assert patient.look_again == 2
    assert (over.state, over.reason, over.stop) == (JobState.FAILED, expected, True)
    assert 'secret "db" not found' in over.message


def test_a_container_is_given_its_minute_from_the_start_of_the_one_before() -> None:
    states = [running("agent", since=59), waiting("build", "ErrImagePull")]

    assert look(pod(containerStatuses=states, startTime=ago(600))).state is JobState.PENDING


def test_being_created_is_not_being_stuck() -> None:
    states = [waiting("agent", "ContainerCreating"), waiting("build", "ContainerCreating")]

    assert look(pod(containerStatuses=states, startTime=ago(600))).state is JobState.PENDING


def test_a_drained_pod_is_replaced_and_does_not_fail_the_build() -> None:
    drained = pod("old", phase="Failed", conditions=[{"type": "DisruptionTarget", "status": "True"}])
    fresh = pod("new", containerStatuses=[running("agent")])

    assert look(drained).state is JobState.PENDING
    assert look(drained, fresh).pod == "new"


def test_an_evicted_pod_says_what_the_node_said() -> None:
    seen = look(pod(phase="Failed", reason="Evicted", message="the node was low on resource: ephemeral-storage"))

    assert (seen.state, seen.reason) == (JobState.FAILED, "Evicted")
    assert "ephemeral-storage" in seen.message


def test_the_deadline_is_told_with_the_remedy_even_when_the_pod_is_gone() -> None:
    seen = look(job_body=failed_job("DeadlineExceeded"))

    assert (seen.state, seen.reason) == (JobState.FAILED, BuildReason.DEADLINE_EXCEEDED)
    assert "960 s" in seen.message


@pytest.mark.parametrize("condition", ["FailureTarget", "Failed"])
def test_a_pod_ended_by_the_deadline_is_not_taken_for_one_that_failed(condition: str) -> None:
    late = job(conditions=[{"type": condition, "status": "True", "reason": "DeadlineExceeded"}])
    killed = built(ended("agent", code=137), build=ended("build", code=137), phase="Failed")

    seen = look(killed, job_body=late)

    assert (seen.state, seen.reason) == (JobState.FAILED, BuildReason.DEADLINE_EXCEEDED)


def test_a_result_that_is_in_counts_more_than_a_deadline_that_came_after_it() -> None:
    done = built(ended("agent", message=report(artifact=ARTIFACT)))

    assert look(done, job_body=failed_job("DeadlineExceeded")).state is JobState.SUCCEEDED


@pytest.mark.parametrize("kind", ["Failed", "Complete"])
def test_a_job_that_ended_without_a_pod_to_ask_lost_its_pod(kind: str) -> None:
    seen = look(job_body=job(conditions=[{"type": kind, "status": "True", "reason": "BackoffLimitExceeded"}]))

    assert (seen.state, seen.reason) == (JobState.FAILED, BuildReason.POD_LOST)


def test_a_job_being_deleted_is_waited_for() -> None:
    leaving = job()
    leaving["metadata"]["deletionTimestamp"] = ago(1)

    seen = look(pod(phase="Failed"), job_body=leaving)

    assert seen.state is JobState.PENDING
    assert seen.look_again is not None
