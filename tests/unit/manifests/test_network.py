"""The NetworkPolicies, evaluated as their documentation says, against a matrix of who may reach whom."""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

Json = dict[str, Any]
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A pod, or an address outside the cluster when it has no namespace."""

    namespace: str = ""
    labels: Labels = field(default_factory=dict)
    address: str = "10.244.0.9"


def user_pod(component: str) -> Place:
    return Place(namespace="demo", labels={"app.kubernetes.io/managed-by": "appfn", "appfn.dev/component": component})


RUNTIME, BUILD, SCHEDULE = user_pod("runtime"), user_pod("build"), user_pod("schedule")
OPERATOR, SHIM = (
    Place(
        namespace="appfn-system",
        labels={"app.kubernetes.io/name": f"appfn-{name}", "app.kubernetes.io/part-of": "appfn"},
    )
    for name in ("operator", "shim")
)
DNS = Place(namespace="kube-system", labels={"k8s-app": "kube-dns"})
STRANGER = Place(namespace="default", labels={"app.kubernetes.io/name": "appfn-shim"})
NEIGHBOUR = Place(namespace="demo", labels={"app": "database"})
PROMETHEUS = Place(namespace="monitoring", labels={"app": "prometheus"})
INTERNET = Place(address="151.101.1.1")
INTERNET_6 = Place(address="2a04:4e42::1")
METADATA = Place(address="169.254.169.254")
METADATA_AZURE = Place(address="168.63.129.16")
METADATA_6 = Place(address="fd00:ec2::254")
NODE = Place(address="192.168.1.10")
NAMESPACES: Mapping[str, Labels] = {
    name: {"kubernetes.io/metadata.name": name} for name in ("appfn-system", "default", "kube-system")
} | {
    "demo": {"kubernetes.io/metadata.name": "demo", "appfn.dev/project": "demo"},
    "monitoring": {"kubernetes.io/metadata.name": "monitoring", "appfn.dev/metrics": "true"},
}
PORTS = {"http": 8080, "health": 8080, "metrics": 9090}

MATRIX = [
    (SHIM, RUNTIME, 3000, True),
    (SHIM, RUNTIME, 3001, True),
    (SHIM, RUNTIME, 22, False),
    (STRANGER, RUNTIME, 3000, False),
    (NEIGHBOUR, RUNTIME, 3000, False),
    (RUNTIME, RUNTIME, 3000, False),
    (OPERATOR, RUNTIME, 3001, False),
    (RUNTIME, DNS, 53, True),
    (RUNTIME, INTERNET, 443, True),
    (RUNTIME, INTERNET_6, 443, True),
    (RUNTIME, METADATA, 80, False),
    (RUNTIME, METADATA_6, 80, False),
    (RUNTIME, METADATA_AZURE, 80, False),
    (RUNTIME, NODE, 6443, False),
    (RUNTIME, SHIM, 8080, True),
    (RUNTIME, NEIGHBOUR, 5432, False),
    (BUILD, SHIM, 8080, True),
    (BUILD, DNS, 53, True),
    (BUILD, INTERNET, 443, True),
    (BUILD, METADATA, 80, False),
    (BUILD, METADATA_AZURE, 32526, False),
    (BUILD, NODE, 10250, False),
    (BUILD, NEIGHBOUR, 5432, False),
    (SHIM, BUILD, 3001, False),
    (SCHEDULE, SHIM, 8080, True),
    (SCHEDULE, DNS, 53, True),
    (SCHEDULE, INTERNET, 443, False),
    (NEIGHBOUR, SHIM, 8080, True),
    (OPERATOR, SHIM, 8080, True),
    (OPERATOR, NODE, 6443, True),
    (OPERATOR, DNS, 53, True),
    (OPERATOR, INTERNET, 80, False),
    (SHIM, NODE, 443, True),
    (SHIM, OPERATOR, 8080, False),
    (STRANGER, OPERATOR, 8080, False),
    (PROMETHEUS, OPERATOR, 8080, True),
    (PROMETHEUS, SHIM, 9090, True),
    (STRANGER, SHIM, 9090, False),
    (RUNTIME, SHIM, 9090, False),
    (NEIGHBOUR, SHIM, 9090, False),
    (OPERATOR, SHIM, 9090, False),
]


@pytest.fixture(scope="session")
def policies(documents: Callable[[str], list[Json]]) -> list[Json]:
    places = {"manifests/base/network.yaml": "appfn-system", "manifests/project/network.yaml": "demo"}
    found = [(item, namespace) for place, namespace in places.items() for item in documents(place)]
    return [item | {"metadata": item["metadata"] | {"namespace": namespace}} for item, namespace in found]


@pytest.mark.parametrize(("source", "target", "port", "allowed"), MATRIX)
def test_who_may_reach_whom(policies: list[Json], source: Place, target: Place, port: int, *, allowed: bool) -> None:
    leaves = permits(policies, source, target, port, direction="Egress")
    enters = permits(policies, target, source, port, direction="Ingress")

    assert (leaves and enters) is allowed


def permits(policies: list[Json], subject: Place, peer: Place, port: int, *, direction: str) -> bool:
    """Tell whether the policies that select a pod let it talk to a peer; without any, all is let through."""
    mine = [
        item["spec"]
        for item in policies
        if item["metadata"]["namespace"] == subject.namespace
        and direction in item["spec"]["policyTypes"]
        and selects(item["spec"]["podSelector"], subject.labels)
    ]
    word = {"Egress": "to", "Ingress": "from"}[direction]
    rules = [rule for spec in mine for rule in spec.get(direction.lower(), [])]
    return not mine or any(matches_port(rule, port) and matches_peer(rule.get(word), peer) for rule in rules)


def matches_port(rule: Json, port: int) -> bool:
    wanted = [entry["port"] for entry in rule.get("ports", [])]
    return not wanted or port in {PORTS.get(name, name) for name in wanted}


def matches_peer(entries: list[Json] | None, peer: Place) -> bool:
    return entries is None or any(matches_entry(entry, peer) for entry in entries)


def matches_entry(entry: Json, peer: Place) -> bool:
    if "ipBlock" in entry:
        address = ipaddress.ip_address(peer.address)
        excepted = any(address in ipaddress.ip_network(block) for block in entry["ipBlock"].get("except", []))
        return address in ipaddress.ip_network(entry["ipBlock"]["cidr"]) and not excepted
    if not peer.namespace:
        return False
    if "namespaceSelector" not in entry:
        return peer.namespace == "appfn-system" and selects(entry["podSelector"], peer.labels)
    return selects(entry["namespaceSelector"], NAMESPACES[peer.namespace]) and selects(
        entry.get("podSelector", {}), peer.labels
    )


def selects(selector: Json, labels: Labels) -> bool:
    terms = selector.get("matchExpressions", [])
    assert all(term["operator"] == "Exists" for term in terms), "teach this evaluator the operator"
    return selector.get("matchLabels", {}).items() <= labels.items() and all(term["key"] in labels for term in terms)
