import dataclasses
import json
import tomllib

import pytest

from localcluster import addons, configs, flags, nodeconfigs, pki
from localcluster.nodeconfigs import Node


def test_the_apiserver_refuses_anonymous_requests_and_asks_rbac(plane: flags.ControlPlane) -> None:
    command = flags.apiserver(plane)
    assert "--anonymous-auth=false" in command
    assert "--authorization-mode=Node,RBAC" in command
    assert "--enable-admission-plugins=NodeRestriction" in command


def test_the_apiserver_listens_only_where_the_cluster_is(plane: flags.ControlPlane) -> None:
    assert "--bind-address=10.207.0.1" in flags.apiserver(plane)


def test_the_apiserver_knows_no_kubelet_where_there_are_no_nodes(plane: flags.ControlPlane) -> None:
    alone = dataclasses.replace(plane, with_nodes=False)
    assert any("kubelet" in flag for flag in flags.apiserver(plane))
    assert not any("kubelet" in flag for flag in flags.apiserver(alone))


@pytest.mark.parametrize("durable", [True, False])
def test_etcd_forgoes_safety_only_where_its_data_need_not_last(plane: flags.ControlPlane, durable: bool) -> None:  # noqa: FBT001 - a parameter of the table
    command = flags.etcd(dataclasses.replace(plane, durable=durable))
    assert ("--unsafe-no-fsync" in command) is not durable


def test_etcd_listens_on_no_network(plane: flags.ControlPlane) -> None:
    addresses = [flag for flag in flags.etcd(plane) if "-urls=" in flag]
    assert len(addresses) == 4
    assert all("=unix://" in flag for flag in addresses)


def test_the_audit_policy_never_leaves_out_a_write() -> None:
    quiet = [rule for rule in configs.audit_policy()["rules"] if rule["level"] == "None"]
    assert quiet
    assert all(set(rule["verbs"]) <= {"get", "list", "watch"} for rule in quiet)
    assert configs.audit_policy()["rules"][-1] == {"level": "Metadata"}


def test_a_kubeconfig_holds_its_credentials_itself() -> None:
    credentials = configs.Credentials(authority="CA", certificate="CERT", key="KEY")
    document = configs.kubeconfig("https://10.0.0.1:1", "me", credentials)
    assert document["users"] == [
        {"name": "me", "user": {"client-certificate-data": "Q0VSVA==", "client-key-data": "S0VZ"}}
    ]
    assert document["clusters"][0]["cluster"]["certificate-authority-data"] == "Q0E="


def test_the_kubelet_serves_only_whom_the_apiserver_vouches_for(node: Node) -> None:
    document = nodeconfigs.kubelet(node)
    assert document["authentication"]["anonymous"] == {"enabled": False}
    assert document["authentication"]["webhook"] == {"enabled": True}
    assert document["authorization"] == {"mode": "Webhook"}
    assert document["readOnlyPort"] == 0


def test_the_kubelet_keeps_its_pods_apart_from_those_of_another(node: Node) -> None:
    assert nodeconfigs.kubelet(node)["cgroupRoot"] == "/appfn-test"


def test_containerd_keeps_everything_in_the_directories_of_the_cluster(node: Node) -> None:
    document = tomllib.loads(nodeconfigs.containerd(node))
    assert document["root"] == f"{node.layout.state}/containerd"
    assert document["state"] == f"{node.layout.run}/containerd"
    assert document["grpc"]["address"] == f"{node.layout.run}/containerd.sock"


@pytest.mark.parametrize(("overlays", "snapshotter"), [(True, "overlayfs"), (False, "native")])
def test_layers_are_copied_where_they_cannot_be_stacked(node: Node, overlays: bool, snapshotter: str) -> None:  # noqa: FBT001 - a parameter of the table
    document = tomllib.loads(nodeconfigs.containerd(dataclasses.replace(node, overlays_work=overlays)))
    assert document["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["snapshotter"] == snapshotter


@pytest.mark.parametrize("filtered", [True, False])
def test_services_are_masqueraded_only_where_the_bridge_bypasses_the_packet_filter(
    node: Node,
    filtered: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    document = nodeconfigs.kube_proxy(dataclasses.replace(node, bridge_is_filtered=filtered))
    assert document["iptables"]["masqueradeAll"] is not filtered


def test_node_ports_are_not_offered_on_the_addresses_of_the_host(node: Node) -> None:
    assert nodeconfigs.kube_proxy(node)["nodePortAddresses"] == ["primary"]


def test_every_pod_gets_an_address_of_the_pods_range(node: Node) -> None:
    plugin = nodeconfigs.cni(node)["plugins"][0]
    assert plugin["ipam"]["ranges"] == [[{"subnet": "10.207.0.0/22"}]]
    assert node.pods.num_addresses > nodeconfigs.MAX_PODS


def test_volumes_honour_fsgroup_and_stay_on_their_node(node: Node) -> None:
    volume = addons.volume(node, 3)
    assert volume["metadata"]["name"] == "local-03"
    assert volume["spec"]["local"]["path"] == f"{node.layout.state}/volumes/local-03"
    terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert terms[0]["matchExpressions"][0]["values"] == ["test"]


def test_the_dns_pod_is_made_anew_when_the_hosts_name_servers_change(node: Node) -> None:
    def version(servers: str) -> str:
        node.layout.config.mkdir(parents=True, exist_ok=True)
        (node.layout.config / "resolv.conf").write_text(servers)
        deployment = next(item for item in addons.dns(node) if item["kind"] == "Deployment")
        return str(deployment["spec"]["template"]["metadata"]["annotations"]["appfn.dev/configuration"])

    assert version("nameserver 192.0.2.1\n") == version("nameserver 192.0.2.1\n")
    assert version("nameserver 192.0.2.1\n") != version("nameserver 192.0.2.2\n")


def test_the_addons_are_json(node: Node) -> None:
    node.layout.config.mkdir(parents=True)
    (node.layout.config / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    assert json.loads(json.dumps(addons.manifests(node))) == addons.manifests(node)


def test_a_servers_certificate_identifies_no_client() -> None:
    assert "extendedKeyUsage=serverAuth" in pki.apiserver(["127.0.0.1"]).extensions
    assert "extendedKeyUsage=clientAuth" in pki.ADMIN.extensions


def test_a_kubelet_identifies_itself_as_its_own_node() -> None:
    assert pki.node("test").subject == "/O=system:nodes/CN=system:node:test"
