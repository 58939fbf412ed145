"""Which keys an event marks."""

from typing import Any

import pytest

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import (
    CONFIG_MAP,
    CRON_JOB,
    DEPLOYMENT,
    EXECUTION,
    FUNCTION,
    JOB,
    NAMESPACE,
    NODE,
    POD,
    POOL,
    RUNTIME,
    Key,
    Kind,
)
from appfn.handlers.events import Surroundings, keys_of
from appfn.handlers.work import EVERYTHING, Item, Scope, Work
from appfn.reconcile.registry import Controller


def body(name: str = "a", *, labels: dict[str, str] | None = None, **fields: object) -> Json:
    return {"metadata": {"namespace": "ns", "name": name, "labels": labels or {}}, **fields}


def of_function(**fields: object) -> Json:
    return {"functionRef": {"name": "fn"}, **fields}


MIRRORED = {names.LABEL_MIRRORED: "true"}
OF_DEPLOYMENT = {names.LABEL_DEPLOYMENT: "fn-v1", names.LABEL_FUNCTION: "fn"}


def asked_again(value: str, **fields: Any) -> Json:
    seen = body(**fields)
    seen["metadata"]["annotations"] = {names.ANNOTATION_REPLAY: value}
    return seen


@pytest.mark.parametrize(
    ("kind", "seen", "marked"),
    [
        pytest.param(FUNCTION, body(), {(Controller.FUNCTION, "a")}, id="a function marks itself"),
        pytest.param(
            DEPLOYMENT,
            body(spec=of_function()),
            {(Controller.DEPLOYMENT, "a"), (Controller.FUNCTION, "fn")},
            id="a deployment marks itself and its function",
        ),
        pytest.param(EXECUTION, body(spec=of_function()), {(Controller.EXECUTION, "a")}, id="a new execution"),
        pytest.param(
            EXECUTION,
            body(spec=of_function(), status={"status": "processing"}),
            {(Controller.EXECUTION, "a")},
            id="a running execution",
        ),
        pytest.param(
            EXECUTION,
            body(spec=of_function(), status={"status": "failed"}),
            set(),
            id="not an ended execution",
        ),
        pytest.param(
            EXECUTION,
            body(spec=of_function(ttlSecondsAfterFinished=0), status={"status": "completed"}),
            {(Controller.EXECUTION, "a")},
            id="an execution that has ended and has a time to live",
        ),
        pytest.param(
            EXECUTION,
            asked_again("2", spec=of_function(), status={"status": "completed", "replayToken": "1"}),
            {(Controller.EXECUTION, "a")},
            id="an execution that has ended and is to be run again",
        ),
        pytest.param(
            EXECUTION,
            asked_again("1", spec=of_function(), status={"status": "completed", "replayToken": "1"}),
            set(),
            id="not an execution that was run again as asked",
        ),
        pytest.param(
            EXECUTION,
            body(labels={names.LABEL_MIRRORED: "true"}, spec=of_function()),
            set(),
            id="not a mirrored execution",
        ),
        pytest.param(JOB, body(labels=OF_DEPLOYMENT), {(Controller.DEPLOYMENT, "fn-v1")}, id="a build's job"),
        pytest.param(POD, body(labels=OF_DEPLOYMENT), {(Controller.DEPLOYMENT, "fn-v1")}, id="a build's pod"),
        pytest.param(
            CRON_JOB,
            body(labels={names.LABEL_FUNCTION: "fn"}),
            {(Controller.FUNCTION, "fn")},
            id="a cron job",
        ),
        pytest.param(JOB, body(), set(), id="not a job without the label"),
        pytest.param(CONFIG_MAP, body(), set(), id="not a kind nobody asked for"),
        pytest.param(NODE, body(), set(), id="not a node"),
        pytest.param(POOL, body(), set(), id="not a pool, whose status changes with every claim"),
    ],
)
def test_an_object_marks_what_it_concerns(kind: Kind, seen: Json, marked: set[tuple[Controller, str]]) -> None:
    assert keys_of(kind, seen) == {Work(controller, Key("ns", name)) for controller, name in marked}


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        pytest.param(FUNCTION, set(), id="a function"),
        pytest.param(DEPLOYMENT, {(Controller.FUNCTION, "fn")}, id="a deployment, which its function goes by"),
        pytest.param(RUNTIME, set(), id="a runtime"),
    ],
)
def test_a_status_is_no_news_to_the_controller_that_wrote_it(kind: Kind, left: set[tuple[Controller, str]]) -> None:
    seen = body(spec=of_function(), labels=OF_DEPLOYMENT)
    assert {(work.controller, work.key.name) for work in keys_of(kind, seen, ours=True)} == left


def test_a_runtime_marks_itself_without_a_namespace() -> None:
    assert keys_of(RUNTIME, {"metadata": {"name": "node-20.0"}}) == {Work(Controller.RUNTIME, Key("", "node-20.0"))}


def test_labels_may_be_absent() -> None:
    assert keys_of(JOB, {"metadata": {"namespace": "ns", "name": "a"}}) == frozenset()
    assert keys_of(JOB, {"metadata": {"namespace": "ns", "name": "a", "labels": None}}) == frozenset()


class Scene:
    """Surroundings told of one object after another."""

    def __init__(self) -> None:
        self._surroundings = Surroundings()

    def runtime(self, *, uid: str = "1", generation: int = 1, listed: bool = False, gone: bool = False) -> Item | None:
        metadata = {"name": "node-20.0", "uid": uid, "generation": generation}
        return self._surroundings.note(RUNTIME, {"metadata": metadata}, listed=listed, gone=gone)

    def child(
        self, kind: Kind, name: str, *, generation: int = 1, listed: bool = False, gone: bool = False
    ) -> Item | None:
        metadata = {"namespace": "ns", "name": name, "uid": name, "generation": generation}
        return self._surroundings.note(kind, {"metadata": metadata}, listed=listed, gone=gone)

    def node(self, name: str, architecture: str, *, listed: bool = False, gone: bool = False) -> Item | None:
        metadata = {"name": name, "labels": {"kubernetes.io/arch": architecture} if architecture else {}}
        return self._surroundings.note(NODE, {"metadata": metadata}, listed=listed, gone=gone)

    def namespace(
        self, project: str | None, *, listed: bool = False, gone: bool = False, annotations: Json | None = None
    ) -> Item | None:
        labels = {} if project is None else {names.LABEL_PROJECT: project}
        metadata = {"name": "ns", "labels": labels, "annotations": annotations or {}}
        return self._surroundings.note(NAMESPACE, {"metadata": metadata}, listed=listed, gone=gone)


RUNTIME_USERS = Scope(runtime="node-20.0")
PROJECT = Scope(namespace="ns")
POOLS = Work(Controller.POOL, Key("", "ns"))


def test_a_runtime_listed_at_the_start_is_no_change() -> None:
    assert Scene().runtime(listed=True) is None


def test_a_runtime_that_comes_later_concerns_those_who_wait_for_it() -> None:
    assert Scene().runtime() == RUNTIME_USERS


def test_a_runtimes_status_concerns_nobody_but_its_spec_does() -> None:
    scene = Scene()
    scene.runtime(listed=True)
    assert scene.runtime(generation=1) is None
    assert scene.runtime(generation=2) == RUNTIME_USERS
    assert scene.runtime(generation=2) is None


def test_a_runtime_changed_during_a_gap_is_noticed_in_the_list_after_it() -> None:
    scene = Scene()
    scene.runtime(listed=True)
    assert scene.runtime(generation=2, listed=True) == RUNTIME_USERS
    assert scene.runtime(uid="2", generation=2, listed=True) == RUNTIME_USERS


def test_a_runtime_that_is_gone_concerns_its_users() -> None:
    scene = Scene()
    scene.runtime(listed=True)
    assert scene.runtime(gone=True) == RUNTIME_USERS
    assert scene.runtime() == RUNTIME_USERS


def test_nodes_matter_when_an_architecture_comes_or_goes() -> None:
    scene = Scene()
    assert scene.node("a", "amd64") == EVERYTHING
    assert scene.node("a", "amd64") is None
    assert scene.node("b", "amd64") is None
    assert scene.node("c", "arm64") == EVERYTHING
    assert scene.node("a", "amd64", gone=True) is None
    assert scene.node("c", "arm64", gone=True) == EVERYTHING
    assert scene.node("d", "") is None


def test_nodes_that_are_found_at_the_start_are_no_change() -> None:
    scene = Scene()
    assert scene.node("a", "amd64", listed=True) is None
    assert scene.node("b", "arm64", listed=True) is None
    assert scene.node("b", "riscv64", listed=True) == EVERYTHING


def test_a_namespace_matters_when_it_becomes_or_ceases_to_be_a_project() -> None:
    scene = Scene()
    assert scene.namespace(None) is None
    assert scene.namespace("shop") == PROJECT
    assert scene.namespace("shop") is None
    assert scene.namespace("store") == PROJECT
    assert scene.namespace(None) == PROJECT
    assert scene.namespace(None, gone=True) is None


def test_a_project_listed_at_the_start_is_no_change() -> None:
    scene = Scene()
    assert scene.namespace("shop", listed=True) is None
    assert scene.namespace("shop", gone=True) == PROJECT


def test_the_size_a_namespace_asks_for_concerns_its_pools_and_other_annotations_nothing() -> None:
    scene = Scene()
    scene.namespace("shop", listed=True)
    assert scene.namespace("shop", annotations={"pool.appfn.dev/node-20.0": "4"}) == POOLS
    assert scene.namespace("shop", annotations={"pool.appfn.dev/node-20.0": "4", "team": "a"}) is None
    assert scene.namespace("shop", annotations={"pool.appfn.dev/node-20.0": "5"}) == POOLS
    assert scene.namespace("shop") == POOLS


def test_a_namespace_that_changes_both_ways_at_once_is_swept_whole() -> None:
    assert Scene().namespace("shop", annotations={"pool.appfn.dev/node-20.0": "4"}) == PROJECT


@pytest.mark.parametrize("kind", [FUNCTION, POOL], ids=["function", "pool"])
def test_pools_are_looked_at_when_a_function_or_a_pool_comes_changes_or_goes(kind: Kind) -> None:
    scene = Scene()
    assert scene.child(kind, "a") == POOLS
    assert scene.child(kind, "b", listed=True) is None
    assert scene.child(kind, "a") is None, "its status has changed"
    assert scene.child(kind, "a", generation=2) == POOLS
    assert scene.child(kind, "b", gone=True) == POOLS


def test_other_kinds_concern_nobody_else() -> None:
    assert Surroundings().note(CONFIG_MAP, body(), listed=False, gone=False) is None


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (Work(Controller.FUNCTION, Key("ns", "a")), "function ns/a"),
        (EVERYTHING, "sweep"),
        (Scope(namespace="ns"), "sweep namespace ns"),
        (Scope(runtime="node-20.0"), "sweep runtime node-20.0"),
    ],
)
def test_the_log_shows_work_as_a_person_would_name_it(item: Work | Scope, text: str) -> None:
    assert str(item) == text
