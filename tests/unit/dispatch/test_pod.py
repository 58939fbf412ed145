import pytest

from appfn.api.kinds import Key
from appfn.api.runtime import Architecture
from appfn.core.records import Times
from appfn.dispatch.pod import PodState, RuntimePod, Timeline
from appfn.dispatch.tokens import load_token, load_token_hash, runtime_key

TIMELINE = Timeline(created=10.0, addressed=10.5, loaded=11.0, boot_seconds=0.1)


@pytest.mark.parametrize(
    ("since", "until", "times"),
    [
        (9.9, 11.2, Times(queue_ms=300, claim_ms=500, load_ms=400, boot_ms=100)),
        (10.2, 11.0, Times(claim_ms=300, load_ms=400, boot_ms=100)),
        (10.95, 11.0, Times(boot_ms=50)),
        (12.0, 12.0, Times()),
        (12.0, 14.5, Times(queue_ms=2500)),
    ],
)
def test_only_what_a_call_waited_for_counts_as_its_time(since: float, until: float, times: Times) -> None:
    assert TIMELINE.waited(since, until) == times


async def test_a_pod_only_moves_forward() -> None:
    pod = a_pod()
    pod.advance(PodState.GONE)
    pod.advance(PodState.READY)
    assert pod.state is PodState.GONE


async def test_the_first_reason_of_a_pods_end_stands() -> None:
    pod = a_pod()
    pod.observe({"metadata": {}, "status": {"phase": "Failed", "reason": "Evicted"}})
    pod.vanish()
    pod.vanish()
    assert pod.ending.result() == "Evicted"


async def test_why_a_pod_waits_is_remembered_when_the_status_falls_silent() -> None:
    pod = a_pod()
    waiting = {"name": "runtime", "state": {"waiting": {"reason": "ErrImagePull"}}}
    pod.observe({"metadata": {}, "status": {"containerStatuses": [waiting]}})
    pod.observe({"metadata": {}, "status": {}})
    assert "ErrImagePull" in pod.waiting


def test_tokens_differ_by_purpose_pod_and_master_key() -> None:
    tokens = {
        load_token(b"k", namespace="a", pod="b"),
        load_token(b"k", namespace="a", pod="c"),
        load_token(b"k", namespace="b", pod="b"),
        load_token(b"l", namespace="a", pod="b"),
        runtime_key(b"k", namespace="a", pod="b"),
        load_token_hash(load_token(b"k", namespace="a", pod="b")),
    }
    assert len(tokens) == 6
    assert len(runtime_key(b"k", namespace="a", pod="b")) == 32


def a_pod() -> RuntimePod:
    return RuntimePod(key=Key("shop", "greet"), architecture=Architecture.AMD64, runtime_key="k", created=0.0)
