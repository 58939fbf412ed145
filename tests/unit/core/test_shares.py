"""Parts of processes: they sum to the whole, and calls find one that has a part."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfn import config
from appfn.api.function import Scaling
from appfn.config import MAX_PROCESSES
from appfn.core.shares import ALONE, Part, servers

TOTALS = st.integers(0, 2000)
COUNTS = st.integers(1, MAX_PROCESSES)
SERVERS = st.integers(1, 100)
SALTS = st.text(max_size=40)


def parts(count: int) -> list[Part]:
    return [Part(index, count) for index in range(count)]


@given(TOTALS, COUNTS, SALTS)
def test_shares_sum_to_the_total_and_differ_by_one_at_most(total: int, count: int, salt: str) -> None:
    shares = [part.share(total, salt) for part in parts(count)]

    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


@given(TOTALS, TOTALS, COUNTS, SALTS)
def test_a_larger_total_takes_nothing_from_anybody(total: int, more: int, count: int, salt: str) -> None:
    # So who may have `minReplicas` pods may also have `maxReplicas`.
    assert all(part.share(total, salt) <= part.share(total + more, salt) for part in parts(count))


@given(TOTALS, SERVERS, COUNTS, SALTS)
def test_what_some_processes_share_the_others_have_nothing_of(total: int, few: int, count: int, salt: str) -> None:
    shares = [part.share(total, salt, servers=few) for part in parts(count)]

    assert sum(shares) == total
    assert sum(1 for share in shares if share) == min(total, few, count)


@given(SERVERS, COUNTS, SALTS)
def test_whoever_is_asked_a_process_with_a_share_serves(few: int, count: int, salt: str) -> None:
    for part in parts(count):
        server = part.server(salt, servers=few)
        assert Part(server, count).share(few, salt, servers=few) > 0
        assert (server == part.index) == (part.share(few, salt, servers=few) > 0)


@given(SERVERS, COUNTS, SALTS)
def test_one_serves_whatever_the_limits_and_all_agree_who_it_is(few: int, count: int, salt: str) -> None:
    (first,) = {part.first_server(salt) for part in parts(count)}

    assert Part(first, count).server(salt, servers=few) == first


def test_functions_with_one_pod_are_spread_over_the_processes() -> None:
    owners = Counter(Part(0, 4).first_server(f"uid-{number}") for number in range(4000))

    assert sorted(owners) == [0, 1, 2, 3]
    assert min(owners.values()) > 850


def test_those_who_have_no_share_turn_to_different_ones_that_have() -> None:
    owners = Counter(part.server("uid", servers=2) for part in parts(8))

    assert sorted(owners.values()) == [4, 4]


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        pytest.param({"maxReplicas": 10}, 10, id="each may have a pod"),
        pytest.param({"maxReplicas": 10, "minReplicas": 2}, 2, id="each keeps a pod loaded"),
    ],
)
def test_where_pods_are_kept_loaded_only_who_keeps_one_serves(scaling: dict[str, int], expected: int) -> None:
    # Else a function with `minReplicas` would have cold starts in the processes without.
    assert servers(Scaling.model_validate(scaling)) == expected


def test_the_rotation_never_changes() -> None:
    # Else the pods of a function would move at an upgrade, and replicas of two versions disagree.
    assert [Part(index, 3).share(4, "6ffa8a1e-0000") for index in range(3)] == [1, 1, 2]


def test_a_process_alone_has_all_and_the_pods_own_name() -> None:
    assert ALONE.share(7, "uid") == 7
    assert ALONE.server("uid", servers=1) == 0
    assert ALONE.replica("appfn-shim-0") == "appfn-shim-0"


def test_processes_have_names_of_their_own() -> None:
    assert [part.replica("appfn-shim-0") for part in parts(2)] == ["appfn-shim-0-0", "appfn-shim-0-1"]


def test_the_first_of_fewer_processes_removes_what_the_others_left() -> None:
    former = Part(0, 2).former("shim-0")

    assert {"shim-0", "shim-0-2", f"shim-0-{MAX_PROCESSES - 1}"} <= former
    assert not {"shim-0-0", "shim-0-1"} & former
    assert Part(1, 2).former("shim-0") == frozenset()


def test_a_process_that_is_alone_removes_what_several_left() -> None:
    former = ALONE.former("shim-0")

    assert {"shim-0-0", "shim-0-1"} <= former
    assert "shim-0" not in former


@pytest.mark.parametrize(
    ("environ", "part"),
    [
        pytest.param({}, ALONE, id="as it comes"),
        pytest.param({"APPFN_PROCESSES": "3", "APPFN_PROCESS_INDEX": "2"}, Part(2, 3), id="one of several"),
        pytest.param({"APPFN_PROCESSES": "3"}, ALONE, id="not started by a supervisor"),
    ],
)
def test_the_part_is_read_from_the_configuration(environ: dict[str, str], part: Part) -> None:
    assert Part.of(config.load({"APPFN_IMAGE": "appfn", **environ}).shim) == part
