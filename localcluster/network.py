"""The host's side of the cluster's network: bridge, packet filter rules, kernel settings."""

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcluster import commands
from localcluster.errors import ClusterError
from localcluster.ports import Network

BRIDGE = "appfn0"
CNI_NAME = "appfn"

WANTED_SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    # Answers from a pod on the same bridge must pass the packet filter too, or
    # they arrive with the pod's address instead of the Service's.
    "net.bridge.bridge-nf-call-iptables": "1",
}
KUBELET_SYSCTLS = (
    "kernel.keys.root_maxbytes",
    "kernel.keys.root_maxkeys",
    "kernel.panic",
    "kernel.panic_on_oops",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
)
"""What the kubelet sets by itself."""

_DEFAULT_ROUTE_PIECES = 3
_PROXY_CHAIN = "KUBE-SERVICES"
_MARK = "appfn localcluster"
_OWNER = ["-m", "comment", "--comment", _MARK]
Rule = tuple[str, str, list[str]]


def gateway(pods: Network) -> str:
    """The bridge's address: first of the pods' range, and the node's address."""
    return str(pods[1])


def rules(pods: Network) -> list[Rule]:
    """Table, chain and match of every rule of ours, each to be the first of its chain."""
    masquerade = ["-s", str(pods), "!", "-d", str(pods), *_OWNER, "-j", "MASQUERADE"]
    return [
        ("filter", "INPUT", ["-i", BRIDGE, *_OWNER, "-j", "ACCEPT"]),
        ("filter", "FORWARD", ["-i", BRIDGE, *_OWNER, "-j", "ACCEPT"]),
        ("filter", "FORWARD", ["-o", BRIDGE, *_OWNER, "-j", "ACCEPT"]),
        ("nat", "POSTROUTING", masquerade),
    ]


def taken() -> list[Network]:
    """Every IPv4 range this host has a route to or an address in, and its name servers."""
    routes = json.loads(commands.run(["ip", "-json", "-4", "route", "show", "table", "all"], remedy="install iproute2"))
    destinations = [str(route["dst"]) for route in routes if route["dst"] != "default" and route.get("dev") != BRIDGE]
    found = [Network(destination, strict=False) for destination in destinations]
    # Shorter prefixes are a default route in pieces, as VPNs make them.
    found = [network for network in found if network.prefixlen > _DEFAULT_ROUTE_PIECES]
    return found + [Network(server) for server in name_servers(Path("/etc/resolv.conf").read_text())]


def name_servers(resolv_conf: str) -> list[str]:
    """IPv4 addresses of the name servers in a resolv.conf."""
    servers = re.findall(r"^nameserver\s+(\S+)", resolv_conf, re.MULTILINE)
    return [server for server in servers if "." in server and ":" not in server]


def pod_resolv_conf(etc: str, systemd: str | None) -> str:
    """The resolv.conf pods use to reach the world.

    A resolver on the host's loopback can't be reached from a pod; then what
    systemd-resolved itself asks is used. Raises ClusterError if that helps neither.
    """
    for text in (etc, systemd or ""):
        usable = [server for server in name_servers(text) if not ipaddress.ip_address(server).is_loopback]
        if usable:
            return "".join(f"nameserver {server}\n" for server in usable)
    raise ClusterError(
        "/etc/resolv.conf names no name server that pods could reach",
        remedy="add a line `nameserver ADDRESS` that is no loopback address",
    )


def require_no_other_proxy() -> None:
    """Raise ClusterError if another cluster's kube-proxy writes this host's rules."""
    listed = commands.attempt(["iptables", "--wait", "-t", "nat", "-n", "-L", _PROXY_CHAIN])
    if listed.returncode == 0:
        raise ClusterError(
            "another Kubernetes runs its kube-proxy on this host",
            remedy="use that cluster with APPFN_KUBECONFIG, or stop it and remove its rules (`kube-proxy --cleanup`)",
        )


def bridge_exists() -> bool:
    """Whether there is a bridge of our name."""
    return commands.attempt(["ip", "link", "show", BRIDGE]).returncode == 0


def make_bridge(pods: Network) -> None:
    """Make the bridge and give it the gateway's address."""
    if not bridge_exists():
        commands.run(["ip", "link", "add", BRIDGE, "type", "bridge"], remedy="check that the kernel has bridges")
    address = f"{gateway(pods)}/{pods.prefixlen}"
    commands.run(["ip", "address", "replace", address, "dev", BRIDGE])
    commands.run(["ip", "link", "set", BRIDGE, "up"])


def remove_bridge() -> None:
    """Remove the bridge if it is there."""
    commands.attempt(["ip", "link", "delete", BRIDGE])


def add_rules(pods: Network) -> None:
    """Let the pods' packets pass, and out under the host's address."""
    for table, chain, match in rules(pods):
        if not _has_rule(table, chain, match):
            commands.run(["iptables", "--wait", "-t", table, "-I", chain, *match])


def remove_rules() -> None:
    """Take our rules out again, whatever range they were made for."""
    for table in ("filter", "nat"):
        listing = commands.attempt(["iptables", "--wait", "-t", table, "-S"]).stdout
        for command in own_deletions(listing.splitlines()):
            commands.run(["iptables", "--wait", "-t", table, *command])


def own_deletions(listing: Sequence[str]) -> list[list[str]]:
    """Arguments that remove each of our rules in the output of ``iptables -S``."""
    ours = [_words(line) for line in listing if line.startswith("-A") and f'--comment "{_MARK}"' in line]
    return [["-D", *words[1:]] for words in ours]


def remove_leftover_chains() -> None:
    """Remove what kube-proxy leaves after its own clean-up, such as the kubelet's chain.

    Tables that were first used by us stay, empty: iptables can't remove them.
    """
    for program in ("iptables", "ip6tables"):
        for table in ("mangle", "nat", "filter"):
            listing = commands.attempt([program, "--wait", "-t", table, "-S"]).stdout
            for command in leftover_deletions(listing.splitlines()):
                commands.attempt([program, "--wait", "-t", table, *command])


def leftover_deletions(listing: Sequence[str]) -> list[list[str]]:
    """Arguments that remove every KUBE- chain in the output of ``iptables -S``, jumps first."""
    chains = [line.split()[1] for line in listing if line.startswith("-N KUBE-")]
    jumps = [_words(line) for line in listing if line.startswith("-A") and re.search(r"-j KUBE-", line)]
    removals = [["-D", *words[1:]] for words in jumps if not words[1].startswith("KUBE-")]
    return removals + [["-F", chain] for chain in chains] + [["-X", chain] for chain in chains]


def read_sysctls() -> dict[str, str]:
    """Present values of all settings that we or the kubelet change."""
    names = [*WANTED_SYSCTLS, *KUBELET_SYSCTLS]
    return {name: _sysctl(name).read_text().strip() for name in names if _sysctl(name).exists()}


def write_sysctls(values: Mapping[str, str]) -> None:
    """Set kernel settings; those this kernel lacks are passed over."""
    for name, value in values.items():
        path = _sysctl(name)
        if path.exists() and path.read_text().strip() != value:
            path.write_text(value)


def bridge_is_filtered() -> bool:
    """Whether the kernel can send packets between pods of one bridge through the packet filter."""
    if commands.find("modprobe") is not None:
        commands.attempt(["modprobe", "br_netfilter"])
    return _sysctl("net.bridge.bridge-nf-call-iptables").exists()


def _words(line: str) -> list[str]:
    return [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)]


def _has_rule(table: str, chain: str, match: Sequence[str]) -> bool:
    return commands.attempt(["iptables", "--wait", "-t", table, "-C", chain, *match]).returncode == 0


def _sysctl(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))
