from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfn.dispatch.pod import PodState
from appfn.dispatch.scaling import Limits, Observed, Plan, PodView, decide

NOW = 1000.0
LIMITS = Limits(minimum=0, maximum=4, concurrency=1, idle_seconds=60)


def a_pod(name: str, *, state: PodState = PodState.READY, in_flight: int = 0, idle_for: float = 0.0) -> PodView:
    return PodView(name=name, state=state, in_flight=in_flight, idle_since=NOW - idle_for)


def starting(name: str) -> PodView:
    return a_pod(name, state=PodState.LOADING)


def busy(name: str) -> PodView:
    return a_pod(name, in_flight=1)


def observed(
    *pods: PodView,
    limits: Limits = LIMITS,
    queued: int = 0,
    retired: bool = False,
    troubled: bool = False,
    not_before: float = 0.0,
) -> Observed:
    return Observed(
        limits=limits,
        queued=queued,
        pods=pods,
        retired=retired,
        troubled=troubled,
        not_before=not_before,
    )


MINIMUM_2 = replace(LIMITS, minimum=2)
WIDE = replace(LIMITS, concurrency=10)


@pytest.mark.parametrize(
    ("case", "seen", "plan"),
    [
        ("nothing is wanted of an idle function", observed(), Plan()),
        ("a waiting call starts a pod", observed(queued=1), Plan(start=1)),
        ("each waiting call starts a pod of its own", observed(queued=3), Plan(start=3)),
        ("never more than the maximum", observed(queued=50), Plan(start=4)),
        ("pods that serve count against the maximum", observed(busy("a"), queued=50), Plan(start=3)),
        ("pods that start count against the maximum", observed(starting("a"), busy("b"), queued=50), Plan(start=2)),
        ("a pod that starts already will take a call", observed(starting("a"), queued=1), Plan()),
        ("a pod takes as many calls as it may at once", observed(queued=25, limits=WIDE), Plan(start=3)),
        (
            "a draining pod is replaced",
            observed(a_pod("a", state=PodState.DRAINING, in_flight=1), queued=1, limits=replace(LIMITS, maximum=1)),
            Plan(start=1),
        ),
        ("the minimum is kept without any call", observed(limits=MINIMUM_2), Plan(start=2)),
        ("pods that start count towards the minimum", observed(starting("a"), limits=MINIMUM_2), Plan(start=1)),
        ("a minimum above the maximum wins", observed(limits=replace(LIMITS, minimum=6)), Plan(start=6)),
        ("a pod in its idle time stays", observed(a_pod("a", idle_for=10)), Plan(wake_at=NOW + 50)),
        ("a pod that was idle long enough goes", observed(a_pod("a", idle_for=60)), Plan(stop=("a",))),
        ("a pod with a call in it never goes", observed(a_pod("a", in_flight=1, idle_for=900)), Plan()),
        (
            "the longest idle goes first, down to the minimum",
            observed(a_pod("a", idle_for=70), a_pod("b", idle_for=90), a_pod("c", idle_for=80), limits=MINIMUM_2),
            Plan(stop=("b",)),
        ),
        (
            "a busy pod counts towards the minimum",
            observed(busy("a"), busy("b"), a_pod("c", idle_for=60), limits=MINIMUM_2),
            Plan(stop=("c",)),
        ),
        (
            "a lowered maximum is enforced at once on idle pods",
            observed(a_pod("a", idle_for=1), a_pod("b", idle_for=2), limits=replace(LIMITS, maximum=1)),
            Plan(stop=("b",), wake_at=NOW + 59, full=True),
        ),
        (
            "a group with all the pods it may have is full, whether they serve or start",
            observed(busy("a"), starting("b"), queued=9, limits=replace(LIMITS, maximum=2)),
            Plan(full=True),
        ),
        ("nothing goes while calls wait", observed(a_pod("a", idle_for=99), queued=1), Plan(start=1)),
        (
            "a retired group stops what is idle or unfinished and keeps what is busy",
            observed(busy("a"), a_pod("b"), starting("c"), retired=True, limits=MINIMUM_2),
            Plan(stop=("c", "b")),
        ),
        ("a retired group still serves who waits", observed(queued=1, retired=True, limits=MINIMUM_2), Plan(start=1)),
        (
            "after a failure the next pod waits its time",
            observed(queued=5, troubled=True, not_before=NOW + 8),
            Plan(wake_at=NOW + 8),
        ),
        ("after a failure pods come one at a time", observed(queued=5, troubled=True, not_before=NOW), Plan(start=1)),
        ("after a failure none comes beside another", observed(starting("a"), queued=5, troubled=True), Plan()),
        (
            "the minimum too waits its time after a failure",
            observed(a_pod("a", idle_for=5), limits=MINIMUM_2, troubled=True, not_before=NOW + 8),
            Plan(wake_at=NOW + 8),
        ),
        (
            "of two times to look again the nearer counts",
            observed(
                a_pod("a", idle_for=58),
                starting("b"),
                limits=replace(LIMITS, minimum=0),
                troubled=True,
                not_before=NOW + 8,
            ),
            Plan(wake_at=NOW + 2),
        ),
    ],
)
def test_a_group_is_scaled_so_that(case: str, seen: Observed, plan: Plan) -> None:
    assert decide(seen, NOW) == plan, case


pods = st.lists(
    st.builds(
        PodView,
        name=st.uuids().map(str),
        state=st.sampled_from([state for state in PodState if state is not PodState.GONE]),
        in_flight=st.integers(0, 3),
        idle_since=st.floats(0, NOW),
    ),
    max_size=12,
)


@given(
    pods=pods,
    queued=st.integers(0, 100),
    minimum=st.integers(0, 5),
    maximum=st.integers(1, 10),
    concurrency=st.integers(1, 5),
    retired=st.booleans(),
    troubled=st.booleans(),
    not_before=st.floats(0, 2 * NOW),
)
def test_whatever_is_seen_the_bounds_hold(
    *,
    pods: list[PodView],
    queued: int,
    minimum: int,
    maximum: int,
    concurrency: int,
    retired: bool,
    troubled: bool,
    not_before: float,
) -> None:
    limits = Limits(minimum=minimum, maximum=maximum, concurrency=concurrency, idle_seconds=60)
    plan = decide(
        observed(*pods, limits=limits, queued=queued, retired=retired, troubled=troubled, not_before=not_before),
        NOW,
    )
    by_name = {pod.name: pod for pod in pods}
    serving = [pod for pod in pods if pod.state is PodState.READY]
    live = len(serving) + sum(1 for pod in pods if pod.state.starting)
    assert plan.start == 0 or live + plan.start <= max(maximum, minimum)
    assert plan.start == 0 or not_before <= NOW
    assert not (plan.full and plan.start)
    assert all(by_name[name].state.starting or not by_name[name].in_flight for name in plan.stop)
    assert not (plan.start and plan.stop and not retired)
    if not retired and plan.stop:
        assert len(serving) - len(plan.stop) >= min(minimum, len(serving))
    if queued and not live and not_before <= NOW:
        assert plan.start, "calls that wait are never forgotten"
    if queued and not live and not_before > NOW:
        assert plan.wake_at is not None
