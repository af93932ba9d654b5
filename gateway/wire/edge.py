"""What the data listener believes of its peers, and what it tells them."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

Network = IPv4Network | IPv6Network
_ORIGIN: Final = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^\s/?#@A-Z]+")


@dataclass(frozen=True, slots=True)
class Edge:
    """`trusted_proxies` are the peers whose `Forwarded` and `X-Forwarded-*` are passed on; none are by default.

    `gateway_headers` says whether answers may carry `x-gateway-*`; pages of the `cors_origins` may ask, `*` being all.
    """

    trusted_proxies: tuple[Network, ...] = ()
    gateway_headers: bool = True
    cors_origins: frozenset[bytes] = frozenset()

    def trusts(self, peer: str) -> bool:
        """Whether a peer, by its address, is one of the trusted proxies."""
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        # A socket for both families shows IPv4 peers as ::ffff:192.0.2.1.
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self.trusted_proxies)


def networks(text: str) -> tuple[Network, ...]:
    """Read a list of addresses and networks, separated by commas; raises ValueError with what is wrong."""
    return tuple(ip_network(each.strip()) for each in text.split(",") if each.strip())


def origins(text: str) -> frozenset[bytes]:
    """Read a list of origins, separated by commas; raises ValueError for what no browser ever sends as one."""
    given = [each.strip() for each in text.split(",") if each.strip()]
    for each in given:
        if not _ORIGIN.fullmatch(each):
            raise ValueError(
                f"`{each}` is not an origin: write scheme, host and perhaps a port, as https://chat.example"
            )
    return frozenset(each.encode() for each in given)
