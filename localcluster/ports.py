"""Finding addresses and ports nobody uses."""

import ipaddress
import socket
from collections.abc import Iterable
from contextlib import ExitStack

from localcluster.errors import ClusterError

_SECOND_OCTETS = (207, 219, 227, 233, 181, 173, 167, 157, 149, 139, 131, 113)

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


def choose_networks(taken: Iterable[Network]) -> tuple[Network, Network]:
    """Ranges for pods (/22) and services (/20) that overlap nothing in ``taken``."""
    used = list(taken)
    for octet in _SECOND_OCTETS:
        block = Network(f"10.{octet}.0.0/16")
        if not any(block.overlaps(network) for network in used):
            return Network(f"10.{octet}.0.0/22"), Network(f"10.{octet}.16.0/20")
    raise ClusterError(
        "every address range the cluster could use is routed elsewhere",
        remedy="leave one of 10.207.0.0/16, 10.219.0.0/16 or 10.227.0.0/16 free",
    )
