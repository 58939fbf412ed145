"""Which deployment serves while another takes over."""

from typing import cast

from appfn.api.deployment import Deployment
from appfn.api.function import Function
from appfn.api.kinds import Key
from appfn.api.runtime import Architecture, Runtime
from appfn.shim.callee import Callee, Project
from appfn.shim.catalog import Catalog
from appfn.shim.rollouts import Rollouts
from support.fake_invoker import FakeInvoker

RUNTIME = {
    "language": "node",
    "version": "20.0",
    "displayName": "Node.js",
    "images": [{"architecture": "amd64", "image": "i"}],
    "buildCommand": "b",
    "startCommand": "s",
}


class Known:
    """A catalog that knows some deployments."""

    def __init__(self, *uids: str) -> None:
        self.uids = set(uids)

    def has_deployment(self, key: Key, *, uid: str) -> bool:
        assert key.namespace == "shop"
        return uid in self.uids


class Scene:
    """A function's activations, one after the other."""

    def __init__(self) -> None:
        self.invoker = FakeInvoker()
        self.catalog = Known("one", "two", "three")
        self.now = 0.0
        self.rollouts = Rollouts(
            invoker=self.invoker,
            catalog=cast("Catalog", self.catalog),
            patience=60.0,
            monotonic=lambda: self.now,
        )

    def serving(self, active: str, *, minimum: int = 2) -> str:
        return self.rollouts.serving(a_callee(active, minimum)).deployment.metadata.name


def a_callee(deployment: str, minimum: int) -> Callee:
    function = {
        "metadata": {"name": "hello", "namespace": "shop", "uid": "f"},
        "spec": {"runtime": "node-20.0", "scaling": {"minReplicas": minimum}},
    }
    spec = {"functionRef": {"name": "hello"}, "source": {"inline": {"files": {"index.js": "x"}}}}
    made = {"metadata": {"name": deployment, "namespace": "shop", "uid": deployment}, "spec": spec}
    return Callee(
        project=Project("shop", "shop"),
        function=Function.parse(function),
        runtime=Runtime.parse({"metadata": {"name": "node-20.0"}, "spec": RUNTIME}),
        deployment=Deployment.parse(made),
        artifacts={Architecture.AMD64: f"sha256:{deployment}"},
        constants={"APPWRITE_FUNCTION_DEPLOYMENT": deployment},
    )


def test_calls_stay_with_the_deployment_before_until_the_new_one_is_loaded() -> None:
    scene = Scene()
    assert scene.serving("one") == "one"
    scene.invoker.loaded["two"] = 1
    assert scene.serving("two") == "one"
    scene.invoker.loaded["two"] = 2
    assert scene.serving("two") == "two"
    scene.invoker.loaded["two"] = 0
    assert scene.serving("two") == "two", "there is no way back"


def test_what_a_call_runs_is_whole() -> None:
    scene = Scene()
    scene.serving("one")
    scene.invoker.loaded["two"] = 0
    served = scene.rollouts.serving(a_callee("two", 2))
    assert served.artifacts == {Architecture.AMD64: "sha256:one"}
    assert served.constants == {"APPWRITE_FUNCTION_DEPLOYMENT": "one"}
    assert served.deployment.metadata.uid == "one"


def test_without_pods_that_are_kept_the_new_deployment_serves_at_once() -> None:
    scene = Scene()
    scene.invoker.loaded["two"] = 0
    assert [scene.serving(name, minimum=0) for name in ("one", "two")] == ["one", "two"]


def test_a_deployment_that_does_not_come_up_takes_over_in_the_end_and_says_why() -> None:
    scene = Scene()
    scene.serving("one")
    scene.invoker.loaded["two"] = 0
    assert scene.serving("two") == "one"
    scene.now = 59
    assert scene.serving("two") == "one"
    scene.now = 61
    assert scene.serving("two") == "two"


def test_each_deployment_has_the_whole_time_to_come_up() -> None:
    scene = Scene()
    scene.serving("one")
    scene.invoker.loaded.update(two=0, three=0)
    scene.serving("two")
    scene.now = 50
    scene.serving("three")
    scene.now = 100
    assert scene.serving("three") == "one"


def test_a_deployment_that_was_deleted_serves_nobody() -> None:
    scene = Scene()
    scene.serving("one")
    scene.invoker.loaded["two"] = 0
    scene.catalog.uids.discard("one")
    assert scene.serving("two") == "two"


def test_a_function_that_is_gone_is_forgotten() -> None:
    scene = Scene()
    scene.serving("one")
    scene.invoker.loaded["two"] = 0
    scene.rollouts.forget("f")
    assert scene.serving("two") == "two"
