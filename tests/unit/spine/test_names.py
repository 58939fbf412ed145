"""Names of children: short enough, never meeting, the same every time."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfn import names

DNS_LABEL = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
DEPLOYMENTS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
SUFFIXES = st.from_regex(r"[0-9a-f]{10}", fullmatch=True)
APPWRITE_IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}", fullmatch=True)


def test_a_name_that_fits_is_left_as_it_is() -> None:
    assert names.build_job("hello-v1", "amd64", 2) == "hello-v1-build-amd64-2"


def test_a_name_that_does_not_fit_is_cut_and_stays_unique() -> None:
    first = names.build_job("x" * 63, "amd64", 1)
    second = names.build_job("x" * 63, "amd64", 2)

    assert len(first) == len(second) == names.MAX_NAME
    assert first != second


def test_a_cron_job_leaves_room_for_what_kubernetes_adds() -> None:
    assert len(names.cron_job("f" * 63)) == 52


@given(st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", fullmatch=True))
def test_a_pool_leaves_room_for_what_kubernetes_adds_to_its_pods(runtime: str) -> None:
    name = names.pool(runtime, "amd64")

    assert re.match(DNS_LABEL, name)
    assert len(name) <= 40


def test_pools_of_runtimes_that_differ_in_a_dot_do_not_meet() -> None:
    assert names.pool("node-20.0", "amd64") != names.pool("node-20-0", "amd64")
    assert names.pool("python-3.13", "amd64") == "appfn-pool-python-3-13-d888c03a-amd64"


@pytest.mark.parametrize("same", ["hello", "6213b58cb21dda6c3263", "a-b-c"])
def test_an_id_that_is_a_dns_label_is_its_own_name(same: str) -> None:
    assert names.resource_name(same) == same


@given(APPWRITE_IDS)
def test_every_appwrite_id_has_a_name_kubernetes_takes(appwrite_id: str) -> None:
    name = names.resource_name(appwrite_id)

    assert re.match(DNS_LABEL, name)
    assert len(name) <= names.MAX_NAME


@given(APPWRITE_IDS, APPWRITE_IDS)
def test_two_ids_never_share_a_name(first: str, second: str) -> None:
    assert (names.resource_name(first) == names.resource_name(second)) == (first == second)


@given(DEPLOYMENTS, SUFFIXES)
def test_a_runtime_pod_is_one_of_its_deployment(deployment: str, suffix: str) -> None:
    name = names.runtime_pod(deployment, suffix)

    assert re.match(DNS_LABEL, name)
    assert len(name) <= names.MAX_NAME
    assert names.is_runtime_pod(name, deployment)


@given(DEPLOYMENTS, SUFFIXES, st.data())
def test_a_runtime_pod_is_one_of_no_other_deployment(deployment: str, suffix: str, data: st.DataObject) -> None:
    name = names.runtime_pod(deployment, suffix)
    cut = st.integers(1, len(name)).map(lambda end: name[:end].rstrip("-"))
    other = data.draw(st.one_of(DEPLOYMENTS, cut, cut.map(lambda begin: f"{begin}-{suffix}"[:63].rstrip("-"))))

    assert names.is_runtime_pod(name, other) is (other == deployment)


LONG = "a" * 53


@pytest.mark.parametrize(
    ("pod", "deployment"),
    [
        ("a-b-0123456789", "a"),
        ("a-0123456789", "a-b"),
        ("a-0123456789-0123456789", "a"),
        ("a-012345678", "a"),
        ("a-01234567890", "a"),
        ("a-012345678g", "a"),
        ("a-0123456789\n", "a"),
        ("a-", "a"),
        ("a", "a"),
        ("", "a"),
        ("a0123456789", "a"),
        (f"{LONG}-0123456789", LONG),
        (names.child_name(LONG, "0123456789"), LONG),
        (names.runtime_pod(LONG, "0123456789"), f"{LONG}a"),
        (names.runtime_pod(LONG, "0123456789"), names.runtime_pod(LONG, "0123456789")[:-10]),
        (names.runtime_pod(LONG, "0123456789"), names.runtime_pod(LONG, "0123456789")[:-11]),
    ],
)
def test_what_only_looks_like_a_pod_of_a_deployment_is_none(pod: str, deployment: str) -> None:
    assert not names.is_runtime_pod(pod, deployment)


def test_an_announce_secret_is_another_one_for_a_later_namesake() -> None:
    assert names.announce_secret("hello-v1", "0a1b2c3d-1") == "hello-v1-announce-0a1b2c3d"
    assert names.announce_secret("x" * 63, "0a1b2c3d") != names.announce_secret("x" * 63, "0a1b2c3e")
