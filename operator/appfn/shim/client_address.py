"""Where a request came from, pure: behind proxies, as far as they are trusted."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

from appfn.errors import ConfigError

_HOPS = 16
"""Proxies in a row that are looked at."""
_IPV6_HOST_BITS = 64
"""Of an IPv6 address: whoever has one has all that differ in these."""


@dataclass(frozen=True, slots=True)
class Proxies:
    """The networks whose word on where a request came from is believed."""

    networks: tuple[IPv4Network | IPv6Network, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the networks of a list separated by commas.

        Raises:
            ConfigError: naming the first that is none.
        """
        networks = []
        for item in filter(None, map(str.strip, text.split(","))):
            try:
                networks.append(ip_network(item))
            except ValueError as error:
                raise ConfigError(f"APPFN_TRUSTED_PROXIES: {item!r} is not a network such as 10.0.0.0/8") from error
        return cls(tuple(networks))

    def client(self, peer: str, forwarded: str) -> str:
        """Return the address that a request came from, of an IPv6 one its network.

        Args:
            peer: who is connected.
            forwarded: X-Forwarded-For, to which each proxy adds who was connected to it. Whatever stands before the
                last address that is not a trusted proxy's, the client may have made up.
        """
        if not forwarded or not self.networks:
            return _network_of(_plain(peer)) if ":" in peer else peer
        found = _plain(peer)
        for hop in reversed(forwarded.rsplit(",", _HOPS)[-_HOPS:]):
            if not self._trusts(found) or not (address := _plain(hop.strip())):
                break
            found = address
        return _network_of(found)

    def _trusts(self, address: str) -> bool:
        return bool(address) and any(ip_address(address) in network for network in self.networks)


def _plain(text: str) -> str:
    """Return an address without a port, brackets or zone; empty where it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


def _network_of(address: str) -> str:
    if ":" not in address:
        return address
    return str(IPv6Address(int(IPv6Address(address)) >> _IPV6_HOST_BITS << _IPV6_HOST_BITS))
