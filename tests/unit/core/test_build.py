"""Builds: given a Deployment and what is around it, the plan and the conditions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from appfn import names
from appfn.api.base import Json
from appfn.api.conditions import ConditionStatus, ConditionType, find
from appfn.api.deployment import Artifact, BuildPhase, Deployment, DeploymentStatus
from appfn.api.function import Function
from appfn.api.runtime import Architecture, Runtime
from appfn.core import build
from appfn.core.build import Observed, ObservedBuild, Plan, decide
from appfn.core.build_key import build_key
from appfn.core.build_progress import JobState, Progress, Report
from appfn.core.manifests.build_job import salt_of
from appfn.core.observed import StoredBuild
from appfn.core.problem import BuildReason, Problem
from appfn.core.source import resolve
from support.objects import DIGEST, NOW, SETTINGS, deployment, function, job, runtime

AMD64, ARM64 = Architecture.AMD64, Architecture.ARM64
FUNCTION, RUNTIME = function(), runtime()
ARTIFACT = Artifact(digest=DIGEST, size=3)
BOTH_IMAGES = [{"architecture": name, "image": f"image-{name}"} for name in ("amd64", "arm64")]


def observe(
    item: Deployment | None = None,
    *,
    of: Function | None = FUNCTION,
    using: Runtime | None = RUNTIME,
    nodes: tuple[str, ...] = ("amd64",),
    project: bool = True,
    builds: Mapping[Architecture, ObservedBuild] | None = None,
) -> Observed:
    item = item or deployment()
    return Observed(
        deployment=item,
        function=of,
        runtime=using,
        project=project,
        architectures=frozenset(nodes),
        source=resolve(item, None),
        builds=builds or {},
    )


def plan_for(observed: Observed) -> Plan:
    return decide(observed, NOW, settings=SETTINGS)


def with_status(status: DeploymentStatus, **extra: Any) -> Deployment:
    return deployment(status=status.to_json(), **extra)


def seen(state: JobState, body: Json | None = None, **fields: Any) -> dict[Architecture, ObservedBuild]:
    return {AMD64: ObservedBuild(job=body or job(), progress=Progress(state=state, **fields))}


def started() -> Deployment:
    return with_status(plan_for(observe()).status)


def failed(**extra: Any) -> Deployment:
    over = plan_for(observe(started(), builds=seen(JobState.FAILED, reason="BuildFailed", message="npm said no")))
    return with_status(over.status, **extra)


def ready() -> Deployment:
    report = Report(artifact=ARTIFACT, log=ARTIFACT, source_digest=DIGEST)
    made = plan_for(observe(started())).jobs or plan_for(observe()).jobs
    body = {**job(), "spec": made[0]["spec"]}
    return with_status(plan_for(observe(started(), builds=seen(JobState.SUCCEEDED, body, report=report))).status)


def told(status: DeploymentStatus, type_: ConditionType) -> tuple[str, str] | None:
    found = find(status.conditions, type_)
    return None if found is None else (found.status, found.reason)


def test_a_new_deployment_gets_its_owner_and_one_job() -> None:
    plan = plan_for(observe())

    assert [item["metadata"]["name"] for item in plan.jobs] == ["hello-v1-build-amd64-1"]
    assert plan.owner is not None
    assert plan.owner["metadata"]["ownerReferences"][0]["uid"] == "uid-hello"
    assert plan.status.phase is BuildPhase.PROCESSING
    assert told(plan.status, ConditionType.READY) == ("False", BuildReason.PENDING)
    assert told(plan.status, ConditionType.RECONCILING) == ("True", BuildReason.PENDING)


def test_an_inline_source_is_stored_before_its_job() -> None:
    plan = plan_for(observe(deployment(source={"inline": {"files": {"index.js": "1"}}})))

    assert plan.tarball is not None
    assert plan.status.source_digest == build_source_digest(plan)


def build_source_digest(plan: Plan) -> str:
    environment = plan.jobs[0]["spec"]["template"]["spec"]["containers"][0]["env"]
    source = next(entry["value"] for entry in environment if entry["name"] == "APPFN_SOURCE")
    return str(source.split('"')[5])


@pytest.mark.parametrize(
    ("observed", "reason", "condition"),
    [
        (observe(of=None), BuildReason.FUNCTION_NOT_FOUND, ConditionType.RECONCILING),
        (observe(using=None), BuildReason.RUNTIME_NOT_FOUND, ConditionType.STALLED),
        (observe(using=runtime(enabled=False)), BuildReason.RUNTIME_DISABLED, ConditionType.STALLED),
        (observe(using=runtime(protocol="v5")), BuildReason.RUNTIME_UNSUPPORTED, ConditionType.STALLED),
        (observe(project=False), BuildReason.NOT_A_PROJECT, ConditionType.STALLED),
        (observe(nodes=()), BuildReason.NO_NODE_FOR_ARCHITECTURE, ConditionType.RECONCILING),
        (observe(nodes=("arm64",)), BuildReason.NO_NODE_FOR_ARCHITECTURE, ConditionType.RECONCILING),
        (
            observe(of=function(architectures=["arm64"]), using=runtime(images=BOTH_IMAGES)),
            BuildReason.NO_NODE_FOR_ARCHITECTURE,
            ConditionType.RECONCILING,
        ),
        (
            observe(deployment(source={"configMapRef": {"name": "code"}})),
            BuildReason.SOURCE_UNAVAILABLE,
            ConditionType.RECONCILING,
        ),
    ],
)
def test_what_lacks_is_told_and_waited_for(observed: Observed, reason: str, condition: ConditionType) -> None:
    plan = plan_for(observed)

    assert plan.jobs == ()
    assert plan.status.phase is BuildPhase.PROCESSING
    assert told(plan.status, ConditionType.READY) == ("False", reason)
    assert told(plan.status, condition) == ("True", reason)
    assert plan.requeue is not None


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        (observe(deployment(source={"inline": {"files": {"../x": "1"}}})), BuildReason.INVALID_SOURCE),
        (observe(of=function(architectures=["arm64"]), nodes=("arm64",)), BuildReason.NO_IMAGE_FOR_ARCHITECTURE),
    ],
)
def test_what_cannot_become_right_fails(observed: Observed, reason: str) -> None:
    plan = plan_for(observed)

    assert plan.jobs == ()
    assert plan.status.phase is BuildPhase.FAILED
    assert told(plan.status, ConditionType.READY) == ("False", reason)
    assert told(plan.status, ConditionType.STALLED) == ("True", reason)


def test_an_architecture_without_a_node_waits_while_the_other_is_built() -> None:
    both = function(architectures=["arm64", "amd64"])

    plan = plan_for(observe(of=both, using=runtime(images=BOTH_IMAGES)))

    assert len(plan.jobs) == 1
    arm64 = plan.status.build(ARM64)
    assert arm64 is not None
    assert arm64.reason == BuildReason.NO_NODE_FOR_ARCHITECTURE
    assert plan.requeue is not None


def test_architectures_are_fixed_once_a_build_has_started() -> None:
    plan = plan_for(
        observe(started(), using=runtime(images=BOTH_IMAGES), nodes=("amd64", "arm64"), builds=seen(JobState.RUNNING))
    )

    assert [item.architecture for item in plan.status.builds] == [AMD64]


def test_a_running_job_shows_as_building() -> None:
    plan = plan_for(observe(started(), builds=seen(JobState.RUNNING, reason=BuildReason.BUILDING)))

    assert plan.jobs == ()
    assert plan.status.phase is BuildPhase.BUILDING
    assert told(plan.status, ConditionType.RECONCILING) == ("True", BuildReason.BUILDING)


def test_a_finished_job_makes_the_deployment_ready_and_is_remembered_under_its_key() -> None:
    made = plan_for(observe()).jobs[0]
    body = {**job(), "spec": made["spec"]}
    report = Report(artifact=ARTIFACT, log=ARTIFACT, source_digest=DIGEST)

    plan = plan_for(observe(started(), builds=seen(JobState.SUCCEEDED, body, report=report)))

    assert plan.status.phase is BuildPhase.READY
    assert plan.status.conditions[0].status is ConditionStatus.TRUE
    assert told(plan.status, ConditionType.RECONCILING) is None
    assert plan.stored == {build_key(salt_of(made), DIGEST): StoredBuild(artifact=ARTIFACT, log=ARTIFACT)}


def test_a_build_is_remembered_as_what_it_was_although_the_function_changed_meanwhile() -> None:
    body = {**job(), "spec": plan_for(observe()).jobs[0]["spec"]}
    changed = function(variables=[{"name": "NEW", "value": "1"}])
    builds = seen(JobState.SUCCEEDED, body, report=Report(artifact=ARTIFACT, source_digest=DIGEST))

    now = plan_for(observe(started(), of=changed, builds=builds))

    assert list(now.stored) == [build_key(salt_of(body), DIGEST)]
    assert list(now.stored) != [build.key_of(observe(of=changed), plan_for(observe()).status.builds[0])]


def test_a_build_cannot_pass_itself_off_as_one_of_another_source() -> None:
    body = {**job(), "spec": plan_for(observe()).jobs[0]["spec"]}
    forged = Report(artifact=ARTIFACT, source_digest="sha256:" + "f" * 64)
    git = deployment(source={"git": {"url": "https://x/y.git"}}, status=started().status.to_json())

    known = plan_for(observe(started(), builds=seen(JobState.SUCCEEDED, body, report=forged)))
    learnt = plan_for(observe(git, builds=seen(JobState.SUCCEEDED, body, report=forged)))

    assert list(known.stored) == [build_key(salt_of(body), DIGEST)]
    assert list(learnt.stored) == [build_key(salt_of(body), forged.source_digest)]


def test_a_build_the_agent_found_stored_is_not_stored_again() -> None:
    report = Report(artifact=ARTIFACT, source_digest=DIGEST, cached=True)

    plan = plan_for(observe(started(), builds=seen(JobState.SUCCEEDED, report=report)))

    assert plan.status.phase is BuildPhase.READY
    assert plan.stored == {}


def test_an_earlier_build_of_the_same_thing_is_taken_without_a_job() -> None:
    stored = StoredBuild(artifact=ARTIFACT, log=ARTIFACT)

    plan = plan_for(observe(builds={AMD64: ObservedBuild(cached=stored, log_tail="done")}))

    assert (plan.jobs, plan.tarball) == ((), None)
    assert plan.status.phase is BuildPhase.READY
    assert plan.status.builds[0].artifact == ARTIFACT
    assert plan.status.builds[0].job == ""


def test_a_shim_that_is_away_holds_the_build() -> None:
    problem = Problem.waiting(BuildReason.SHIM_UNAVAILABLE, "connection refused")

    plan = plan_for(observe(builds={AMD64: ObservedBuild(problem=problem)}))

    assert plan.jobs == ()
    assert told(plan.status, ConditionType.READY) == ("False", BuildReason.SHIM_UNAVAILABLE)


def test_a_failed_build_tells_why_where_and_keeps_the_end_of_its_log() -> None:
    item = failed()
    condition = find(item.status.conditions, ConditionType.READY)

    assert item.status.phase is BuildPhase.FAILED
    assert condition is not None
    assert (condition.reason, condition.message) == ("BuildFailed", "amd64: npm said no")
    assert told(item.status, ConditionType.STALLED) == ("True", "BuildFailed")


def test_a_build_that_was_given_up_has_its_job_stopped() -> None:
    plan = plan_for(observe(started(), builds=seen(JobState.FAILED, reason=BuildReason.IMAGE_PULL_FAILED, stop=True)))

    assert [item["metadata"]["name"] for item in plan.stop] == ["hello-v1-build-amd64-1"]


def test_what_kept_a_pod_from_starting_is_the_reason_not_the_deadline() -> None:
    refused = seen(JobState.PENDING, reason=BuildReason.FORBIDDEN, message="exceeded quota")
    held = with_status(plan_for(observe(started(), builds=refused)).status)

    plan = plan_for(
        observe(held, builds=seen(JobState.FAILED, reason=BuildReason.DEADLINE_EXCEEDED, message="too long"))
    )

    assert (plan.status.builds[0].reason, plan.status.builds[0].message) == (BuildReason.FORBIDDEN, "exceeded quota")


@pytest.mark.parametrize("item", [failed(), ready()], ids=["failed", "ready"])
def test_a_build_that_is_over_stays_so_whatever_happens_to_its_job(item: Deployment) -> None:
    plan = plan_for(observe(item))

    assert plan.jobs == ()
    assert plan.status == item.status
    assert build.over(item)


def test_a_job_that_vanished_in_the_middle_is_made_again_under_the_same_name() -> None:
    building = with_status(plan_for(observe(started(), builds=seen(JobState.RUNNING))).status)

    plan = plan_for(observe(building))

    assert [item["metadata"]["name"] for item in plan.jobs] == ["hello-v1-build-amd64-1"]
    assert plan.status.builds[0].attempt == 1


def test_a_job_of_somebody_else_is_left_alone() -> None:
    plan = plan_for(observe(builds=seen(JobState.SUCCEEDED, job(owner="somebody"))))

    assert plan.jobs == ()
    assert told(plan.status, ConditionType.READY) == ("False", BuildReason.NOT_OWNED)
    assert plan.requeue is not None


def retried(item: Deployment, token: str) -> Deployment:
    return item.model_copy(
        update={"metadata": item.metadata.model_copy(update={"annotations": {names.ANNOTATION_RETRY: token}})}
    )


def test_a_new_retry_token_builds_a_failed_deployment_again_once() -> None:
    asked = retried(failed(), "1")

    plan = plan_for(observe(asked))
    after = retried(with_status(plan.status), "1")
    again = plan_for(observe(after, builds=seen(JobState.RUNNING, job("hello-v1-build-amd64-2"))))

    assert not build.over(asked)
    assert [item["metadata"]["name"] for item in plan.jobs] == ["hello-v1-build-amd64-2"]
    assert plan.status.retry_token == "1"
    assert (again.jobs, again.status.builds[0].attempt) == ((), 2)


def test_a_retry_that_crashed_before_its_status_was_written_finds_its_own_job() -> None:
    asked = retried(failed(), "1")

    plan = plan_for(observe(asked, builds=seen(JobState.RUNNING, job("hello-v1-build-amd64-2"))))

    assert plan.jobs == ()
    assert (plan.status.builds[0].attempt, plan.status.builds[0].job) == (2, "hello-v1-build-amd64-2")


def test_a_retry_token_that_was_there_before_the_failure_asks_for_nothing() -> None:
    item = retried(deployment(), "from-gitops")
    first = retried(with_status(plan_for(observe(item)).status), "from-gitops")
    broken = plan_for(observe(first, builds=seen(JobState.FAILED, reason="BuildFailed")))

    plan = plan_for(observe(retried(with_status(broken.status), "from-gitops")))

    assert plan.jobs == ()
    assert plan.status.phase is BuildPhase.FAILED


@pytest.mark.parametrize(
    "observed",
    [
        observe(of=None),
        observe(using=None),
        observe(nodes=()),
        observe(started(), builds=seen(JobState.PENDING, reason=BuildReason.PENDING)),
        observe(started(), builds=seen(JobState.RUNNING, reason=BuildReason.BUILDING)),
        observe(failed()),
        observe(ready()),
        observe(ready(), of=None),
    ],
)
def test_at_rest_nothing_is_written(observed: Observed) -> None:
    once = plan_for(observed)
    owners = [{"apiVersion": names.API_VERSION, "kind": "Function", "name": "hello", "uid": "uid-hello"}]
    settled = with_status(once.status, meta={"ownerReferences": owners})

    twice = plan_for(replace(observed, deployment=settled))

    assert twice.status == settled.status
    assert (twice.jobs, twice.owner, dict(twice.stored), twice.stop) == ((), None, {}, ())


def test_a_deployment_of_an_earlier_function_of_that_name_is_not_adopted() -> None:
    owners = [{"apiVersion": names.API_VERSION, "kind": "Function", "name": "hello", "uid": "uid-before"}]

    assert plan_for(observe(deployment(meta={"ownerReferences": owners}))).owner is None


def test_jobs_that_are_refused_show_in_the_status() -> None:
    observed = observe()
    plan = plan_for(observed)
    problem = Problem.stalled(BuildReason.FORBIDDEN, "exceeded quota: count/jobs.batch")

    held = build.refused(observed, plan, [plan.jobs[0]["metadata"]["name"]], problem, now=NOW)

    assert told(held.status, ConditionType.READY) == ("False", BuildReason.FORBIDDEN)
    assert told(held.status, ConditionType.STALLED) == ("True", BuildReason.FORBIDDEN)
    assert held.status.builds[0].job == ""
    assert plan_for(replace(observed, deployment=with_status(held.status))).jobs == plan.jobs


CANCEL = {"annotations": {"appfn.dev/cancel": "now"}}


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING, JobState.SUCCEEDED])
def test_a_canceled_build_ends_and_its_job_goes_before_the_status_says_so(state: JobState) -> None:
    item = with_status(started().status, meta=CANCEL)

    plan = plan_for(observe(item, builds=seen(state, report=Report(artifact=ARTIFACT))))

    assert [entry["metadata"]["name"] for entry in plan.cancel] == ["hello-v1-build-amd64-1"]
    assert (plan.jobs, plan.stop, plan.stored) == ((), (), {})
    assert plan.status.phase is BuildPhase.CANCELED
    assert plan.status.builds[0].end_time == NOW
    assert told(plan.status, ConditionType.READY) == ("False", BuildReason.CANCELED)
    assert told(plan.status, ConditionType.STALLED) == ("True", BuildReason.CANCELED)
    assert told(plan.status, ConditionType.RECONCILING) is None
    assert plan.requeue is None


def test_a_deployment_canceled_before_its_build_never_builds() -> None:
    for observed in (observe(deployment(meta=CANCEL)), observe(deployment(meta=CANCEL), of=None)):
        plan = plan_for(observed)
        assert (plan.jobs, plan.cancel) == ((), ())
        assert plan.status.phase is BuildPhase.CANCELED


def test_somebody_elses_job_is_not_deleted_by_a_cancel() -> None:
    item = with_status(started().status, meta=CANCEL)

    plan = plan_for(observe(item, builds=seen(JobState.RUNNING, job(owner="uid-other"))))

    assert plan.cancel == ()
    assert plan.status.phase is BuildPhase.CANCELED


def test_a_cancel_changes_nothing_of_what_has_ended() -> None:
    for item in (ready(), failed()):
        again = with_status(item.status, meta=CANCEL)
        assert plan_for(observe(again)).status.phase is item.status.phase


def test_of_two_architectures_the_one_that_was_canceled_keeps_the_deployment_from_being_ready() -> None:
    both = observe(using=runtime(images=BOTH_IMAGES), nodes=("amd64", "arm64"))
    report = Report(artifact=ARTIFACT, log=ARTIFACT, source_digest=DIGEST)
    jobs = {entry["metadata"]["name"].split("-")[3]: entry for entry in plan_for(both).jobs}
    half = replace(both, deployment=with_status(plan_for(both).status))
    succeeded = ObservedBuild(
        job={**job("hello-v1-build-amd64-1"), "spec": jobs["amd64"]["spec"]},
        progress=Progress(state=JobState.SUCCEEDED, report=report),
    )
    halfway = plan_for(replace(half, builds={AMD64: succeeded})).status

    plan = plan_for(replace(half, deployment=with_status(halfway, meta=CANCEL)))

    assert [build.phase for build in plan.status.builds] == [BuildPhase.READY, BuildPhase.CANCELED]
    assert plan.status.phase is BuildPhase.CANCELED
    assert told(plan.status, ConditionType.READY) == ("False", BuildReason.CANCELED)


def test_a_canceled_build_is_tried_again_when_the_cancel_is_taken_away() -> None:
    canceled = plan_for(observe(with_status(started().status, meta=CANCEL))).status
    retried = {"annotations": {"appfn.dev/retry": "1", "appfn.dev/cancel": "now"}}
    assert plan_for(observe(with_status(canceled, meta=retried))).jobs == ()

    plan = plan_for(observe(with_status(canceled, meta={"annotations": {"appfn.dev/retry": "1"}})))

    assert [entry["metadata"]["name"] for entry in plan.jobs] == ["hello-v1-build-amd64-2"]
    assert plan.status.phase is BuildPhase.PROCESSING
