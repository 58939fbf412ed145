from datetime import UTC, datetime

from appfn.shim.project_owners import ProjectOwners

FIRST, SECOND = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


def test_the_oldest_namespace_has_an_id_whoever_is_seen_first() -> None:
    owners: ProjectOwners[str] = ProjectOwners()
    owners.put("late", "shop", "of late", made=SECOND)
    assert owners.owner("shop") == "of late"

    owners.put("early", "shop", "of early", made=FIRST)

    assert owners.owner("shop") == "of early"
    assert (owners.of("early"), owners.of("late"), owners.of("other")) == ("of early", None, None)


def test_an_id_goes_to_the_next_when_its_namespace_goes() -> None:
    owners: ProjectOwners[str] = ProjectOwners()
    owners.put("early", "shop", "of early", made=FIRST)
    owners.put("late", "shop", "of late", made=SECOND)

    owners.remove("early")
    owners.remove("never there")

    assert (owners.owner("shop"), owners.of("late")) == ("of late", "of late")
    owners.put("late", "other", "of other", made=SECOND)
    assert (owners.owner("shop"), owners.owner("other")) == (None, "of other")
