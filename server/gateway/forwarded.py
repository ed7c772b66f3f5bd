"""Whose request a proxy has passed on: the configured proxies, and the header in which they say it.

A forwarded header is a list that grows to the right: each proxy appends whom it got the request from, and
everything left of what the first believed proxy wrote can be invented by the client. So it is read from the
right, over believed addresses only.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 7239: `for=` with a token or a quoted string; an address of IPv6 stands in brackets, a port may follow.
_forwarded_for = re.compile(r'(?:^|;)\s*for\s*=\s*("?)([^";,\s]+)\1\s*(?:;|$)', re.IGNORECASE)
_with_port = re.compile(r"\[([^\]]+)\](?::\d+)?|([^:]+):\d+")


class TrustedProxies:
    """The addresses and networks from which a PROXY or forwarded header is believed."""

    def __init__(self, networks: Iterable[str], header: str = "x-forwarded-for") -> None:
        """Raise `ValueError` for what is neither an address nor a network. `header` is in lower case."""
        self._networks: list[Network] = [ipaddress.ip_network(network) for network in networks]
        self.header = header

    def trusts(self, address: str) -> bool:
        """Whether what comes from this address is believed."""
        if not self._networks:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def client(self, address: str, values: Sequence[str]) -> str:
        """Return the client's address, given who connected and the values of the forwarded header, in order."""
        hops = [hop for value in values for hop in value.split(",")]
        while hops and self.trusts(address):
            hop = self._hop(hops.pop())
            if hop is None:  # hidden on purpose, or nonsense: who passed it on is all we know
                break
            address = hop
        return address

    def _hop(self, text: str) -> str | None:
        if self.header == "forwarded":
            match = _forwarded_for.search(text)
            if match is None:
                return None
            text = match[2]
        return normal_address(text.strip())


def normal_address(text: str) -> str | None:
    """Return an address without port and brackets, an IPv4 one in IPv6 clothes as IPv4; None if it is none."""
    if (match := _with_port.fullmatch(text)) is not None:
        text = match[1] or match[2]
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(parsed)
