"""Pools on a real API server with the controllers of Deployments and ReplicaSets; without a node, pods stay Pending."""

import logging

import pytest

from appfn import names
from appfn.api.base import Json, ObjectMeta
from appfn.api.kinds import DEPLOYMENT, FUNCTION, NAMESPACE, POD, POOL, RUNTIME, Key
from appfn.core.manifests.pool import claim_patch
from appfn.errors import ConflictError
from appfn.reconcile.registry import Controller
from support.cluster import SERVICE_ACCOUNT
from support.polling import eventually
from support.reconciling import Operator

SOURCE: Json = {"inline": {"files": {"index.js": "module.exports = 1"}}}
RESOURCES: Json = {"requests": {"cpu": "0.5"}, "limits": {"cpu": 1, "memory": "1024Mi"}}
"""As no API server would write them."""


async def function(operator: Operator, runtime: str, name: str = "hello", **spec: object) -> None:
    await operator.create(FUNCTION, name, {"runtime": runtime, **spec})


async def resize(operator: Operator, runtime: str, size: int, **spec: object) -> None:
    patch = {"spec": {"pool": size, **spec}}
    assert await operator.cluster.merge_patch(RUNTIME, Key("", runtime), patch, manager="tests") is not None


async def annotate(operator: Operator, runtime: str, size: str | None) -> None:
    patch = {"metadata": {"annotations": {f"pool.appfn.dev/{runtime}": size}}}
    await operator.cluster.merge_patch(NAMESPACE, Key("", operator.namespace), patch, manager="tests")


async def pools(operator: Operator) -> dict[str, int]:
    """Reconcile; return the pools there are then, with their sizes."""
    await operator.run(Controller.POOL, operator.namespace)
    found = await operator.cluster.list(POOL, namespace=operator.namespace)
    return {body["metadata"]["name"]: body["spec"]["replicas"] for body in found}


async def at_rest(operator: Operator) -> None:
    since = operator.audit.position()
    for _ in range(2):
        await operator.run(Controller.POOL, operator.namespace)
    assert operator.writes(since) == []


async def waiting(operator: Operator, pool: str, number: int) -> list[Json]:
    """Return the pods of a pool once there are so many."""

    async def probe() -> tuple[list[Json]] | None:
        found = await operator.cluster.list(POD, namespace=operator.namespace, labels=f"{names.LABEL_POOL}={pool}")
        return (found,) if len(found) == number else None

    (pods,) = await eventually(probe, within=20)
    return pods


@pytest.fixture
async def pool(operator: Operator, runtime: str) -> str:
    """Let the Runtime have a pool of two; return its name."""
    account = {"metadata": {"namespace": operator.namespace, "name": names.SERVICE_ACCOUNT_RUNTIME}}
    await operator.cluster.create(SERVICE_ACCOUNT, account)
    await resize(operator, runtime, 2, resources=RESOURCES)
    return names.pool(runtime, "amd64")


async def test_a_function_brings_a_pool_and_the_last_one_takes_it_along(
    operator: Operator, runtime: str, pool: str
) -> None:
    assert await pools(operator) == {}
    await function(operator, runtime)
    await function(operator, runtime, "other")

    assert await pools(operator) == {pool: 2}
    await at_rest(operator)
    await operator.cluster.delete(FUNCTION, Key(operator.namespace, "hello"))
    assert await pools(operator) == {pool: 2}
    await operator.cluster.delete(FUNCTION, Key(operator.namespace, "other"))
    assert await pools(operator) == {}
    await at_rest(operator)


async def test_only_functions_that_can_use_a_pool_bring_one(operator: Operator, runtime: str, pool: str) -> None:
    wishes: list[Json] = [
        {"enabled": False},
        {"architectures": ["arm64"]},
        {"resources": {"limits": {"memory": "1Gi"}}},
        {"nodeSelector": {"disk": "fast"}},
        {"tolerations": [{"operator": "Exists"}]},
        {"runtimeClassName": "gvisor"},
        {"runtime": "cobol-1"},
    ]
    for number, wish in enumerate(wishes):
        await function(operator, **{"runtime": runtime, "name": f"f-{number}"} | wish)
    assert await pools(operator) == {}

    await function(operator, runtime, timeout=900, variables=[{"name": "A", "value": "b"}])

    assert await pools(operator) == {pool: 2}


async def test_the_size_follows_runtime_and_namespace(operator: Operator, runtime: str, pool: str) -> None:
    await function(operator, runtime)
    sizes = [await pools(operator)]
    await resize(operator, runtime, 3)
    sizes.append(await pools(operator))
    await annotate(operator, runtime, "1")
    sizes.append(await pools(operator))
    await at_rest(operator)
    await annotate(operator, runtime, "0")
    sizes.append(await pools(operator))
    await annotate(operator, runtime, None)
    sizes.append(await pools(operator))

    assert sizes == [{pool: 2}, {pool: 3}, {pool: 1}, {}, {pool: 3}]


async def test_a_size_that_is_none_is_told_and_the_runtimes_is_kept(
    operator: Operator, runtime: str, pool: str, caplog: pytest.LogCaptureFixture
) -> None:
    await function(operator, runtime)
    await annotate(operator, runtime, "plenty")

    with caplog.at_level(logging.WARNING):
        assert await pools(operator) == {pool: 2}

    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f"annotation pool.appfn.dev/{runtime} is 'plenty'" in record.__dict__["problem"]


async def test_a_runtime_that_is_disabled_has_no_pool(operator: Operator, runtime: str, pool: str) -> None:
    await function(operator, runtime)
    assert await pools(operator) == {pool: 2}
    await resize(operator, runtime, 2, enabled=False)
    assert await pools(operator) == {}


async def test_a_namespace_that_ceases_to_be_a_project_has_no_pool(operator: Operator, runtime: str, pool: str) -> None:
    await function(operator, runtime)
    assert await pools(operator) == {pool: 2}
    unlabelled = {"metadata": {"labels": {names.LABEL_PROJECT: None}}}
    await operator.cluster.merge_patch(NAMESPACE, Key("", operator.namespace), unlabelled, manager="tests")
    assert await pools(operator) == {}


async def test_a_pool_deleted_by_hand_or_changed_is_made_again(operator: Operator, runtime: str, pool: str) -> None:
    await function(operator, runtime)
    await pools(operator)
    await operator.cluster.delete(POOL, Key(operator.namespace, pool))
    assert await pools(operator) == {pool: 2}

    await operator.patch(
        POOL, pool, {"spec": {"replicas": 9, "template": {"spec": {"terminationGracePeriodSeconds": 30}}}}
    )
    assert await pools(operator) == {pool: 2}

    spec = (await operator.get(POOL, pool))["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == 1


async def test_a_deployment_of_somebody_else_in_a_pools_place_is_left_alone(
    operator: Operator, runtime: str, pool: str, caplog: pytest.LogCaptureFixture
) -> None:
    labels = {"app": "shop"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "shop", "image": "shop"}]}}
    await operator.create(POOL, pool, {"replicas": 0, "selector": {"matchLabels": labels}, "template": template})
    await function(operator, runtime)
    since = operator.audit.position()

    with caplog.at_level(logging.WARNING):
        again = await operator.run(Controller.POOL, operator.namespace)

    assert again == 60
    assert operator.writes(since) == []
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f"delete deployments.apps {pool}" in record.__dict__["problem"]
    await operator.cluster.delete(POOL, Key(operator.namespace, pool))
    assert await pools(operator) == {pool: 2}


async def test_a_pool_goes_with_its_runtime(operator: Operator, runtime: str, pool: str) -> None:
    await function(operator, runtime)
    await pools(operator)

    await operator.cluster.delete(RUNTIME, Key("", runtime))

    async def gone() -> bool:
        return await operator.cluster.get(POOL, Key(operator.namespace, pool)) is None

    await eventually(gone, within=20)


async def test_a_claimed_pod_is_replaced_and_lives_on_with_its_deployment(
    operator: Operator, runtime: str, pool: str
) -> None:
    await function(operator, runtime)
    await pools(operator)
    spec = {"functionRef": {"name": "hello"}, "source": SOURCE}
    made = await operator.create(DEPLOYMENT, "hello-v1", spec)
    deployment = ObjectMeta.model_validate(made["metadata"])
    claimed, other = await waiting(operator, pool, 2)
    key = Key(operator.namespace, claimed["metadata"]["name"])
    patch = claim_patch(pod=claimed, function="hello", deployment=deployment, shim="appfn-shim-0")

    await operator.cluster.merge_patch(POD, key, patch, manager="appfn-shim")

    refilled = await waiting(operator, pool, 2)
    assert key.name not in {pod["metadata"]["name"] for pod in refilled}
    assert other["metadata"]["name"] in {pod["metadata"]["name"] for pod in refilled}
    pod = await operator.get(POD, key.name)
    assert pod["metadata"]["uid"] == claimed["metadata"]["uid"]
    assert "deletionTimestamp" not in pod["metadata"]
    assert [(owner["kind"], owner["uid"]) for owner in pod["metadata"]["ownerReferences"]] == [
        ("Deployment", deployment.uid)
    ]
    assert pod["metadata"]["labels"] == {
        names.MANAGED_BY: "appfn",
        names.LABEL_COMPONENT: "runtime",
        names.LABEL_RUNTIME: runtime,
        names.LABEL_ARCHITECTURE: "amd64",
        names.LABEL_FUNCTION: "hello",
        names.LABEL_DEPLOYMENT: "hello-v1",
        names.LABEL_SHIM: "appfn-shim-0",
    }
    with pytest.raises(ConflictError):
        await operator.cluster.merge_patch(POD, key, patch, manager="appfn-shim")
    await at_rest(operator)
    await operator.cluster.delete(FUNCTION, Key(operator.namespace, "hello"))
    assert await pools(operator) == {}
    await waiting(operator, pool, 0)
    assert "deletionTimestamp" not in (await operator.get(POD, key.name))["metadata"]


async def test_the_pods_of_a_pool_satisfy_pod_security_restricted(operator: Operator, runtime: str, pool: str) -> None:
    enforce = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await operator.cluster.merge_patch(NAMESPACE, Key("", operator.namespace), enforce, manager="tests")
    await function(operator, runtime)
    await pools(operator)

    assert len(await waiting(operator, pool, 2)) == 2


async def test_a_namespace_that_is_gone_is_nobodys_business(operator: Operator) -> None:
    assert await operator.handlers[Controller.POOL](Key("", "no-such-namespace")) is None
