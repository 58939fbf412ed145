"""What one process may have of a function's pods and of the calls that wait for them."""

import pytest

from appfn.api.function import Function
from appfn.core.shares import Part, capacity
from appfn.dispatch.source import Source
from support.dispatching import a_runtime


def sources(*, processes: int, **scaling: int) -> list[Source]:
    metadata = {"name": "greet", "namespace": "shop", "uid": "uid-greet"}
    function = Function.parse({"metadata": metadata, "spec": {"runtime": "node-20.0", "scaling": scaling}})
    runtime = a_runtime(concurrency=4)
    return [Source(function, runtime, Part(index, processes)) for index in range(processes)]


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("pods", [1, 2, 5, 100])
def test_all_processes_together_have_what_the_function_may_have(processes: int, pods: int) -> None:
    made = sources(processes=processes, minReplicas=pods // 2, maxReplicas=pods, concurrency=3)

    limits = [source.limits() for source in made]
    assert sum(each.minimum for each in limits) == pods // 2
    assert sum(each.maximum for each in limits) == pods
    assert all(each.minimum <= each.maximum and each.concurrency == 3 for each in limits)
    assert sum(source.share(1000) for source in made) == 1000
    assert [source.share(1000) > 0 for source in made] == [each.maximum > 0 for each in limits]
    assert pods < 2 or all(each.minimum > 0 for each in limits if each.maximum)  # nobody serves without a loaded pod


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_a_process_takes_on_no_more_than_its_pods_can_run(processes: int) -> None:
    made = sources(processes=processes, maxReplicas=2, concurrency=3)

    capacities = [capacity(source.function, source.runtime, source.part) for source in made]
    assert capacities == [3 * source.limits().maximum for source in made]
    assert sum(capacities) == 6


@pytest.mark.parametrize(("pods", "room"), [(1, 100), (25, 100), (50, 200)])
def test_as_many_calls_may_wait_as_can_run_and_no_fewer_than_the_least(pods: int, room: int) -> None:
    [source] = sources(processes=1, maxReplicas=pods, concurrency=4)

    assert source.room(100) == room
