import pytest

from localcluster import network, ports
from localcluster.errors import ClusterError
from localcluster.ports import Network


def test_networks_overlap_nothing_that_is_taken() -> None:
    taken = [Network("192.0.2.0/24"), Network("10.207.3.0/24")]
    pods, services = ports.choose_networks(taken)
    assert not pods.overlaps(services)
    assert not any(chosen.overlaps(network) for chosen in (pods, services) for network in taken)


def test_networks_are_found_beside_a_route_to_all_of_ten() -> None:
    pods, services = ports.choose_networks([Network("10.0.0.0/8")])
    assert not pods.overlaps(Network("10.0.0.0/8"))
    assert not services.overlaps(Network("10.0.0.0/8"))


def test_a_host_that_routes_everything_elsewhere_is_told_what_to_leave_free() -> None:
    with pytest.raises(ClusterError, match=r"leave one of 10\.207\.0\.0/16.* free"):
        ports.choose_networks([Network("0.0.0.0/0")])


def test_free_ports_differ() -> None:
    found = ports.free_ports("a", "b", "c")
    assert list(found) == ["a", "b", "c"]
    assert len(set(found.values())) == 3


def test_a_remembered_port_is_kept_while_nobody_else_has_it() -> None:
    remembered = ports.free_ports("a", "b")
    assert ports.kept_if_free(remembered) == remembered


def test_pods_use_the_hosts_name_servers() -> None:
    etc = "# by hand\nnameserver 192.0.2.53\nsearch example.org\nnameserver 192.0.2.54\n"
    assert network.pod_resolv_conf(etc, None) == "nameserver 192.0.2.53\nnameserver 192.0.2.54\n"


def test_a_resolver_on_loopback_is_replaced_by_those_it_asks() -> None:
    found = network.pod_resolv_conf("nameserver 127.0.0.53\n", "nameserver 192.0.2.53\n")
    assert found == "nameserver 192.0.2.53\n"


@pytest.mark.parametrize("etc", ["", "nameserver 127.0.0.1\n", "nameserver fd00::53\n"])
def test_without_a_name_server_for_pods_the_remedy_is_named(etc: str) -> None:
    with pytest.raises(ClusterError, match="add a line `nameserver ADDRESS`"):
        network.pod_resolv_conf(etc, None)


LISTING = """\
-P INPUT ACCEPT
-N DOCKER
-N KUBE-FIREWALL
-A INPUT -i appfn0 -m comment --comment "appfn localcluster" -j ACCEPT
-A INPUT -j KUBE-FIREWALL
-A INPUT -j DOCKER
-A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" -j DROP
-A FORWARD -o appfn0 -m comment --comment "appfn localcluster" -j ACCEPT
""".splitlines()


def test_only_our_own_rules_are_taken_out() -> None:
    mark = ["-m", "comment", "--comment", "appfn localcluster", "-j", "ACCEPT"]
    assert network.own_deletions(LISTING) == [
        ["-D", "INPUT", "-i", "appfn0", *mark],
        ["-D", "FORWARD", "-o", "appfn0", *mark],
    ]


def test_chains_of_kube_proxy_go_after_the_jumps_to_them() -> None:
    assert network.leftover_deletions(LISTING) == [
        ["-D", "INPUT", "-j", "KUBE-FIREWALL"],
        ["-F", "KUBE-FIREWALL"],
        ["-X", "KUBE-FIREWALL"],
    ]


def test_pods_leave_under_the_hosts_address_but_meet_each_other_under_their_own() -> None:
    matches = [match for table, _, match in network.rules(Network("10.207.0.0/22")) if table == "nat"]
    assert [match[:5] for match in matches] == [["-s", "10.207.0.0/22", "!", "-d", "10.207.0.0/22"]]
