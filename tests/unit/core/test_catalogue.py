"""The catalogue: which runtimes can be used and what their status says."""

from datetime import timedelta

import pytest

from appfn.api.runtime import Runtime, RuntimeStatus
from appfn.core.catalogue import decide, unusable
from support.objects import NOW, runtime


@pytest.mark.parametrize(
    ("item", "conditions"),
    [
        (runtime(), [("Ready", "True", "Enabled")]),
        (runtime(enabled=False), [("Ready", "True", "Disabled")]),
        (runtime(protocol="v5"), [("Ready", "False", "RuntimeUnsupported"), ("Stalled", "True", "RuntimeUnsupported")]),
    ],
)
def test_a_runtime_says_what_it_is(item: Runtime, conditions: list[tuple[str, str, str]]) -> None:
    found = decide(item, NOW).conditions

    assert [(str(entry.type), str(entry.status), entry.reason) for entry in found] == conditions


def test_at_rest_nothing_is_written() -> None:
    status = decide(runtime(), NOW)
    settled = runtime().model_copy(update={"status": RuntimeStatus.model_validate(status.to_json())})

    assert decide(settled, NOW + timedelta(hours=1)) == settled.status


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (None, "kubectl get runtimes"),
        (runtime(enabled=False), "kubectl patch runtime node-20.0"),
        (runtime(protocol="v4"), "knows v2"),
    ],
)
def test_a_runtime_that_cannot_be_used_says_what_to_do(item: Runtime | None, said: str) -> None:
    problem = unusable("node-20.0", item)

    assert problem is not None
    assert said in problem.message


def test_an_enabled_runtime_can_be_used() -> None:
    assert unusable("node-20.0", runtime()) is None
