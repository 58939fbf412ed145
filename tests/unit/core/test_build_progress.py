"""What a Job and its pod say, in every state they can be in."""

import json
from typing import Any

import pytest

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


@pytest.mark.parametrize("step", ["fetch", "build"])
def test_a_started_container_means_building(step: str) -> None:
    seen = look(pod(initContainerStatuses=[container(step, running={"startedAt": ago(1)})]))

    assert seen.state is JobState.RUNNING


def test_the_report_of_a_good_upload_is_the_result_before_the_job_knows() -> None:
    steps = [ended("fetch"), ended("build")]
    upload = ended("upload", message=report(artifact=ARTIFACT, log=ARTIFACT, sourceDigest=DIGEST))

    seen = look(pod(initContainerStatuses=steps, containerStatuses=[upload], phase="Running"))

    assert seen.state is JobState.SUCCEEDED
    assert seen.report is not None
    assert seen.report.artifact is not None
    assert seen.report.artifact.digest == DIGEST


@pytest.mark.parametrize("message", ["", "not json", "[]", "{}", report(), '{"artifact":{"digest":1}}'])
def test_a_good_upload_without_a_report_fails_and_says_how_to_retry(message: str) -> None:
    seen = look(
        pod(
            initContainerStatuses=[ended("fetch"), ended("build")], containerStatuses=[ended("upload", message=message)]
        )
    )

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
    steps = [ended("fetch"), ended("build")]

    seen = look(pod(initContainerStatuses=steps, containerStatuses=[ended("upload", message=message)]))

    assert (seen.state, seen.reason, seen.report) == (JobState.FAILED, BuildReason.REPORT_MISSING, None)


def test_the_digest_of_the_source_is_what_was_fetched_before_the_users_commands_ran() -> None:
    steps = [ended("fetch", message=report(sourceDigest=DIGEST)), ended("build")]
    upload = ended("upload", message=report(artifact=ARTIFACT, sourceDigest="sha256:" + "f" * 64))

    seen = look(pod(initContainerStatuses=steps, containerStatuses=[upload]))

    assert seen.report is not None
    assert seen.report.source_digest == DIGEST


def test_a_users_command_can_not_speak_as_a_step_of_ours() -> None:
    told = report(reason="not a reason!", message="forged", log=ARTIFACT)

    seen = look(pod(initContainerStatuses=[ended("fetch"), ended("build", code=1, message=told)], phase="Failed"))

    assert (seen.state, seen.reason, seen.report) == (JobState.FAILED, BuildReason.AGENT_FAILED, None)


def test_a_failed_step_speaks_for_itself() -> None:
    told = report(reason="DigestMismatch", message="the file has another sha256", exitCode=1)

    seen = look(pod(initContainerStatuses=[ended("fetch", code=1, message=told)], phase="Failed"))

    assert (seen.state, seen.reason, seen.message) == (JobState.FAILED, "DigestMismatch", "the file has another sha256")


def test_a_step_without_words_is_named_with_its_exit_code() -> None:
    seen = look(pod(initContainerStatuses=[ended("fetch", code=137, reason="Error", message="Traceback …")]))

    assert (seen.state, seen.reason) == (JobState.FAILED, BuildReason.AGENT_FAILED)
    assert seen.message == "the fetch step ended with exit code 137: Traceback …"


def test_too_much_memory_is_told_with_the_remedy() -> None:
    seen = look(pod(initContainerStatuses=[ended("fetch"), ended("build", code=137, reason="OOMKilled")]))

    assert (seen.state, seen.reason) == (JobState.FAILED, BuildReason.OUT_OF_MEMORY)
    assert "APPFN_BUILD_MEMORY" in seen.message


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
    stuck = [waiting("fetch", reason, 'secret "db" not found')]

    patient = look(pod(initContainerStatuses=stuck, startTime=ago(59)))
    over = look(pod(initContainerStatuses=stuck, startTime=ago(60)))

    assert (patient.state, patient.reason, patient.stop) == (JobState.PENDING, expected, False)
    assert patient.look_again == 2
    assert (over.state, over.reason, over.stop) == (JobState.FAILED, expected, True)
    assert 'secret "db" not found' in over.message


def test_a_step_is_given_its_minute_from_the_end_of_the_step_before() -> None:
    steps = [ended("fetch"), waiting("build", "ErrImagePull")]

    assert look(pod(initContainerStatuses=steps, startTime=ago(600))).state is JobState.PENDING


def test_waiting_for_its_turn_is_not_being_stuck() -> None:
    steps = [waiting("fetch", "PodInitializing"), waiting("build", "PodInitializing")]

    assert look(pod(initContainerStatuses=steps, startTime=ago(600))).state is JobState.PENDING


def test_a_drained_pod_is_replaced_and_does_not_fail_the_build() -> None:
    drained = pod("old", phase="Failed", conditions=[{"type": "DisruptionTarget", "status": "True"}])
    fresh = pod("new", initContainerStatuses=[container("fetch", running={})])

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


def test_a_result_that_is_in_counts_more_than_a_deadline_that_came_after_it() -> None:
    upload = ended("upload", message=report(artifact=ARTIFACT))
    done = pod(initContainerStatuses=[ended("fetch"), ended("build")], containerStatuses=[upload])

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
