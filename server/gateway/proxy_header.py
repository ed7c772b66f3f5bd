"""The PROXY protocol's header, versions 1 and 2, sans-I/O (HAProxy's `proxy-protocol.txt`).

A proxy that relays bytes sends it first, to name the client. The caller decides whether the proxy is trusted.
"""

import ipaddress
import struct

import msgspec

_V1_PREFIX = b"PROXY "
_V1_BYTES_MAX = 107
_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEADER_BYTES = 16
_V2_VERSION = 0x2
_V2_LOCAL, _V2_PROXY = 0x0, 0x1
_V2_INET, _V2_INET6 = 0x1, 0x2


class ProxyHeaderError(ValueError):
    """The bytes start like a PROXY header, but are malformed."""


class ProxyHeader(msgspec.Struct, frozen=True):
    """A complete PROXY header."""

    size: int
    """In bytes; the relayed bytes follow."""
    address: str | None
    """The client's address; None for a connection of the proxy itself (a health check), or an unknown client."""
    port: int


class NeedMore(msgspec.Struct, frozen=True):
    """The bytes so far may be the start of a header."""


def parse(data: bytes | bytearray) -> ProxyHeader | NeedMore | None:
    """Parse the header at the start of `data`; None if there is none. Raises `ProxyHeaderError` if it is malformed."""
    if data[:12] == _V2_SIGNATURE[: len(data)]:
        return _parse_v2(data)
    if data[:6] == _V1_PREFIX[: len(data)]:
        return _parse_v1(data)
    return None


def _parse_v1(data: bytes | bytearray) -> ProxyHeader | NeedMore:
    end = data.find(b"\r\n", 0, _V1_BYTES_MAX)
    if end < 0:
        if len(data) >= _V1_BYTES_MAX:
            raise ProxyHeaderError("version 1 header has no end")
        return NeedMore()
    fields = bytes(data[:end]).split(b" ")
    size = end + 2
    if fields[1] == b"UNKNOWN":
        return ProxyHeader(size, None, 0)
    if len(fields) != 6 or fields[1] not in (b"TCP4", b"TCP6"):
        raise ProxyHeaderError("version 1 header is not 'PROXY TCP4|TCP6 source destination port port'")
    family = ipaddress.IPv4Address if fields[1] == b"TCP4" else ipaddress.IPv6Address
    try:
        source, _ = (str(family(field.decode("ascii"))) for field in fields[2:4])
        port, _ = (_port(field) for field in fields[4:6])
    except ValueError as error:
        raise ProxyHeaderError(f"version 1 header: {error}") from None
    return ProxyHeader(size, source, port)


def _port(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 5 or int(digits) > 65535:
        raise ValueError(f"{digits!r} is not a port")
    return int(digits)


def _parse_v2(data: bytes | bytearray) -> ProxyHeader | NeedMore:
    if len(data) < _V2_HEADER_BYTES:
        return NeedMore()
    version, command = data[12] >> 4, data[12] & 0x0F
    if version != _V2_VERSION or command not in (_V2_LOCAL, _V2_PROXY):
        raise ProxyHeaderError("version 2 header has an unknown version or command")
    size = _V2_HEADER_BYTES + int.from_bytes(data[14:16], "big")
    if len(data) < size:
        return NeedMore()
    family = data[13] >> 4
    if command == _V2_LOCAL or family not in (_V2_INET, _V2_INET6):
        return ProxyHeader(size, None, 0)
    layout = struct.Struct("!4s4sHH" if family == _V2_INET else "!16s16sHH")
    if size < _V2_HEADER_BYTES + layout.size:
        raise ProxyHeaderError("version 2 header is too short for its addresses")
    source, _, port, _ = layout.unpack_from(data, _V2_HEADER_BYTES)
    return ProxyHeader(size, str(ipaddress.ip_address(source)), port)
