"""Pools: when there is one, how large it is, and what is left alone."""

from dataclasses import replace
from typing import Any

import pytest

from appfn.api.base import Json
from appfn.api.function import Function
from appfn.api.runtime import Runtime
from appfn.core.pool import Observed, Plan, decide
from support.objects import NAMESPACE, ago, function, runtime

POOL = "appfn-pool-node-20-0-d02d15e5-amd64"
POOL_ARM = "appfn-pool-node-20-0-d02d15e5-arm64"
BOTH = [{"architecture": "arm64", "image": "node:arm"}, {"architecture": "amd64", "image": "node:amd"}]
SIZE = "pool.appfn.dev/node-20.0"


def observe(
    *functions: Function,
    runtimes: tuple[Runtime, ...] = (runtime(pool=2),),
    architectures: tuple[str, ...] = ("amd64",),
    **changes: Any,
) -> Observed:
    observed = Observed(
        namespace=NAMESPACE,
        project=True,
        annotations={},
        functions=functions,
        runtimes=runtimes,
        architectures=frozenset(architectures),
        deployments=(),
        image="appfn",
        shim_url="http://shim",
    )
    return replace(observed, **changes)


def sizes(plan: Plan) -> dict[str, int]:
    return {manifest["metadata"]["name"]: manifest["spec"]["replicas"] for manifest in plan.apply}


def made(manifest: Json, **metadata: object) -> Json:
    """Return a pool as the API server would show it."""
    return manifest | {"metadata": {**manifest["metadata"], "uid": "uid-pool", **metadata}, "status": {"replicas": 2}}


FUNCTION = function()


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        pytest.param(observe(FUNCTION), {POOL: 2}, id="a function has one"),
        pytest.param(observe(FUNCTION, function("other")), {POOL: 2}, id="two share it"),
        pytest.param(observe(), {}, id="nobody uses it"),
        pytest.param(observe(FUNCTION, project=False), {}, id="the namespace is no project"),
        pytest.param(observe(FUNCTION, runtimes=(runtime(),)), {}, id="size 0"),
        pytest.param(observe(FUNCTION, runtimes=()), {}, id="there is no such runtime"),
        pytest.param(observe(FUNCTION, runtimes=(runtime(pool=2, enabled=False),)), {}, id="it is disabled"),
        pytest.param(observe(FUNCTION, runtimes=(runtime(pool=2, protocol="v5"),)), {}, id="it is not supported"),
        pytest.param(observe(FUNCTION, architectures=("arm64",)), {}, id="no node can run its image"),
        pytest.param(
            observe(FUNCTION, runtimes=(runtime(pool=2, images=BOTH),), architectures=("amd64", "arm64")),
            {POOL: 2, POOL_ARM: 2},
            id="one for each architecture of the nodes",
        ),
        pytest.param(
            observe(
                function(architectures=["arm64"]),
                runtimes=(runtime(pool=2, images=BOTH),),
                architectures=("amd64", "arm64"),
            ),
            {POOL_ARM: 2},
            id="none for an architecture its functions do not want",
        ),
        pytest.param(observe(function(enabled=False)), {}, id="its one function is disabled"),
        pytest.param(observe(function(meta={"deletionTimestamp": ago(1)})), {}, id="its one function is being deleted"),
        pytest.param(observe(function(runtimeClassName="gvisor")), {}, id="its one function needs other pods"),
        pytest.param(observe(function(runtimeClassName="gvisor"), FUNCTION), {POOL: 2}, id="one of two needs others"),
        pytest.param(observe(FUNCTION, runtimes=(runtime("cobol", pool=2),)), {}, id="the runtime of somebody else"),
        pytest.param(observe(FUNCTION, annotations={SIZE: "7"}), {POOL: 7}, id="the project wants more"),
        pytest.param(observe(FUNCTION, annotations={SIZE: "0"}), {}, id="the project wants none"),
        pytest.param(
            observe(FUNCTION, annotations={SIZE: "1"}, runtimes=(runtime(),)),
            {POOL: 1},
            id="the project alone wants one",
        ),
        pytest.param(
            observe(FUNCTION, annotations={"pool.appfn.dev/other": "9"}), {POOL: 2}, id="another's annotation"
        ),
        pytest.param(observe(FUNCTION, annotations={SIZE: "100"}), {POOL: 100}, id="the most there can be"),
    ],
)
def test_a_pool_is_wanted_where_a_function_can_use_it(observed: Observed, expected: dict[str, int]) -> None:
    plan = decide(observed)

    assert sizes(plan) == expected
    assert plan.problems == ()
    assert plan.requeue is None


@pytest.mark.parametrize("value", ["101", "-1", "1.5", "many", "", " 2", "\u0664", "9" * 5000])
def test_a_size_that_is_none_is_told_and_changes_nothing(value: str) -> None:
    plan = decide(observe(FUNCTION, annotations={SIZE: value}))

    assert sizes(plan) == {POOL: 2}
    [problem] = plan.problems
    assert "whole number from 0 to 100" in problem
    assert f"kubectl annotate namespace shop --overwrite {SIZE}=NUMBER" in problem
    assert len(problem) < 400


def test_at_rest_nothing_is_written() -> None:
    [manifest] = decide(observe(FUNCTION)).apply

    assert decide(observe(FUNCTION, deployments=(made(manifest),))) == Plan()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"pool": 3}, id="size"),
        pytest.param({"images": [{"architecture": "amd64", "image": "new"}]}, id="image"),
        pytest.param({"resources": {"limits": {"memory": "1Gi"}}}, id="resources"),
    ],
)
def test_a_change_of_the_runtime_is_applied(change: Json) -> None:
    [manifest] = decide(observe(FUNCTION)).apply

    spec: Json = {"pool": 2} | change
    plan = decide(observe(FUNCTION, runtimes=(runtime(**spec),), deployments=(made(manifest),)))

    assert [item["metadata"]["name"] for item in plan.apply] == [POOL]
    assert plan.delete == ()


def test_the_last_user_takes_the_pool_along() -> None:
    [manifest] = decide(observe(FUNCTION)).apply
    pool = made(manifest)

    assert decide(observe(deployments=(pool,))) == Plan(delete=(pool,))
    assert decide(observe(deployments=(made(manifest, deletionTimestamp=ago(1)),))) == Plan()


def test_a_deployment_of_somebody_else_is_left_alone_whether_or_not_it_is_in_the_way() -> None:
    stranger: Json = {"metadata": {"name": POOL, "namespace": NAMESPACE, "labels": {"app": "shop"}}, "spec": {}}

    plan = decide(observe(FUNCTION, deployments=(stranger,)))

    assert (plan.apply, plan.delete) == ((), ())
    [problem] = plan.problems
    assert f"kubectl -n shop delete deployments.apps {POOL}" in problem
    assert plan.requeue == 60
    assert decide(observe(deployments=(stranger,))) == Plan()
