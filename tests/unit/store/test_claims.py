"""Who is served next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfn.store.claims import alternate, in_turn
from appfn.store.leases import fate

WAITING = st.dictionaries(st.text("abc", min_size=1, max_size=2), st.integers(0, 8), max_size=6).map(
    lambda sizes: {uid: [f"{uid}-{n}" for n in range(size)] for uid, size in sizes.items()},
)


@given(WAITING, st.integers(0, 30))
def test_turns_are_fair(waiting: dict[str, list[str]], limit: int) -> None:
    chosen = alternate(waiting, limit=limit)
    assert len(chosen) == min(limit, sum(map(len, waiting.values())))
    taken = {uid: [key for key in chosen if key in keys] for uid, keys in waiting.items()}
    for uid, keys in taken.items():
        assert keys == waiting[uid][: len(keys)]
        left = len(keys) < len(waiting[uid])
        for other in taken.values():
            # Nobody has two more than somebody who still waits.
            assert not left or len(other) <= len(keys) + 1


@given(st.lists(st.text("abcd", max_size=3), unique=True).map(sorted), st.text("abcd", max_size=3))
def test_every_function_comes_once_and_the_last_one_served_comes_last(functions: list[str], after: str) -> None:
    turn = in_turn(functions, after=after)
    assert sorted(turn) == functions
    if after in functions:
        assert turn[-1] == after


@pytest.mark.parametrize(
    ("phase", "attempt", "max_attempts", "expected"),
    [
        ("waiting", 0, 1, "requeued"),
        ("waiting", 1, 2, "requeued"),
        ("processing", 1, 1, "lost"),
        ("processing", 1, 2, "retried"),
        ("processing", 2, 2, "lost"),
        ("processing", 3, 2, "lost"),
    ],
)
def test_what_a_dead_worker_leaves_is_never_run_more_often_than_allowed(
    phase: str,
    attempt: int,
    max_attempts: int,
    expected: str,
) -> None:
    assert fate(phase, attempt, max_attempts) == expected
