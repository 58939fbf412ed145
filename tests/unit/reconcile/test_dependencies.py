"""What the controllers are given."""

from appfn.api.kinds import DEPLOYMENT, FUNCTION
from appfn.reconcile.dependencies import Seen


def test_of_each_kind_the_newest_version_counts_in_whatever_order_they_are_told() -> None:
    seen = Seen()
    assert seen.version(DEPLOYMENT) == ""
    for version in ("9", "10", "8", "opaque", ""):
        seen.note(DEPLOYMENT, version)
    assert seen.version(DEPLOYMENT) == "10"
    assert seen.version(FUNCTION) == ""


def test_a_version_is_covered_by_one_of_its_kind_that_is_no_older() -> None:
    seen = Seen()
    seen.note(DEPLOYMENT, "10")
    assert [seen.covers(DEPLOYMENT, version) for version in ("9", "10", "11", "opaque")] == [True, True, False, False]
    assert not seen.covers(FUNCTION, "9")
