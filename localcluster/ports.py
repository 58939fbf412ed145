"""Finding addresses and ports nobody uses."""

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

from localcluster.errors import ClusterError

_BLOCKS = ("10.207.0.0/16", "10.219.0.0/16", "10.227.0.0/16", "10.173.0.0/16", "172.29.0.0/16", "198.18.0.0/16")

Network = ipaddress.IPv4Network


def free_port(address: str) -> int:
    """A TCP port of ``address`` that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
    return port


def free_ports(*names: str) -> dict[str, int]:
    """A port for each name, all different, free on every address of the host."""
    with ExitStack() as held:
        probes = {name: held.enter_context(socket.socket()) for name in names}
        for probe in probes.values():
            probe.bind(("", 0))
        return {name: probe.getsockname()[1] for name, probe in probes.items()}


def kept_if_free(remembered: Mapping[str, int]) -> dict[str, int]:
    """The same ports, but for those that something else has taken meanwhile."""
    fresh = free_ports(*remembered)
    return {name: port if _is_free(port) else fresh[name] for name, port in remembered.items()}


def choose_networks(taken: Iterable[Network]) -> tuple[Network, Network]:
    """Ranges for pods (/22) and services (/20) that overlap nothing in ``taken``."""
    used = list(taken)
    for block in map(Network, _BLOCKS):
        if not any(block.overlaps(network) for network in used):
            pods, services = next(block.subnets(new_prefix=22)), list(block.subnets(new_prefix=20))[1]
            return pods, services
    raise ClusterError(
        "every address range the cluster could use is routed elsewhere",
        remedy=f"leave one of {', '.join(_BLOCKS)} free",
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # A server that just ended leaves connections behind, which don't keep a new one from listening.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
