"""Addresses of clients: one form for each, what counts as one client, and what as one neighbourhood."""

from __future__ import annotations

import ipaddress
import re

_octet = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_ipv4 = re.compile(rf"{_octet}(?:\.{_octet}){{3}}")


def is_ipv4(text: str) -> bool:
    """Whether this is an IPv4 address, which has one form only. Much faster than to parse it."""
    return _ipv4.fullmatch(text) is not None


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an address without its scope id (`%eth0`), an IPv4-mapped one as IPv4. Raises ValueError for other texts."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def network_of(address: str) -> str:
    """Return what limits count as one client: an IPv4 address, or a /64 network, of which a subscriber has all of IPv6.

    A text that is no address, such as the name of a local socket, is returned as it is.
    """
    if is_ipv4(address):
        return address
    try:
        parsed = parse_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((parsed, 64), strict=False))
    return str(parsed)


def neighbourhood_of(address: str) -> str:
    """Return the network that one site or a small provider gets: a /24 in IPv4, a /48 in IPv6; other texts as they are.

    Somebody who may use many addresses has them in few of these. What `network_of` returns is taken, too.
    """
    try:
        parsed = parse_address(address.removesuffix("/64"))
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))
