"""What appfn may do, by the table: anything more has to be added here knowingly."""

from typing import Any

import pytest

from appfn.shim.rest.routes import operations

Json = dict[str, Any]

Right = tuple[str, str, str]
"""API group, resource, verb."""
LOOK = ("get", "list", "watch")


def rights(group: str, resources: tuple[str, ...], verbs: tuple[str, ...]) -> set[Right]:
    return {(group, resource, verb) for resource in resources for verb in verbs}


OWN = ("functions", "deployments", "executions", "runtimes")
ROLES: dict[str, set[Right]] = {
    "ClusterRole/appfn-operator": rights("appfn.dev", OWN, LOOK)
    | rights("appfn.dev", tuple(f"{plural}/status" for plural in OWN), ("patch",))
    | rights("", ("namespaces", "nodes", "pods"), LOOK)
    | rights("batch", ("jobs", "cronjobs"), LOOK)
    | rights("apps", ("deployments",), ("list", "watch")),
    "ClusterRole/appfn-operator-project": rights("appfn.dev", ("deployments",), ("patch",))
    | rights("appfn.dev", ("executions",), ("create", "patch", "delete"))
    | rights("batch", ("jobs",), ("create", "delete"))
    | rights("batch", ("cronjobs",), ("create", "patch", "delete"))
    | rights("apps", ("deployments",), ("create", "patch", "delete"))
    | rights("", ("configmaps", "pods/log"), ("get",))
    | rights("events.k8s.io", ("events",), ("list",)),
    "Role/appfn-operator": rights("coordination.k8s.io", ("leases",), ("create", "get", "patch")),
    "ClusterRole/appfn-shim": rights("appfn.dev", ("functions", "deployments", "runtimes"), LOOK)
    | rights("", ("namespaces",), LOOK)
    | rights("authentication.k8s.io", ("tokenreviews",), ("create",))
    | rights("authorization.k8s.io", ("subjectaccessreviews",), ("create",)),
    "ClusterRole/appfn-shim-project": rights("", ("pods",), (*LOOK, "create", "patch", "delete"))
    | rights("appfn.dev", ("functions", "deployments"), ("create", "patch", "delete"))
    | rights("", ("configmaps",), ("get",))
    | rights("", ("secrets",), ("get", "create", "patch"))
    | rights("appfn.dev", ("executions",), ("get", "list", "delete")),
    "Role/appfn-shim": rights("", ("secrets",), ("create", "get")) | rights("", ("pods",), ("list",)),
    "ClusterRole/appfn-view": rights("appfn.dev", OWN[:3], LOOK),
    "ClusterRole/appfn-edit": rights("appfn.dev", OWN[:3], ("create", "update", "patch", "delete", "deletecollection")),
    "ClusterRole/appfn-runtime-viewer": rights("appfn.dev", ("runtimes",), LOOK),
}


@pytest.fixture(scope="session")
def roles(everything: list[Json]) -> dict[str, Json]:
    found = [item for item in everything if item["kind"] in {"Role", "ClusterRole"}]
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in found}


def granted(role: Json) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_table_is_complete(roles: dict[str, Json]) -> None:
    assert roles.keys() == ROLES.keys()


@pytest.mark.parametrize("name", ROLES)
def test_a_role_grants_what_the_table_says(roles: dict[str, Json], name: str) -> None:
    assert granted(roles[name]) == ROLES[name]


def test_no_role_has_a_wildcard(roles: dict[str, Json]) -> None:
    assert [name for name, role in roles.items() if any("*" in right for right in granted(role))] == []


def test_nobody_can_list_secrets(roles: dict[str, Json]) -> None:
    secrets = {verb for role in roles.values() for _, resource, verb in granted(role) if resource == "secrets"}

    assert secrets == {"get", "create", "patch"}


def test_no_secret_can_be_read_in_a_namespace_that_is_no_project(
    everything: list[Json], roles: dict[str, Json]
) -> None:
    bound = [item["roleRef"]["name"] for item in everything if item["kind"] == "ClusterRoleBinding"]
    cluster_wide = {right for name in bound for right in granted(roles[f"ClusterRole/{name}"])}

    assert len(bound) == 3
    assert not {resource for _, resource, _ in cluster_wide} & {"secrets", "configmaps", "pods/log", "pods/exec"}


def test_in_the_system_namespace_only_the_named_secret_and_lease_can_be_read_besides_pods(
    roles: dict[str, Json],
) -> None:
    for role, allowed in (("Role/appfn-shim", "appfn-keys"), ("Role/appfn-operator", "appfn-operator")):
        rules = [rule for rule in roles[role]["rules"] if rule["resources"] != ["pods"]]
        named = [rule for rule in rules if rule["verbs"] != ["create"]]

        assert [rule["resourceNames"] for rule in named] == [[allowed]]


def test_nobody_but_operator_and_shim_gets_a_right_in_a_project(everything: list[Json]) -> None:
    bindings = [item for item in everything if item["kind"].endswith("RoleBinding")]
    accounts = {subject["name"] for item in bindings for subject in item["subjects"]}

    assert accounts == {"appfn-operator", "appfn-shim", "system:authenticated"}


def test_who_may_edit_a_namespace_may_do_there_what_the_api_asks_of_a_workload(roles: dict[str, Json]) -> None:
    given = granted(roles["ClusterRole/appfn-view"]) | granted(roles["ClusterRole/appfn-edit"])
    given |= granted(roles["ClusterRole/appfn-runtime-viewer"])
    asked = {(item.access.kind.group, item.access.kind.plural, item.access.verb) for item in operations()}

    assert asked - given == set()
