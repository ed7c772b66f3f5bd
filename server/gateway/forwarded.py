"""The client's address behind trusted proxies, from the header that they set.

A forwarded header is a list that grows to the right: each proxy appends the address that it got the request from. A
client can invent everything to the left of what the first trusted proxy appended. So the list is read from the right,
and only as long as the addresses are those of trusted proxies.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence

from server.networks import is_ipv4, parse_address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 7239: `for=` with a token or a quoted string; an IPv6 address is in brackets, a port may follow.
_forwarded_for = re.compile(r'(?:^|;)\s*for\s*=\s*("?)([^";,\s]+)\1\s*(?:;|$)', re.IGNORECASE)
_with_port = re.compile(r"\[([^\]]+)\](?::\d+)?|([^:]+):\d+")


class TrustedProxies:
    """The addresses and networks whose PROXY header and forwarded header name the client."""

    def __init__(self, networks: Iterable[str], header: str) -> None:
        """`header` is in lower case. Raises `ValueError` for a text that is neither an address nor a network."""
        self._networks: list[Network] = [ipaddress.ip_network(network) for network in networks]
        self.header = header

    def trusts(self, address: str) -> bool:
        """Whether this is the address of a trusted proxy."""
        if not self._networks:
            return False
        try:
            parsed = parse_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def find_client(self, address: str, values: Sequence[str]) -> str:
        """Return the client's address; `values` are those of the forwarded header, in order.

        `address` is the one that the connection comes from.
        """
        hops = [hop for value in values for hop in value.split(",")]
        while hops and self.trusts(address):
            hop = self._hop(hops.pop())
            if hop is None:  # hidden on purpose, or malformed: the last proxy is all that is known
                break
            address = hop
        return address

    def _hop(self, text: str) -> str | None:
        if self.header == "forwarded":
            match = _forwarded_for.search(text)
            if match is None:
                return None
            text = match[2]
        return normalize_address(text.strip())


def normalize_address(text: str) -> str | None:
    """Return an address without port, brackets and scope id, an IPv4-mapped one as IPv4; None for other texts."""
    if is_ipv4(text):
        return text
    if (match := _with_port.fullmatch(text)) is not None:
        text = match[1] or match[2]
    try:
        return str(parse_address(text))
    except ValueError:
        return None
